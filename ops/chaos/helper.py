"""A container beside a server that keeps a fault in effect, and undoes it when its time is over.

It does so whether or not the command and the server still run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from infra.docker.engine import DockerError, docker, label_options, remove_container
from infra.spec.checkout import STATE_LABEL

_WAIT_AND_UNDO = 'trap "$2" EXIT; trap "exit 0" TERM; sleep "$1" & wait'


@dataclass(frozen=True)
class Helper:
    """A helper container by name. `options` of `docker run` say what it shares with the server.

    `undoing` is a shell script that undoes the fault, and does nothing the second time.
    """

    name: str
    labels: Mapping[str, str]
    options: Sequence[str]
    undoing: str

    def start(self, image: str, seconds: int) -> None:
        self.remove()
        command = (image, "-c", _WAIT_AND_UNDO, "sh", str(seconds), self.undoing)
        docker(*self._run(), "--detach", "--name", self.name, *command)

    def sh(self, script: str, *arguments: str) -> str:
        """Run a shell script in the helper, and return its output. Raise DockerError if one of its commands fails."""
        return docker("exec", self.name, "sh", "-ceu", script, "sh", *arguments)

    def undo(self, image: Callable[[], str]) -> None:
        """Undo the fault, also if the helper was killed or removed. `image` is only needed then."""
        try:
            docker("exec", self.name, "sh", "-c", self.undoing)
        except DockerError:
            docker(*self._run(), "--rm", image(), "-c", self.undoing)

    def remove(self) -> None:
        remove_container(self.name, self.labels[STATE_LABEL])

    def _run(self) -> list[str]:
        return [
            *("run", "--init", "--entrypoint", "sh", *self.options, "--cap-drop", "ALL", "--read-only"),
            *("--security-opt", "no-new-privileges=true", "--pids-limit", "16"),
            *("--memory", "32m", "--memory-swap", "32m", *label_options(self.labels)),
        ]
