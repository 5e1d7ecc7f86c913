"""`groundwork tokens`: the keys that encrypt users' tokens."""

from __future__ import annotations

import sys

import click


@click.group()
def tokens() -> None:
    """Keys of users' encrypted tokens."""


@tokens.command()
@click.option("--url", help="The database; without it DATABASE_URL, or else the stack's.")
@click.option("--stack", default="dev", show_default=True, help="The stack, where no URL is given.")
@click.option(
    "--batch-size", default=500, show_default=True, type=click.IntRange(1, 10_000), help="Users at a time."
)
def rotate(url: str | None, stack: str, batch_size: int) -> None:
    """Bring every token under the first key. Online; one that was ended goes on where tokens are left."""
    from ops.token_rotation import rotate_tokens, token_keys

    done = rotate_tokens(
        url, stack, token_keys(stack), batch_size, progress=lambda line: print(line, flush=True)
    )
    for problem in done.unreadable[:20]:
        print(f"groundwork: {problem}", file=sys.stderr)
    if done.unreadable:
        print(
            f"groundwork: {len(done.unreadable)} tokens could not be read and stay as they are;"
            " keep the old keys, or add the missing one",
            file=sys.stderr,
        )
        sys.exit(1)
    print(
        f"{done.rotated} of {done.users} users with tokens brought under key {done.key!r}; older keys may go"
    )
