"""`groundwork tokens`: the keys that encrypt users' tokens."""

from __future__ import annotations

import json
import sys

import click

from ops.commands.names import stack_option


@click.group()
def tokens() -> None:
    """Keys of users' encrypted tokens."""


@tokens.command()
@click.option("--url", help="The database; without it DATABASE_URL, or else the stack's.")
@stack_option("The stack, where no URL is given.")
@click.option(
    "--batch-size", default=500, show_default=True, type=click.IntRange(1, 10_000), help="Users at a time."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def rotate(url: str | None, stack: str, batch_size: int, as_json: bool) -> None:
    """Bring every token under the first key. Online; one that was ended goes on where tokens are left."""
    from ops.errors import OpsError
    from ops.token_rotation import rotate_tokens, token_keys

    done = rotate_tokens(
        url,
        stack,
        token_keys(stack),
        batch_size,
        progress=lambda line: print(line, file=sys.stderr, flush=True),
    )
    if as_json:
        print(
            json.dumps(
                {
                    "key": done.key, "users": done.users, "changed": done.rotated,
                    "unreadable": len(done.unreadable), "complete": done.is_complete and not done.unreadable,
                },
                indent=2,
            )
        )  # fmt: skip
    for problem in done.unreadable:
        print(f"groundwork: {problem}", file=sys.stderr)
    if done.unreadable:
        raise OpsError(
            f"{len(done.unreadable)} tokens do not open and stay as they are;"
            " keep the old keys, add the missing one, or have those users sign in again"
        )
    if not done.is_complete:
        raise OpsError(
            f"tokens are still being written under an older key than {done.key!r};"
            " give every program the new keys, and run this again"
        )
    if not as_json:
        print(
            f"{done.users} users have tokens, all under key {done.key!r} ({done.rotated} changed);"
            " older keys may go"
        )
