"""`groundwork tokens`: rotate the keys that encrypt users' tokens."""

from __future__ import annotations

import click

from ops.commands.names import stack_option
from ops.number_range import IntegerRange
from ops.output import print_json, print_line


@click.group()
def tokens() -> None:
    """Manage the keys of users' encrypted tokens"""


@tokens.command()
@click.option("--url", help="Database URL [default: DATABASE_URL, then the stack's]")
@stack_option("Stack to use if no URL is given")
@click.option(
    "--batch-size", default=500, show_default=True, type=IntegerRange(1, 10_000), help="Users per batch"
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object")
def rotate(url: str | None, stack: str, batch_size: int, as_json: bool) -> None:
    """Re-encrypt every token with the first key

    Runs while the application is in use. After an interruption, a second run does the remaining tokens.
    """
    from ops.errors import OpsError
    from ops.rotation.tokens import rotate_tokens, token_keys

    done = rotate_tokens(
        url,
        stack,
        token_keys(url, stack),
        batch_size,
        progress=lambda line: print_line(line, err=True),
    )
    if as_json:
        print_json(
                {
                    "key": done.key, "users": done.users, "changed": done.rotated,
                    "unreadable": len(done.unreadable), "complete": done.is_complete and not done.unreadable,
                })  # fmt: skip
    for problem in done.unreadable:
        print_line(f"groundwork: {problem}", err=True)
    if done.unreadable:
        raise OpsError(
            f"{len(done.unreadable)} tokens cannot be decrypted and were left unchanged; keep the old keys, add the"
            " missing key's value to GROUNDWORK_TOKEN_KEYS (its id in groundwork:tokenKeys would make a new key), or"
            " ask those users to sign in again"
        )
    if not done.is_complete:
        raise OpsError(
            f"a program still encrypts tokens with another key than {done.key!r};"
            " give every program the new keys, and run this command again"
        )
    if not as_json:
        done_line = (
            f"{done.users} users have tokens, all encrypted with key {done.key!r} ({done.rotated} changed)"
        )
        print_line(f"{done_line}; {done.advice}" if done.advice else done_line)
