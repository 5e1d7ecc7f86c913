"""`groundwork prune`: delete old images, build contexts and versions of the toolchain."""

from __future__ import annotations

import click

from ops.output import print_json, print_line


@click.command()
@click.option("--yes", is_flag=True, help="Delete what is unused")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object")
def prune(yes: bool, as_json: bool) -> None:
    """Show unused images and tools; --yes deletes them

    The newest two of each kind are kept, and so is everything that a container, a process or a stack of this state
    folder's checkouts uses. Stacks of other users and state folders are not known: their next `up` creates again what
    they miss. Data, backups and secrets are never deleted.
    """
    from infra.spec.checkout import Checkout
    from ops.errors import OpsError
    from ops.toolchain.prune import delete, find_items

    checkout = Checkout.here()
    items = find_items(checkout, lambda line: print_line(line, err=True))
    # The reason of each item that could not be deleted, by its position.
    failed: dict[int, str] = {}
    freed = 0
    for n, item in enumerate(items):
        if item.kept_because:
            continue
        reason = delete(checkout, item) if yes else None
        if reason:
            failed[n] = reason
        else:
            freed += item.bytes
    if as_json:
        rows = [
            item.as_json()
            | {
                "deleted": yes and not item.kept_because and n not in failed,
                "notDeletedBecause": failed.get(n),
            }
            for n, item in enumerate(items)
        ]
        print_json({"items": rows, "bytes": freed, "deleted": yes and not failed})
    else:
        for n, item in enumerate(items):
            if item.kept_because:
                outcome = f"kept: {item.kept_because}"
            elif n in failed:
                outcome = f"not deleted: {failed[n]}"
            else:
                outcome = "deleted" if yes else "can be deleted"
            print_line(f"{item.kind:<16}{item.name:<52}{item.bytes / 1e6:>8.1f} MB  {outcome}")
        last = "freed" if yes else "can be freed; `groundwork prune --yes` deletes it"
        print_line(f"{freed / 1e6:.1f} MB {last}" if freed or yes else "nothing to delete")
    if failed:
        for n, reason in failed.items():
            print_line(f"{items[n].kind} {items[n].name}: {reason}", err=True)
        raise OpsError(f"cannot delete {len(failed)} items, for the reasons above")
