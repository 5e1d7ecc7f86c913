"""Bad settings stop `up` with one line that names the setting and the fix, and nothing is created.

tests/unit/infra/test_settings.py tests each setting. These tests show that the commands stop.
"""

from __future__ import annotations

import socket

import pytest

from ops.errors import Exit
from tests.infra.checkout import CheckoutCopy
from tests.promises import promise


@promise("a bad setting is refused in one line that names it, before anything is changed")
@pytest.mark.parametrize(
    ("command", "settings", "words"),
    [
        ("up", {"redisMaxmemry": "64MB"}, ["redisMaxmemry", "did you mean groundwork:redisMaxmemory"]),
        ("preview", {"postgresParameters": {"ssl": "off"}}, ["postgresParameters", "ssl"]),
    ],
    ids=["up", "preview"],
)
def test_bad_setting_fails_in_one_line_and_creates_nothing(
    checkout: CheckoutCopy, command: str, settings: dict[str, object], words: list[str]
) -> None:
    checkout.settings(**settings)
    done = checkout.run(command)
    assert done.returncode == Exit.USAGE
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert all(word in lines[0] for word in words), lines[0]
    assert checkout.leftovers() == []


@promise("a bad setting is refused in one line that names it, before anything is changed")
def test_settings_that_are_not_yaml_fail_in_one_line_that_names_the_file(checkout: CheckoutCopy) -> None:
    (checkout.root / "Pulumi.dev.yaml").write_text("config:\n  groundwork:target: docker\n    redisPort: 1\n")
    done = checkout.run("up")
    assert done.returncode == Exit.USAGE
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("groundwork: Pulumi.dev.yaml is not valid YAML: ")
    assert "line 3" in line


@promise("a port that is in use is refused in one line")
def test_port_in_use_fails_in_one_line_and_creates_nothing(checkout: CheckoutCopy) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        checkout.settings(redisPort=port)
        done = checkout.run("up")
    assert done.returncode == Exit.USAGE
    assert f"groundwork:redisPort: port {port} of 127.0.0.1 is in use" in done.stderr.splitlines()[-1]
    assert checkout.leftovers() == []


@promise("an unknown stack is exit code 2, with the names of the existing stacks")
def test_unknown_stack_fails_and_names_the_existing_stacks(checkout: CheckoutCopy) -> None:
    done = checkout.run("up", "--stack", "moon")
    assert done.returncode == Exit.USAGE
    assert "unknown stack 'moon'" in done.stderr
    assert "dev" in done.stderr
