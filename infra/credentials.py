"""Resources for the secrets that the program creates: passwords, the certificate authority, server certificates.

Each secret is created once, stored encrypted in Pulumi's state, and passed on as a secret output.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi import dynamic

from infra.dynamic import Provider
from infra.spec.roles import scram_verifier
from infra.spec.rotation import AUTHORITY, CERTIFICATES, Rotation

PASSWORD_BYTES = 32


class PasswordProvider(Provider):
    """Creates a password of 256 random bits as URL-safe text, and the salt of its SCRAM verifier."""

    def create(self, props: dict[str, Any]) -> dynamic.CreateResult:
        return dynamic.CreateResult(
            id_=secrets.token_hex(8),
            outs={
                **props,
                "value": secrets.token_urlsafe(PASSWORD_BYTES),
                "salt": secrets.token_hex(16),
            },
        )


class Password(dynamic.Resource):
    """A generated password: `value`, and `verifier` in the form that pg_authid stores. Both are secret."""

    value: pulumi.Output[str]
    salt: pulumi.Output[str]

    def __init__(self, name: str, opts: pulumi.ResourceOptions | None = None) -> None:
        opts = pulumi.ResourceOptions.merge(
            opts, pulumi.ResourceOptions(additional_secret_outputs=["value", "salt"])
        )
        super().__init__(PasswordProvider(), name, {"value": None, "salt": None}, opts)

    @property
    def verifier(self) -> pulumi.Output[str]:
        return pulumi.Output.all(self.value, self.salt).apply(
            lambda pair: scram_verifier(pair[0], bytes.fromhex(pair[1]))
        )


class AuthorityProvider(Provider):
    """Creates a self-signed authority."""

    def create(self, props: dict[str, Any]) -> dynamic.CreateResult:
        from infra import certificates

        pair = certificates.make_authority(props["common_name"])
        outs = {
            **props,
            "certificate": pair.certificate,
            "private_key": pair.private_key,
        }
        return dynamic.CreateResult(id_=props["common_name"], outs=outs)


class Authority(dynamic.Resource):
    """The stack's certificate authority: `certificate` (public) and `private_key` (secret), PEM."""

    certificate: pulumi.Output[str]
    private_key: pulumi.Output[str]

    def __init__(self, name: str, common_name: str, opts: pulumi.ResourceOptions | None = None) -> None:
        opts = pulumi.ResourceOptions.merge(
            opts, pulumi.ResourceOptions(additional_secret_outputs=["private_key"])
        )
        props = {"common_name": common_name, "certificate": None, "private_key": None}
        super().__init__(AuthorityProvider(), name, props, opts)


@dataclass(frozen=True)
class Trust:
    """The authority that signs server certificates, the authorities that clients trust (PEM, one or two) with their
    generations, and the generation of the server certificates."""

    signer: Authority
    bundle: pulumi.Output[str]
    accepted: tuple[int, ...]
    generation: int

    @classmethod
    def make(cls, common_name: str, rotation: Rotation) -> Trust:
        """Create the authorities that a rotation accepts. Clients distinguish them by their common names."""
        authorities = {
            number: Authority(
                "authority" if number == 1 else f"authority-{number}",
                common_name if number == 1 else f"{common_name} {number}",
            )
            for number in rotation.of(AUTHORITY).accepted
        }
        bundle: pulumi.Output[str] = pulumi.Output.all(*(a.certificate for a in authorities.values())).apply(
            "".join
        )
        signer = authorities[rotation.of(AUTHORITY).in_use]
        return cls(signer, bundle, tuple(authorities), rotation.of(CERTIFICATES).in_use)


class ServerCertificateProvider(Provider):
    """Signs a server certificate. Replaces it when its names, authority or generation change, and before it expires."""

    def create(self, props: dict[str, Any]) -> dynamic.CreateResult:
        return dynamic.CreateResult(id_=props["names"][0], outs=self._signed(props))

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> dynamic.UpdateResult:
        return dynamic.UpdateResult(outs=self._signed(_news))

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> dynamic.DiffResult:
        from infra import certificates

        result = super().diff(_id, _olds, _news)
        if not result.changes and certificates.needs_renewal(_olds["certificate"]):
            return dynamic.DiffResult(changes=True)
        return result

    @staticmethod
    def _signed(props: dict[str, Any]) -> dict[str, Any]:
        from infra import certificates

        authority = certificates.KeyPair(props["ca_certificate"], props["ca_private_key"])
        pair = certificates.make_server_certificate(
            authority, props["names"], for_clients=bool(props.get("for_clients"))
        )
        return {
            **props,
            "certificate": pair.certificate,
            "private_key": pair.private_key,
        }


class ServerCertificate(dynamic.Resource):
    """A server certificate for the given host names and addresses, PEM. `private_key` is secret.

    With `for_clients` the server can present it as a client too, as the members of a cluster do.
    """

    certificate: pulumi.Output[str]
    private_key: pulumi.Output[str]

    def __init__(
        self,
        name: str,
        trust: Trust,
        names: Sequence[str],
        opts: pulumi.ResourceOptions | None = None,
        *,
        for_clients: bool = False,
    ) -> None:
        opts = pulumi.ResourceOptions.merge(
            opts,
            pulumi.ResourceOptions(additional_secret_outputs=["private_key", "ca_private_key"]),
        )
        props = {
            "names": list(names),
            "ca_certificate": trust.signer.certificate,
            "ca_private_key": trust.signer.private_key,
            "generation": trust.generation,
            "certificate": None,
            "private_key": None,
            **({"for_clients": True} if for_clients else {}),
        }
        super().__init__(ServerCertificateProvider(), name, props, opts)
