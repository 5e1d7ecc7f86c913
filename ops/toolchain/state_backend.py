"""Where Pulumi keeps a checkout's stacks: a folder of this machine, or the S3 bucket that GROUNDWORK_BACKEND names.

Knows how Pulumi is told; what is in a state is others' affair.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from infra.spec.world import World
from ops.errors import Exit, OpsError

URL = "GROUNDWORK_BACKEND"
SECRETS_PROVIDER = "GROUNDWORK_SECRETS_PROVIDER"
# Whatever else Pulumi takes has not been tried with it.
_SCHEMES = ("s3://",)
_PROVIDERS = ("awskms://",)


@dataclass(frozen=True)
class StateBackend:
    """`url` as Pulumi takes it; `secrets_provider` encrypts a new stack's secrets, empty: the checkout's passphrase."""

    url: str
    secrets_provider: str
    is_local: bool

    @classmethod
    def of(cls, world: World) -> StateBackend:
        """By the environment. OpsError (2) for one that was never tried, or whose secrets nobody else could read."""
        url, provider = os.environ.get(URL, ""), os.environ.get(SECRETS_PROVIDER, "")
        if provider and not provider.startswith(_PROVIDERS):
            raise OpsError(f"{SECRETS_PROVIDER} has to begin with {_PROVIDERS[0]}", Exit.USAGE)
        if not url:
            # Without the file of attributes beside each state: Pulumi does not write it whole or not at all, and
            # an empty one, after a kill, keeps it from reading a state that is fine.
            return cls(f"file://{world.backend_dir}?metadata=skip", provider, True)
        if not url.startswith(_SCHEMES):
            raise OpsError(f"{URL} has to begin with {_SCHEMES[0]}", Exit.USAGE)
        if not provider:
            raise OpsError(
                f"{URL} is set and {SECRETS_PROVIDER} is not: secrets would be encrypted with a passphrase that"
                " this machine alone has; set it to awskms://...",
                Exit.USAGE,
            )
        return cls(url, provider, False)
