"""The backend with a checkout's stacks: a folder of this machine, or the S3 bucket in GROUNDWORK_BACKEND."""

from __future__ import annotations

from dataclasses import dataclass

from infra.spec.checkout import STATE_VARIABLE, Checkout
from infra.spec.variables import variable
from ops.errors import Exit, OpsError

URL = "GROUNDWORK_BACKEND"
SECRETS_PROVIDER = "GROUNDWORK_SECRETS_PROVIDER"
# Other schemes that Pulumi accepts are not tested with groundwork.
_SCHEMES = ("s3://",)
_PROVIDERS = ("awskms://",)


@dataclass(frozen=True)
class StateBackend:
    """Pulumi's backend `url`, and the `secrets_provider` of new stacks (empty for the checkout's passphrase)."""

    url: str
    secrets_provider: str
    is_local: bool

    @classmethod
    def of(cls, checkout: Checkout) -> StateBackend:
        """Read the environment. Raise OpsError (2) for an untested backend, or one that needs a secrets provider."""
        url, provider = variable(URL) or "", variable(SECRETS_PROVIDER) or ""
        if provider and not provider.startswith(_PROVIDERS):
            raise OpsError(
                f"{SECRETS_PROVIDER} must begin with {_PROVIDERS[0]}; set it to a KMS key", Exit.USAGE
            )
        if not url:
            if unusable := set("%#?") & set(str(checkout.backend_dir)):
                raise OpsError(
                    f"the state folder {checkout.state_dir.parent} has {min(unusable)} in its path, which Pulumi cannot"
                    f" read; set {STATE_VARIABLE} to another folder",
                    Exit.USAGE,
                )
            # metadata=skip, because Pulumi does not write the metadata file atomically, and an empty one after a kill
            # makes an intact state unreadable.
            return cls(f"file://{checkout.backend_dir}?metadata=skip", provider, True)
        if not url.startswith(_SCHEMES):
            raise OpsError(f"{URL} must begin with {_SCHEMES[0]}; set it to an S3 bucket", Exit.USAGE)
        if not provider:
            raise OpsError(
                f"{URL} is set but {SECRETS_PROVIDER} is not, so that only this machine would have the passphrase of"
                " the secrets; set it to awskms://...",
                Exit.USAGE,
            )
        return cls(url, provider, False)
