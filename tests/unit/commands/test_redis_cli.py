"""`groundwork redis-cli --service`: the server that it connects to."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ops.commands import container_tools
from ops.errors import Exit, OpsError
from ops.servers import redis_primary
from ops.stack import connections

SERVERS = "rediss://ops:secret@localhost:1,localhost:2,localhost:3/0"
PRIMARY = "rediss://ops:secret@localhost:2/0"


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str]]:
    """Return the commands that were run. `redis-2` is the primary."""
    found: list[Sequence[str]] = []
    monkeypatch.setenv("REDISCLI_AUTH", "")
    monkeypatch.setattr(container_tools, "_rows", lambda _: [])
    monkeypatch.setattr(container_tools, "_running", lambda _, service: f"gw-{service}")
    monkeypatch.setattr(container_tools, "_become", found.append)
    monkeypatch.setattr(connections, "environment_of", lambda *_: {"REDIS_URL": SERVERS})
    monkeypatch.setattr(redis_primary, "primary_url", lambda *_: PRIMARY)
    return found


@pytest.mark.parametrize(
    ("options", "container"), [([], "gw-redis-2"), (["--service", "redis-3"], "gw-redis-3")]
)
def test_a_server_of_redis_can_be_chosen(
    ran: list[Sequence[str]], options: list[str], container: str
) -> None:
    container_tools.redis_cli.main([*options, "CLIENT", "KILL", "USER", "app"], standalone_mode=False)
    (command,) = ran
    assert container in command
    assert [*command[-4:]] == ["CLIENT", "KILL", "USER", "app"]


def test_an_unknown_server_of_redis_is_refused(ran: list[Sequence[str]]) -> None:
    with pytest.raises(OpsError, match="choose one of redis, redis-2, redis-3") as raised:
        container_tools.redis_cli.main(["--service", "sentinel-1"], standalone_mode=False)
    assert raised.value.exit_code == Exit.USAGE
    assert not ran
