"""The checkout's passphrase for Pulumi's secrets: created once, and readable only by its owner."""

from __future__ import annotations

import secrets

from infra.atomic_write import create
from infra.spec.checkout import Checkout
from infra.state_folder import make_private
from ops.errors import OpsError


def ensure(checkout: Checkout) -> None:
    """Create the passphrase file if it does not exist. Raise OpsError if existing stacks need a lost one."""
    make_private(checkout, checkout.state_dir)
    require(checkout)
    if not checkout.passphrase_file.exists():
        create(checkout.passphrase_file, secrets.token_urlsafe(32) + "\n")


def require(checkout: Checkout) -> None:
    """Raise OpsError if the passphrase file does not exist although stacks need it."""
    path = checkout.passphrase_file
    if not path.exists() and any((checkout.backend_dir / ".pulumi" / "stacks").glob("*/*.json")):
        raise OpsError(
            f"{path} is missing, and the stacks in {checkout.backend_dir} cannot be decrypted without it; restore it"
            f" from a backup. Without one, move {checkout.state_dir} away, and take each stack over with its data:"
            " `groundwork adopt --stack NAME` (docs/toolchain.md)"
        )
