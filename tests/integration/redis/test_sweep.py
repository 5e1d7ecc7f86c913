"""Every command of the server, executed as each user with arguments that succeed for a user that may run it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from redis.exceptions import ConnectionError, RedisError

from infra.spec import redis_acl
from infra.spec.redis_acl import RedisUser
from tests.containers import REDIS_ENGINE, Server
from tests.integration.redis.conftest import allowlist, client_of
from tests.integration.redis.sample_calls import SAMPLE_CALLS, SEEDS, SampleCall, parse
from tests.promises import promise

# These are disabled in the server: no user may run them, whatever its rules are.
DISABLED = {"debug", "module|load", "module|loadex", "module|unload"}

of_the_containers_redis = pytest.mark.skipif(
    REDIS_ENGINE != "redis", reason="the sample calls are those of the Redis of a stack"
)
# Commands that change the state of their connection, or close it.
CHANGING = {"acl", "auth", "client", "hello", "multi", "quit", "reset", "select", "watch"}


class Caller:
    """A user's connection. It is opened again after each command that may have changed or closed it."""

    def __init__(self, client: Any) -> None:
        self._connection = client.connection_pool.make_connection()

    def call(self, *words: str) -> Any:
        """Return the answer or the error."""
        try:
            self._connection.send_command(*words)
            answer: Any = self._connection.read_response()
        except RedisError as error:
            answer = error
        if words[0].lower() in CHANGING and not is_refused(answer):
            self.close()
        return answer

    def close(self) -> None:
        self._connection.disconnect()


def is_refused(answer: Any) -> bool:
    """Return whether Redis answered that nobody, or not this user, may run the command.

    ACL DRYRUN answers with a text, and EXEC with EXECABORT.
    """
    text = (
        answer.decode(errors="replace")
        if isinstance(answer, bytes)
        else str(answer)
        if isinstance(answer, RedisError)
        else ""
    )
    return "has no permissions to run the" in text or "command not allowed. If the enable-" in text


@pytest.fixture(scope="module")
def calls(commands: dict[str, int]) -> dict[str, SampleCall]:
    """The sample call of each command of the server."""
    found = {}
    for call in SAMPLE_CALLS:
        container = "|".join(call.words[:2])
        found[container if container in commands else call.words[0]] = call
    assert len(found) == len(SAMPLE_CALLS)
    return found


@pytest.fixture
def seeding(administrator: Any) -> Iterator[Any]:
    """seeding() restores the keys, scripts and functions that the sample calls use."""
    lines = parse(SEEDS)

    def send() -> None:
        pipeline = administrator.pipeline(transaction=False)
        for words in lines:
            pipeline.execute_command(*words)
        pipeline.execute()

    def seed() -> None:
        try:
            send()
        except ConnectionError:
            # ACL LOAD has closed the connection.
            send()

    yield seed
    seed()


@of_the_containers_redis
@promise("a user may run only its own commands, and only on the application's keys")
def test_a_new_command_of_the_server_fails_until_somebody_decides_on_it(
    administrator: Any, commands: dict[str, int], calls: dict[str, SampleCall]
) -> None:
    assert set(calls) == set(commands)
    listed = {name.decode() for name in administrator.command_list()}
    # `client` alone is not a call. Otherwise COMMAND and COMMAND LIST name the same commands.
    assert listed - set(commands) == {name.partition("|")[0] for name in listed if "|" in name} - {"command"}
    assert set(commands) <= listed
    assert {name for name in listed if "|" not in name} == documented(administrator)


@of_the_containers_redis
@promise("a user may run only its own commands, and only on the application's keys", control=True)
def test_each_sample_call_succeeds_for_a_user_with_all_permissions(
    administered: Server, calls: dict[str, SampleCall], seeding: Any
) -> None:
    """Otherwise a refusal of the server could hide that a user may run the command."""
    with client_of(administered, "administrator", protocol=2) as client:
        caller = Caller(client)
        refused, wrong = set(), {}
        for name, call in calls.items():
            seeding()
            answer = ask(caller, "administrator", name, call, "lower")
            failed = isinstance(answer, RedisError) or (call.is_asked and answer != b"OK")
            if is_refused(answer):
                refused.add(name)
            elif failed != call.fails:
                wrong[name] = answer
        caller.close()
    assert refused == DISABLED
    assert not wrong


@promise("a user may run only its own commands, and only on the application's keys")
@pytest.mark.parametrize("user", redis_acl.LOCAL_USERS, ids=lambda user: user.name)
def test_a_user_runs_exactly_its_own_commands(
    administered: Server,
    commands: dict[str, int],
    calls: dict[str, SampleCall],
    seeding: Any,
    user: RedisUser,
) -> None:
    """Every other command is in upper case, and the others for the next user."""
    first = redis_acl.LOCAL_USERS.index(user)
    allowed, failed = set(), {}
    with (
        client_of(administered, user.name, protocol=2) as client,
        client_of(administered, "administrator", protocol=2) as administrator,
    ):
        caller, adviser = Caller(client), Caller(administrator)
        for number, (name, call) in enumerate(calls.items(), first):
            spelling = ("upper", "lower")[number % 2]
            if name in allowlist(user, commands):
                seeding()
            answer = ask(adviser if call.is_asked else caller, user.name, name, call, spelling)
            if not is_refused(answer):
                allowed.add(name)
                if isinstance(answer, RedisError) and not call.fails:
                    failed[name] = answer
        caller.close()
        adviser.close()
    assert allowed == allowlist(user, commands)
    assert not failed


def documented(administrator: Any) -> set[str]:
    """Return the commands of COMMAND DOCS, whose answer redis-py cannot parse."""
    caller = Caller(administrator)
    answer = caller.call("COMMAND", "DOCS")
    names = answer if isinstance(answer, dict) else answer[::2]
    return {name.decode() for name in names}


def ask(caller: Caller, user: str, name: str, call: SampleCall, spelling: str) -> Any:
    words = call.spelled(name, spelling)
    return caller.call("ACL", "DRYRUN", user, *words) if call.is_asked else caller.call(*words)
