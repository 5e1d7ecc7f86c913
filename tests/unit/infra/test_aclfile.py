"""The ACL file: every user starts without permissions, passwords are stored as digests, and `default` is off."""

from __future__ import annotations

import hashlib

import pytest

from infra.spec import redis_acl
from infra.spec.redis_acl import render_aclfile
from tests.cases import in_case
from tests.promises import promise

PASSWORDS = {user.name: (f"secret of {user.name}",) for user in redis_acl.LOCAL_USERS}
# Commands that give more access than their names say: scripts without a digest, other users' passwords, the server.
NEVER = {
    "eval", "flushall", "flushdb", "keys", "config", "config|set", "acl", "acl|setuser", "module", "debug",
    "shutdown", "replicaof", "migrate", "save", "bgsave", "script", "script|flush", "function", "monitor", "swapdb",
}  # fmt: skip


def _line(user: str) -> str:
    (line,) = (r for r in render_aclfile(PASSWORDS).splitlines() if r.split()[1] == user)
    return line


@promise("the user `default` is disabled")
def test_the_default_user_is_off_and_has_no_permissions() -> None:
    assert _line("default").split()[2:] == ["off", "resetpass", "resetkeys", "resetchannels", "-@all"]


def test_there_is_exactly_one_line_per_user() -> None:
    names = [line.split()[1] for line in render_aclfile(PASSWORDS).splitlines()]
    assert names == ["default", *(user.name for user in redis_acl.LOCAL_USERS)]


@promise("Postgres stores SCRAM verifiers, and Redis digests, never passwords")
def test_a_password_is_in_the_file_only_as_its_digest() -> None:
    for user in redis_acl.LOCAL_USERS:
        with in_case(user):
            password = PASSWORDS[user.name][0]
            assert f"#{hashlib.sha256(password.encode()).hexdigest()}" in _line(user.name).split()
            assert password not in render_aclfile(PASSWORDS)


def test_a_user_needs_a_password() -> None:
    for user in redis_acl.LOCAL_USERS:
        with in_case(user):
            assert "nopass" not in _line(user.name).split()
            with pytest.raises(KeyError):
                render_aclfile({name: pw for name, pw in PASSWORDS.items() if name != user.name})


def test_the_rules_do_not_depend_on_the_passwords() -> None:
    rules = [
        " ".join(w for w in line.split() if not w.startswith("#"))
        for line in render_aclfile(PASSWORDS).splitlines()
    ]
    assert redis_acl.render_rules().splitlines() == rules


def test_both_passwords_of_a_rotation_are_accepted() -> None:
    text = render_aclfile(PASSWORDS | {"app": ("old", "new")})
    for password in ("old", "new"):
        assert f"#{hashlib.sha256(password.encode()).hexdigest()}" in text


def test_a_users_rules_start_with_resets() -> None:
    for user in redis_acl.LOCAL_USERS:
        with in_case(user):
            rules = user.access_string().split()
            first_added = next(n for n, rule in enumerate(rules) if rule.startswith("+"))
            assert rules.index("-@all") < first_added
            assert rules[0] == "resetkeys"
            assert "resetchannels" in rules


def test_a_users_commands_are_named_without_categories() -> None:
    for user in redis_acl.LOCAL_USERS:
        with in_case(user):
            rules = user.access_string().split()
            assert not [
                rule
                for rule in rules
                if rule.startswith("+@") or rule in {"allcommands", "allkeys", "~*", "&*"}
            ]
            # rotator exists for these two commands, and no client has its password.
            assert NEVER & set(user.commands) == (
                {"config|set", "acl|setuser"} if user is redis_acl.ROTATOR else set()
            )
            assert len(set(user.commands)) == len(user.commands)


def test_a_user_can_only_access_the_applications_keys() -> None:
    for user in redis_acl.LOCAL_USERS:
        with in_case(user):
            expected = () if user in (redis_acl.MONITOR, redis_acl.ROTATOR) else ("gw:*", "gwl:*")
            assert user.keys == expected
