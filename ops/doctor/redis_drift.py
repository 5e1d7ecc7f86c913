"""What Redis runs with, beside what the specification says: configuration and users."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from infra.spec import redis as spec
from infra.spec import redis_acl
from ops.doctor.examination import Examination
from ops.doctor.finding import Finding, counted, fail, ok
from ops.monitored_redis import MonitoredRedis

_UP = "`groundwork up`, after a restart of the container, puts it right"
_IGNORED = {"resetkeys", "resetchannels", "resetpass", "sanitize-payload"}
_ALL = {"allkeys": "~*", "allchannels": "&*", "allcommands": "+@all", "nocommands": "-@all"}
_SELECTOR = re.compile(r"\([^)]*\)")


class CommandTable:
    """The server's commands, whole and by ACL category: ACL LIST names categories where we named commands."""

    def __init__(self, redis: MonitoredRedis) -> None:
        self._redis = redis
        self._categories: dict[str, frozenset[str]] = {}
        every = frozenset(redis.commands())
        containers = {command.partition("|")[0] for command in every if "|" in command}
        self._every = every - containers

    def named(self, what: str) -> frozenset[str]:
        """The commands that a rule without its sign names: `@category`, `command`, or `command|subcommand`."""
        if what == "@all":
            return self._every
        if what.startswith("@"):
            if what not in self._categories:
                self._categories[what] = frozenset(self._redis.commands(what[1:])) & self._every
            return self._categories[what]
        return frozenset(c for c in self._every if c == what or c.startswith(f"{what}|"))


@dataclass(frozen=True)
class AclUser:
    """A line of an aclfile: the commands it comes to, and all other rules but the passwords."""

    name: str
    commands: frozenset[str]
    rules: frozenset[str]

    @classmethod
    def parse(cls, line: str, table: CommandTable) -> AclUser:
        """`user NAME RULE...`, as a file or as ACL LIST says it; rules about commands count in their order."""
        # A selector is one rule, with rules of its own in parentheses.
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


def configuration(examination: Examination) -> Finding:
    """redis-settings: every directive that the specification names."""
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
    """What CONFIG GET says of a server that is as the stack's outputs want it."""
    maxclients = expected.get("redisMaxclients")
    directives = spec.configuration(
        maxmemory_bytes=int(str(expected["redisMaxmemoryBytes"])),
        eviction_policy=str(expected["redisEvictionPolicy"]),
        persistence=str(expected["redisPersistence"]),
        **({} if maxclients is None else {"maxclients": int(str(maxclients))}),
    )
    if maxclients is None:
        # A stack that was brought up before this was kept.
        del directives["maxclients"]
    return {name: value.strip('"') for name, value in directives.items()}


def users(examination: Examination) -> Finding:
    """redis-users: the users there are, and what each may."""
    table = CommandTable(examination.redis)
    live = _by_name(examination.redis.acl(), table)
    no_passwords: dict[str, tuple[str, ...]] = {user.name: () for user in redis_acl.LOCAL_USERS}
    expected = _by_name(redis_acl.render_aclfile(no_passwords).splitlines(), table)
    wrong = [f"{name} is missing" for name in sorted(expected.keys() - live.keys())]
    wrong += [f"{name} is not of the specification" for name in sorted(live.keys() - expected.keys())]
    for name in sorted(expected.keys() & live.keys()):
        wrong += [f"{name} {difference}" for difference in _differences(expected[name], live[name])]
    if wrong:
        return fail(
            f"{counted(len(wrong), 'difference')} from the specification",
            f"`groundwork redis-cli ACL LOAD` reads the file again; {_UP}",
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
