"""Generate db/_sync and cache/_sync from db/_async and cache/_async, token by token.

Run it after every change of the source. With --check it changes nothing, and exits with 1 if a generated file is stale.
Comments and docstrings are copied without changes.
"""

from __future__ import annotations

import argparse
import io
import re
import subprocess
import sys
import tokenize
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("cache", "db")
HEADER = "# Generated from {source} by scripts/generate_sync.py; edit that, not this.\n"

# Names that are not covered by a rule in `_sync_name`.
NAMES = {
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "__aiter__": "__iter__",
    "__anext__": "__next__",
    "aclose": "close",
    "asynccontextmanager": "contextmanager",
    "_async": "_sync",
    "StopAsyncIteration": "StopIteration",
}
# Dotted paths that differ in more than a name.
PATHS = {
    "redis.asyncio": "redis",
    "psycopg_pool.pool_async": "psycopg_pool.pool",
    "from asyncio import sleep": "from time import sleep",
    "waiting.wait_async": "waiting.wait",
}
# A sync callable returns the value itself. The pattern supports one level of nested brackets.
_AWAITABLE = re.compile(r"\bAwaitable\[((?:[^\[\]]|\[[^\[\]]*\])*)\]")
# Not `python -m ruff`: see ops/entity/generate.py.
_RUFF = Path(sys.executable).with_name("ruff")
LINE_LENGTH = "--line-length=110"
# The packages are named, because ruff would detect them by files that may not have been generated yet.
_IMPORTS = ["check", "--select=I,F401", "--fix-only", "--config=lint.isort.known-first-party=['cache','db']"]
_DROPPED = {"async", "await"}


def to_sync(source: str) -> str:
    """Convert async Python source to sync source: remove `async`, `await` and the prefix of Async* names."""
    pieces: list[str] = []
    row, column = 1, 0
    lines = source.splitlines(keepends=True)
    skip_blank = False
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.ENDMARKER:
            break
        start_row, start_column = token.start
        if start_row > row:
            pieces.append(lines[row - 1][column:])
            pieces.extend(lines[row : start_row - 1])
            column = 0
        gap = lines[start_row - 1][column:start_column] if start_row <= len(lines) else ""
        pieces.append("" if skip_blank else gap)
        skip_blank = False
        if token.type == tokenize.NAME and token.string in _DROPPED:
            skip_blank = True
        elif token.type == tokenize.NAME:
            pieces.append(_sync_name(token.string))
        else:
            pieces.append(token.string)
        row, column = token.end
    text = "".join(pieces)
    for path, replacement in PATHS.items():
        text = text.replace(path, replacement)
    return _AWAITABLE.sub(r"\1", text)


def _sync_name(name: str) -> str:
    if name in NAMES:
        return NAMES[name]
    if re.match(r"_?Async[A-Z]", name):
        return name.replace("Async", "", 1)
    return name.removeprefix("async_")


def generated() -> dict[Path, str]:
    """Return the formatted text of every generated file, by path."""
    files: dict[Path, str] = {}
    for package in PACKAGES:
        for source in sorted((ROOT / package / "_async").glob("*.py")):
            relative = source.relative_to(ROOT)
            target = ROOT / package / "_sync" / source.name
            text = HEADER.format(source=relative.as_posix()) + to_sync(source.read_text(encoding="utf-8"))
            files[target] = _formatted(text, target)
    return files


def _formatted(text: str, path: Path) -> str:
    for arguments in (_IMPORTS, ["format"]):
        command = [*arguments, "--quiet", LINE_LENGTH, f"--stdin-filename={path}", "-"]
        text = subprocess.run(
            [_RUFF, *command],
            input=text, capture_output=True, text=True, check=True, cwd=ROOT,
        ).stdout  # fmt: skip
    return text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="change nothing, and exit with 1 if a file is stale"
    )
    check = parser.parse_args().check
    wanted = generated()
    present = {path for package in PACKAGES for path in (ROOT / package / "_sync").glob("*.py")}
    stale = [
        path
        for path, text in wanted.items()
        if path not in present or path.read_text(encoding="utf-8") != text
    ]
    leftover = sorted(present - wanted.keys())
    for path in [*stale, *leftover]:
        print(f"{path.relative_to(ROOT)}: {'is stale' if path in wanted else 'has no source'}")
    if check:
        if stale or leftover:
            print("run `python scripts/generate_sync.py`", file=sys.stderr)
        return 1 if stale or leftover else 0
    for path in stale:
        path.parent.mkdir(exist_ok=True)
        path.write_text(wanted[path], encoding="utf-8")
    for path in leftover:
        path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
