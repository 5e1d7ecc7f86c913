"""A Pulumi resource that checks the parameters of Postgres with the server's own parser, before a server gets them.

Postgres does not start with a wrong parameter, and Patroni ignores one. Only Postgres knows every name, unit and range.
"""

from __future__ import annotations

import re
from typing import Any

import pulumi
from pulumi import dynamic

from infra.docker.engine import docker
from infra.dynamic import Provider
from infra.settings import StackSettings
from infra.settings.declaration import full
from infra.spec.errors import SettingError

_FAILED = "the configuration is invalid"
# With -C Postgres reads its configuration, prints a parameter, and exits. It needs no data.
_PARSE = f"""\
cat > /tmp/postgresql.conf
postgres -C port -D /tmp -c config_file=/tmp/postgresql.conf 2>&1 || echo '{_FAILED}'"""
_REASON = re.compile(r"(?:LOG|FATAL|HINT):\s+(.*)")
# Messages about files that a check does not have, and the summary at the end.
_OTHER = re.compile(r"skipping missing configuration file|configuration file .* contains errors")
_PLACE = re.compile(r' in file "[^"]*" line \d+')


class CheckedParametersProvider(Provider):
    """Checks the configuration with the image's Postgres when one of them has changed. It has no object in Docker."""

    def create(self, props: dict[str, Any]) -> dynamic.CreateResult:
        check(props["image"], props["configuration"])
        return dynamic.CreateResult(id_="postgres-parameters", outs=dict(props))

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> dynamic.UpdateResult:
        check(_news["image"], _news["configuration"])
        return dynamic.UpdateResult(outs=dict(_news))


class CheckedParameters(dynamic.Resource, module="docker", name="CheckedParameters"):
    """The check of a `postgresql.conf`. What depends on it is not changed if Postgres would not start with it."""

    def __init__(
        self,
        image: pulumi.Input[str],
        configuration: str,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        props = {"image": image, "configuration": configuration}
        super().__init__(CheckedParametersProvider(), "postgres-parameters", props, opts)


def check_parameters(
    settings: StackSettings, image: pulumi.Input[str], configuration: str, opts: pulumi.ResourceOptions
) -> list[pulumi.Resource]:
    """Return the check of a stack's parameters. groundwork's own parameters need none."""
    return [CheckedParameters(image, configuration, opts)] if settings.postgres_parameters else []


def check(image: str, configuration: str) -> None:
    """Raise SettingError if Postgres would not start with this `postgresql.conf`."""
    said = docker(
        *("run", "--rm", "--interactive", "--init", "--network=none", "--read-only", "--tmpfs=/tmp"),
        *("--entrypoint=sh", image, "-c", _PARSE),
        stdin=configuration.encode(),
    )
    if _FAILED not in said.splitlines():
        return
    reasons = [match[1] for match in map(_REASON.search, said.splitlines()) if match]
    reasons = [_PLACE.sub("", each).rstrip(".") for each in reasons if not _OTHER.search(each)]
    raise SettingError(
        full("postgresParameters"), ". ".join(reasons) or said.strip(), "correct or remove the parameter"
    )
