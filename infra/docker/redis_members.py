"""The running servers and Sentinels of a stack's Redis with replicas, and what they report."""

from __future__ import annotations

from dataclasses import dataclass

from infra.docker.engine import DockerError, docker, inspect
from infra.spec import redis, redis_acl
from infra.spec.redis_replication import SENTINEL_NAMES, SENTINEL_PORT, SERVER_NAMES, redis_command


@dataclass(frozen=True)
class RedisMember:
    """A server or Sentinel: its container, the container's state, and its address in the data network."""

    name: str
    container: str
    state: str
    address: str

    @property
    def port(self) -> int:
        return SENTINEL_PORT if self.name in SENTINEL_NAMES else redis.PORT

    def ask(self, user: redis_acl.RedisUser, command: str, target: RedisMember | None = None) -> str:
        """Run a command as `user` in this member, or in `target` from this member's container.

        Raises DockerError if the container does not run, the server does not answer, or the user cannot log in.
        """
        host, port = (target.address, target.port) if target else ("localhost", self.port)
        said = docker("exec", self.container, *redis_command(user, command, port, host), timeout_seconds=30)
        logged_in, _, answer = said.partition("\n")
        if logged_in != "OK":
            raise DockerError(f"{(target or self).name} refuses user {user.name}: {logged_in}")
        return answer.strip()


def redis_members(container: str) -> dict[str, RedisMember]:
    """Return the existing servers and Sentinels by name, given the first server's container.

    Empty for a Redis without replicas.
    """
    prefix = container.removesuffix(SERVER_NAMES[0])
    found: dict[str, RedisMember] = {}
    for each in inspect("container", *(prefix + name for name in (*SERVER_NAMES, *SENTINEL_NAMES))):
        name = each["Name"].lstrip("/").removeprefix(prefix)
        networks = each["NetworkSettings"]["Networks"].values()
        address = next((network["IPAddress"] for network in networks), "")
        found[name] = RedisMember(name, prefix + name, each["State"]["Status"], address)
    return found if found.keys() - {SERVER_NAMES[0]} else {}
