"""The text of statements as commands show it."""

from __future__ import annotations

from functools import lru_cache

from db.migrator.script import tokens


@lru_cache(maxsize=2048)
def without_literals(query: str) -> str:
    """Return a statement on one line, without comments, and with ? for each literal, which may be a secret.

    pg_stat_activity has the whole text of statements that are not prepared, such as those of psql.
    pg_stat_statements has the literals of DDL.
    """
    parts = []
    after_dollar = False
    for kind, text, _ in tokens(query):
        if kind == "blank":
            text = " "
        elif (kind == "literal" and not text.startswith('"')) or (kind == "number" and not after_dollar):
            text = "?"
        after_dollar = text == "$"
        parts.append(text)
    return " ".join("".join(parts).split())
