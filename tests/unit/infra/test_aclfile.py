"""The aclfile: every user from nothing, passwords as digests only, and `default` off."""

from __future__ import annotations

import hashlib

import pytest

from infra.spec import redis_acl
from infra.spec.redis_acl import RedisUser, render_aclfile

PASSWORDS = {user.name: (f"secret of {user.name}",) for user in redis_acl.LOCAL_USERS}
# What gives more than it says: scripts without a digest, other users' passwords, the server itself.
NEVER = {
    "eval", "flushall", "flushdb", "keys", "config", "config|set", "acl", "acl|setuser", "module", "debug",
    "shutdown", "replicaof", "migrate", "save", "bgsave", "script", "script|flush", "function", "monitor", "swapdb",
}  # fmt: skip


def _line(user: str) -> str:
    (line,) = (r for r in render_aclfile(PASSWORDS).splitlines() if r.split()[1] == user)
    return line


def test_the_default_user_is_off_and_may_nothing() -> None:
    assert _line("default").split()[2:] == ["off", "resetpass", "resetkeys", "resetchannels", "-@all"]


def test_there_is_a_line_for_each_user_and_no_other() -> None:
    names = [line.split()[1] for line in render_aclfile(PASSWORDS).splitlines()]
    assert names == ["default", *(user.name for user in redis_acl.LOCAL_USERS)]


@pytest.mark.parametrize("user", redis_acl.LOCAL_USERS, ids=lambda user: user.name)
def test_a_password_is_in_the_file_as_its_digest_only(user: RedisUser) -> None:
    password = PASSWORDS[user.name][0]
    assert f"#{hashlib.sha256(password.encode()).hexdigest()}" in _line(user.name).split()
    assert password not in render_aclfile(PASSWORDS)


@pytest.mark.parametrize("user", redis_acl.LOCAL_USERS, ids=lambda user: user.name)
def test_a_user_needs_a_password(user: RedisUser) -> None:
    assert "nopass" not in _line(user.name).split()
    with pytest.raises(KeyError):
        render_aclfile({name: pw for name, pw in PASSWORDS.items() if name != user.name})


def test_the_rules_are_the_same_whatever_the_passwords() -> None:
    rules = [
        " ".join(w for w in line.split() if not w.startswith("#"))
        for line in render_aclfile(PASSWORDS).splitlines()
    ]
    assert redis_acl.render_rules().splitlines() == rules


def test_both_passwords_of_a_rotation_are_accepted() -> None:
    text = render_aclfile(PASSWORDS | {"app": ("old", "new")})
    for password in ("old", "new"):
        assert f"#{hashlib.sha256(password.encode()).hexdigest()}" in text


@pytest.mark.parametrize("user", redis_acl.LOCAL_USERS, ids=lambda user: user.name)
def test_a_user_starts_from_nothing_before_anything_is_added(user: RedisUser) -> None:
    rules = user.access_string().split()
    first_added = next(n for n, rule in enumerate(rules) if rule.startswith("+"))
    assert rules.index("-@all") < first_added
    assert rules[0] == "resetkeys"
    assert "resetchannels" in rules


@pytest.mark.parametrize("user", redis_acl.LOCAL_USERS, ids=lambda user: user.name)
def test_a_user_gets_commands_by_name_and_no_category(user: RedisUser) -> None:
    rules = user.access_string().split()
    assert not [
        rule for rule in rules if rule.startswith("+@") or rule in {"allcommands", "allkeys", "~*", "&*"}
    ]
    # rotator is there for these two, and its password is no client's.
    assert NEVER & set(user.commands) == (
        {"config|set", "acl|setuser"} if user is redis_acl.ROTATOR else set()
    )
    assert len(set(user.commands)) == len(user.commands)


@pytest.mark.parametrize("user", redis_acl.LOCAL_USERS, ids=lambda user: user.name)
def test_a_user_reaches_keys_of_the_application_only(user: RedisUser) -> None:
    expected = () if user in (redis_acl.MONITOR, redis_acl.ROTATOR) else ("gw:*", "gwl:*")
    assert user.keys == expected
