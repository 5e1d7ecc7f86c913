"""Redis's configuration and users compared with the specification."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from infra.spec import redis as spec
from infra.spec import redis_acl, redis_replication
from ops.doctor.check_result import STACK_OPTION, CheckResult, counted, fail, ok
from ops.doctor.examination import Examination
from ops.servers.monitored_redis import MonitoredRedis

_UP = f"restart the Redis container and run `groundwork up{STACK_OPTION}` to fix it"
_IGNORED = {"resetkeys", "resetchannels", "resetpass", "sanitize-payload"}
_ALL = {"allkeys": "~*", "allchannels": "&*", "allcommands": "+@all", "nocommands": "-@all"}
# Unknown here: the password, the address, and the memory of the container.
_OF_EACH_SERVER = ("masterauth", "replica-announce-ip", "client-output-buffer-limit")
_SELECTOR = re.compile(r"\([^)]*\)")


class CommandTable:
    """The server's commands by ACL category. ACL LIST shows categories where the specification lists commands."""

    def __init__(self, redis: MonitoredRedis) -> None:
        self._redis = redis
        self._categories: dict[str, frozenset[str]] = {}
        every = frozenset(redis.commands())
        containers = {command.partition("|")[0] for command in every if "|" in command}
        self._every = every - containers

    def named(self, what: str) -> frozenset[str]:
        """Return the commands that an ACL rule names: `@category`, `command`, or `command|subcommand`."""
        if what == "@all":
            return self._every
        if what.startswith("@"):
            if what not in self._categories:
                self._categories[what] = frozenset(self._redis.commands(what[1:])) & self._every
            return self._categories[what]
        return frozenset(c for c in self._every if c == what or c.startswith(f"{what}|"))


@dataclass(frozen=True)
class AclUser:
    """A line of an ACL file: the resulting commands, and all other rules except passwords."""

    name: str
    commands: frozenset[str]
    rules: frozenset[str]

    @classmethod
    def parse(cls, line: str, table: CommandTable) -> AclUser:
        """Parse `user NAME RULE...` from a file or ACL LIST. Command rules are applied in order."""
        # A selector is a parenthesized list of rules and counts as one rule.
        others = set(_SELECTOR.findall(line))
        _, name, *rules = _SELECTOR.sub("", line).split()
        commands: frozenset[str] = frozenset()
        for rule in (_ALL.get(rule, rule) for rule in rules if rule not in _IGNORED):
            if rule[0] == "+":
                commands |= table.named(rule[1:])
            elif rule[0] == "-":
                commands -= table.named(rule[1:])
            elif rule[0] != "#":
                others.add(rule)
        return cls(name, commands, frozenset(others))


def configuration(examination: Examination) -> CheckResult:
    """redis-settings: compare every directive of the specification."""
    live = examination.redis.config()
    expected = expected_configuration(examination.stack.expected)
    wrong = [
        f"{name} is {live.get(name, 'unknown')!r} and should be {value!r}"
        for name, value in expected.items()
        if live.get(name) != value
    ]
    if wrong:
        return fail(f"{counted(len(wrong), 'directive')} not as specified", _UP, wrong)
    return ok(f"{len(expected)} directives are as specified")


def expected_configuration(expected: Mapping[str, object]) -> dict[str, str]:
    """Return what CONFIG GET shows on a server that matches the stack outputs."""
    maxclients = expected.get("redisMaxclients")
    directives = spec.configuration(
        maxmemory_bytes=int(str(expected["redisMaxmemoryBytes"])),
        eviction_policy=str(expected["redisEvictionPolicy"]),
        persistence=str(expected["redisPersistence"]),
        **({} if maxclients is None else {"maxclients": int(str(maxclients))}),
    )
    if maxclients is None:
        # The stack was deployed before this output existed.
        del directives["maxclients"]
    if expected.get("redisReplicas"):
        own = redis_replication.server_configuration(address="", replica_password="", buffer_bytes=0)
        directives |= {name: value for name, value in own.items() if name not in _OF_EACH_SERVER}
    return {name: value.strip('"') for name, value in directives.items()}


def users(examination: Examination) -> CheckResult:
    """redis-users: compare the users and their permissions."""
    table = CommandTable(examination.redis)
    live = _by_name(examination.redis.acl(), table)
    has_replicas = bool(examination.stack.expected.get("redisReplicas"))
    rules = redis_acl.render_rules(redis_acl.REPLICATED_USERS if has_replicas else redis_acl.LOCAL_USERS)
    expected = _by_name(rules.splitlines(), table)
    wrong = [f"{name} is missing" for name in sorted(expected.keys() - live.keys())]
    wrong += [f"{name} is not in the specification" for name in sorted(live.keys() - expected.keys())]
    for name in sorted(expected.keys() & live.keys()):
        wrong += [f"{name} {difference}" for difference in _differences(expected[name], live[name])]
    if wrong:
        return fail(
            f"{counted(len(wrong), 'difference')} from the specification",
            f"reload the ACL file with `groundwork redis-cli{STACK_OPTION} ACL LOAD`; or {_UP}",
            wrong,
        )
    return ok(f"{len(expected)} users are as specified")


def _by_name(lines: Iterable[str], table: CommandTable) -> dict[str, AclUser]:
    users = (AclUser.parse(line, table) for line in lines)
    return {user.name: user for user in users}


def _differences(expected: AclUser, live: AclUser) -> Iterable[str]:
    for command in sorted(live.commands - expected.commands):
        yield f"may {command.replace('|', ' ').upper()}"
    for command in sorted(expected.commands - live.commands):
        yield f"may not {command.replace('|', ' ').upper()}"
    for rule in sorted(live.rules - expected.rules):
        yield f"has {rule}"
    for rule in sorted(expected.rules - live.rules):
        yield f"lacks {rule}"
