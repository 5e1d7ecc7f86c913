"""Nine faults of Redis, caused on a real server and removed again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
from redis import exceptions

from infra.docker.engine import docker
from infra.spec.redis import PORT
from tests.containers import Server, pause, wait_until
from tests.faults.network import DROP, RESET, address, firewall

# Delays the loading of each key, so that a few of them keep the server busy for seconds.
LOAD_DELAY = {"key-load-delay": "20000", "loading-process-events-interval-bytes": "1024"}
_BALLAST_KEYS = 150


@dataclass
class Patient:
    """A Redis with an administrator, the file from which its clients read their URL, and that URL.

    `kills` counts the connections that the fault `killed` has closed.
    """

    server: Server
    url_file: Path
    url: str
    kills: int = 0

    def administrator(self) -> Any:
        return redis.Redis.from_url(self.server.redis_url("administrator"), driver_info=None)


@dataclass(frozen=True)
class Illness:
    """A fault. `symptom` is the error of a plain client's SET; `by_address` means to bypass the published port."""

    name: str
    symptom: tuple[type[Exception], ...]
    befall: Callable[[Patient], AbstractContextManager[None]]
    by_address: bool = False


def patient(server: Server, folder: Path, *, by_address: bool) -> Patient:
    url = server.redis_url("app")
    if by_address:
        url = url.replace(f"localhost:{server.port}", f"{address(server)}:{PORT}")
        url = url.replace("ssl_check_hostname=true", "ssl_check_hostname=false")
    file = folder / "redis_url"
    file.write_text(url)
    return Patient(server, file, url)


@contextmanager
def _refused(it: Patient) -> Iterator[None]:
    docker("stop", it.server.container)
    try:
        yield
    finally:
        docker("start", it.server.container)
        wait_until(it.server.answers)


@contextmanager
def _frozen(it: Patient) -> Iterator[None]:
    pause(it.server.container)
    try:
        yield
    finally:
        docker("unpause", it.server.container)


def _blackholed(it: Patient) -> AbstractContextManager[None]:
    return firewall(it.server, PORT, DROP)


def _reset(it: Patient) -> AbstractContextManager[None]:
    return firewall(it.server, PORT, RESET)


@contextmanager
def _killed(it: Patient) -> Iterator[None]:
    """Close every other connection, repeatedly."""
    stopped = threading.Event()

    def kill() -> None:
        with it.administrator() as administrator:
            while not stopped.wait(0.002):
                it.kills += int(administrator.execute_command("CLIENT", "KILL", "TYPE", "normal"))

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        # The thread needs time to connect. Then it closes the idle connections of the callers.
        wait_until(lambda: it.kills > 0, 60)
        yield
    finally:
        stopped.set()
        killer.join()


@contextmanager
def _full(it: Patient) -> Iterator[None]:
    with it.administrator() as administrator:
        usual = administrator.config_get("maxmemory")["maxmemory"]
        administrator.config_set("maxmemory", 1)
        try:
            yield
        finally:
            administrator.config_set("maxmemory", usual)


@contextmanager
def _unauthenticated(it: Patient) -> Iterator[None]:
    """Remove the password from the URL, and close every connection."""
    credentials = f"app:{it.server.passwords['app']}@"
    it.url_file.write_text(it.url.replace(credentials, ""))
    with it.administrator() as administrator:
        administrator.execute_command("CLIENT", "KILL", "TYPE", "normal")
    try:
        yield
    finally:
        it.url_file.write_text(it.url)


@contextmanager
def _loading(it: Patient) -> Iterator[None]:
    """Restart with so much data that loading takes seconds."""
    with it.administrator() as administrator:
        administrator.mset({f"gw:ballast:{n}": str(n) * 2000 for n in range(_BALLAST_KEYS)})
    with ThreadPoolExecutor(1) as pool:
        # On a busy machine the command may end after the loading.
        restarting = pool.submit(docker, "restart", it.server.container)
        wait_until(lambda: _meets(it, exceptions.BusyLoadingError), 120)
        try:
            yield
        finally:
            restarting.result()
            wait_until(it.server.answers, 120)
            wait_until(lambda: not _meets(it, exceptions.RedisError))
            with it.administrator() as administrator:
                administrator.unlink(*(f"gw:ballast:{n}" for n in range(_BALLAST_KEYS)))


@contextmanager
def _replica(it: Patient) -> Iterator[None]:
    with it.administrator() as administrator:
        administrator.replicaof("127.0.0.1", 1)
        try:
            yield
        finally:
            administrator.replicaof("NO", "ONE")


def _meets(it: Patient, symptom: type[Exception]) -> bool:
    """Return whether a client without retries gets this error."""
    try:
        with redis.Redis.from_url(it.server.redis_url("ops"), driver_info=None, retry=None) as ops:
            ops.get("gw:nothing")
    except symptom:
        return True
    except exceptions.RedisError:
        pass
    return False


ILLNESSES = (
    Illness("refused", (exceptions.ConnectionError,), _refused),
    Illness("frozen", (exceptions.TimeoutError,), _frozen),
    Illness("blackholed", (exceptions.TimeoutError,), _blackholed, by_address=True),
    Illness("reset", (exceptions.ConnectionError,), _reset, by_address=True),
    Illness("killed", (), _killed),
    Illness("full", (exceptions.OutOfMemoryError,), _full),
    Illness("unauthenticated", (exceptions.AuthenticationError,), _unauthenticated),
    Illness("loading", (exceptions.BusyLoadingError,), _loading),
    Illness("readonly", (exceptions.ReadOnlyError,), _replica),
)
