"""Redis reloads passwords and certificates from its files without closing connections; files change atomically."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from infra.certificates import make_server_certificate
from infra.docker.engine import DockerError, File, docker, inspect, replace_files, write_files
from infra.spec import redis as spec
from infra.spec import redis_acl
from tests import containers
from tests.containers import Server
from tests.integration.redis.conftest import NO_RETRY, client_of
from tests.promises import promise


@pytest.fixture
def server(docker_engine: None) -> Iterator[Server]:
    """A Redis as in a stack, with rotator's password among its files."""
    with containers.redis_server() as one:
        _put(one, {"rotator.password": one.passwords["rotator"]})
        yield one


@pytest.fixture
def expired(docker_engine: None) -> Iterator[Server]:
    with containers.redis_server(certificate_days=-1) as one:
        _put(one, {"rotator.password": one.passwords["rotator"]})
        yield one


def _put(server: Server, files: dict[str, str]) -> None:
    (container,) = inspect("container", server.container)
    (volume,) = (m["Name"] for m in container["Mounts"] if m["Destination"] == spec.CONFIG_DIR)
    owned = {name: File(text, spec.UID, spec.UID) for name, text in files.items()}
    replace_files(volume, container["Image"], owned)


def _put_passwords(server: Server, **passwords: tuple[str, ...]) -> None:
    every = {name: (password,) for name, password in server.passwords.items()} | passwords
    _put(server, {"users.acl": redis_acl.render_aclfile(every)})


def _reload(server: Server) -> None:
    docker("exec", server.container, *spec.RELOAD)


@contextmanager
def _connection(server: Server, user: str) -> Iterator[Any]:
    with client_of(server, user, retry=NO_RETRY) as client:
        connection = client.connection_pool.get_connection()
        yield connection
        connection.disconnect()


def _answers(connection: Any) -> bool:
    connection.send_command("PING")
    return bool(connection.read_response() == b"PONG")


def _gets_in(server: Server, user: str, password: str) -> bool:
    url = server.redis_url(user).replace(server.passwords[user], password)
    try:
        with redis.Redis.from_url(url, retry=NO_RETRY, driver_info=None) as client:
            return bool(client.ping())
    except redis.AuthenticationError:
        return False


def test_passwords_change_under_an_open_connection(server: Server) -> None:
    old = server.passwords["app"]
    with _connection(server, "app") as connection:
        for accepted in (("new", old), ("new",)):
            _put_passwords(server, app=accepted)
            _reload(server)
            assert {p: _gets_in(server, "app", p) for p in (old, "new")} == {
                old: old in accepted,
                "new": True,
            }
            assert _answers(connection)


def test_an_acl_load_cuts_the_connection(server: Server) -> None:
    """The control: Redis's own ACL LOAD."""
    with _connection(server, "app") as connection, client_of(server, "ops") as ops:
        ops.execute_command("ACL", "LOAD")
        with pytest.raises(redis.ConnectionError):
            _answers(connection)


def test_rotator_can_be_given_another_password(server: Server) -> None:
    _put_passwords(server, rotator=(server.passwords["rotator"], "next"))
    _reload(server)
    _put(server, {"rotator.password": "next"})
    _put_passwords(server, rotator=("next",))
    _reload(server)
    _reload(server)


def test_a_reload_changes_passwords_and_no_rules(server: Server) -> None:
    with client_of(server, "ops") as ops:
        before = ops.execute_command("ACL", "LIST")
        _reload(server)
        assert ops.execute_command("ACL", "LIST") == before
    assert hashlib.sha256(server.passwords["app"].encode()).hexdigest() in str(before)


def test_a_reload_refused_by_redis_is_reported_without_a_secret(server: Server) -> None:
    _put(server, {"rotator.password": "wrong-but-secret"})
    with pytest.raises(DockerError) as raised:
        _reload(server)
    assert "WRONGPASS" in str(raised.value)
    assert "wrong-but-secret" not in str(raised.value)


def test_a_broken_certificate_is_refused_and_the_old_one_stays(server: Server) -> None:
    _put(server, {"server.crt": "no certificate"})
    with pytest.raises(DockerError, match="cannot reload its files"):
        _reload(server)
    assert _gets_in(server, "app", server.passwords["app"])


@promise("expired certificates do not prevent their renewal")
def test_an_expired_certificate_does_not_prevent_its_renewal(expired: Server) -> None:
    with pytest.raises(redis.ConnectionError, match="expired"):
        _gets_in(expired, "app", expired.passwords["app"])
    pair = make_server_certificate(expired.authority, ["localhost"])
    _put(expired, {"server.crt": pair.certificate, "server.key": pair.private_key})
    _reload(expired)
    assert _gets_in(expired, "app", expired.passwords["app"])


# Reads a file until it gets a line of input or the content is not whole, and prints how often it was whole or not.
_READER = """
import json, sys, threading, pathlib
path, seen, stopped = pathlib.Path("/mnt/text"), {}, threading.Event()
threading.Thread(target=lambda: (sys.stdin.readline(), stopped.set()), daemon=True).start()
print("reading", flush=True)
while not stopped.is_set():
    try:
        text = path.read_text()
        what = "whole" if text in ("a" * 100_000, "b" * 100_000) else f"{len(text)} characters"
    except OSError as error:
        what = type(error).__name__
    seen[what] = seen.get(what, 0) + 1
    if what != "whole":
        break
print(json.dumps(seen))
"""


@contextmanager
def _volume_with_text(image: str) -> Iterator[str]:
    volume = f"gw-test-{uuid.uuid4().hex[:8]}"
    docker("volume", "create", volume)
    try:
        write_files(volume, image, {"text": _text("a")})
        yield volume
    finally:
        docker("volume", "rm", "--force", volume)


def _text(letter: str) -> File:
    return File(letter * 100_000, 10020, 10020)


def _outcomes(volume: str, changes: int, change: Any) -> dict[str, int]:
    mountpoint = inspect("volume", volume)[0]["Mountpoint"]
    reader = subprocess.Popen(
        [sys.executable, "-c", _READER.replace("/mnt", mountpoint)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert reader.stdout is not None
    assert reader.stdout.readline() == "reading\n"
    for n in range(changes):
        if reader.poll() is not None:
            break
        change({"text": _text("ba"[n % 2])})
    out, _ = reader.communicate("stop\n")
    found: dict[str, int] = json.loads(out)
    return found


@pytest.fixture(scope="module")
def image(docker_engine: None) -> str:
    return containers.build_image("redis")


@promise("a reader of a file that is being replaced gets the whole old or the whole new content")
def test_a_reader_of_a_file_being_replaced_gets_whole_content(image: str) -> None:
    with _volume_with_text(image) as volume:
        _skip_where_the_volume_is_elsewhere(volume)
        assert set(_outcomes(volume, 4, lambda files: replace_files(volume, image, files))) == {"whole"}


@promise(
    "a reader of a file that is being replaced gets the whole old or the whole new content", control=True
)
def test_docker_copying_into_a_volume_is_seen_half_done(image: str) -> None:
    """The control: how files are copied into a volume that no process reads yet."""
    with _volume_with_text(image) as volume:
        _skip_where_the_volume_is_elsewhere(volume)
        assert set(_outcomes(volume, 120, lambda files: write_files(volume, image, files))) != {"whole"}


def _skip_where_the_volume_is_elsewhere(volume: str) -> None:
    try:
        (Path(inspect("volume", volume)[0]["Mountpoint"]) / "text").read_text()
    except OSError as error:
        pytest.skip(f"the engine's volumes are not to be read from here: {error}")
