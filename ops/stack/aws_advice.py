"""The advice of messages on AWS, where a stack has no containers."""

from __future__ import annotations

import re

from infra.spec.rds import ADMIN

_COMMAND = re.compile(
    r"`groundwork (?P<tool>logs|psql|redis-cli)(?: --stack \S+?)?(?: --(?:service|role) (?P<name>[^`\s]+))?"
    r"(?P<arguments> [^`]*)?`"
)


def for_aws(text: str, stack: str) -> str:
    """Replace each command, in backticks, that runs in a container by what an operator can do on AWS."""

    def instead(command: re.Match[str]) -> str:
        tool, name = command["tool"], command["name"]
        if tool == "logs":
            return f"the logs in CloudWatch under /groundwork/{stack}{f'/{name}' if name else ''}"
        login = f" as {name or ADMIN}" if tool == "psql" else ""
        return f"`{tool}{command['arguments'] or ''}`{login} from inside the VPC"

    return _COMMAND.sub(instead, text)
