"""The users that only servers and Sentinels log in as may run their own commands, and no others."""

from __future__ import annotations

import json
from collections.abc import Sequence

from infra.docker.engine import docker
from infra.spec import redis_acl
from infra.spec.redis_acl import RedisUser
from tests.integration.redis.conftest import allowlist
from tests.promises import promise
from tests.redis_group import Group


def _ask(container: str, password: str, port: int, lines: list[str]) -> list[str]:
    """Run commands as the administrator, and return a line of JSON for each answer."""
    script = f"cd /etc/groundwork; redis-cli -p {port} --tls --cacert ca.crt --json -3"
    words = "\n".join([f"AUTH administrator {password}", *lines])
    answers = docker("exec", "--interactive", container, "sh", "-c", script, stdin=words.encode())
    return [line for line in answers.splitlines() if line][1:]


def _commands(container: str, password: str, port: int) -> dict[str, int]:
    """Return all commands and subcommands with the minimum number of words."""
    (answer,) = _ask(container, password, port, ["COMMAND"])
    found: dict[str, int] = {}
    for name, arity, *rest in json.loads(answer):
        subcommands = {sub[0]: abs(sub[1]) for sub in rest[7]}
        found |= subcommands if subcommands and abs(arity) > 1 else {name: abs(arity)} | subcommands
    return found


def _differences(container: str, password: str, port: int, users: Sequence[RedisUser]) -> dict[str, set[str]]:
    """Return the commands, by user, about which the server and the specification disagree."""
    commands = _commands(container, password, port)
    found = {}
    for user in users:
        lines = []
        for name, count in commands.items():
            parts = name.split("|")
            lines.append(" ".join(["ACL", "DRYRUN", user.name, *parts, *["x"] * (count - len(parts))]))
        answers = _ask(container, password, port, lines)
        refused = "has no permissions to run the"
        allowed = {name for name, answer in zip(commands, answers, strict=True) if refused not in answer}
        # A Sentinel has no RESET and no QUIT.
        found[user.name] = allowed ^ (allowlist(user, commands) & set(commands))
    return found


@promise("the users of Redis servers and Sentinels may run only their own commands")
def test_a_server_allows_each_user_its_own_commands(group: Group) -> None:
    server, users = group.servers[group.primary()], redis_acl.REPLICATED_USERS
    found = _differences(server.container, server.passwords["administrator"], 6379, users)
    assert found == {user.name: set() for user in users}


@promise("the users of Redis servers and Sentinels may run only their own commands")
def test_a_sentinel_allows_each_user_its_own_commands(group: Group) -> None:
    password, users = group.servers[0].passwords["administrator"], redis_acl.SENTINEL_USERS
    found = _differences(group.sentinels[0], password, 26379, users)
    assert found == {user.name: set() for user in users}


@promise("the users of Redis servers and Sentinels may run only their own commands", control=True)
def test_a_user_with_one_more_command_is_noticed(group: Group) -> None:
    server = group.servers[group.primary()]
    password = server.passwords["administrator"]
    _ask(server.container, password, 6379, ["ACL SETUSER replica +get"])
    try:
        found = _differences(server.container, password, 6379, [redis_acl.REPLICA])
        assert found == {"replica": {"get"}}
    finally:
        _ask(server.container, password, 6379, ["ACL SETUSER replica -get"])


def test_a_large_request_cannot_use_up_the_memory_of_a_sentinel(group: Group) -> None:
    """The connection is closed before the Sentinel has read the request."""
    login = "cd /etc/groundwork; export REDISCLI_AUTH=$(cat monitor.password)"
    client = "redis-cli --user monitor -p 26379 --tls --cacert ca.crt"
    part = "printf '$1000000\\r\\n'; head -c 1000000 /dev/zero; printf '\\r\\n'"
    request = f"printf '*100\\r\\n'; for part in $(seq 20); do {part}; done"
    script = f"{login}; {{ {request}; }} | {client} --pipe || true; {client} INFO clients stats"
    assert "evicted_clients:1" in docker("exec", group.sentinels[0], "sh", "-c", script).split()
    # One long argument is refused at once.
    script = (
        f"{login}; head -c 3000000 /dev/zero | {client} -x PING 2>&1 || true; {client} INFO clients stats"
    )
    assert "evicted_clients:1" in docker("exec", group.sentinels[0], "sh", "-c", script).split()
