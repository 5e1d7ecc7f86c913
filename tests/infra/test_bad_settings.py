"""Bad input to `up`: one clear line that names the setting and the fix, and nothing is made."""

from __future__ import annotations

import socket

import pytest

from ops.errors import Exit
from tests.infra.checkout import Checkout


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"redisEvictionPolicy": "allkeys-lur"}, ["redisEvictionPolicy", "did you mean allkeys-lru"]),
        ({"redisMaxmemory": "lots"}, ["redisMaxmemory", "128MB or 1GB"]),
        ({"redisMaxmemory": "200MB", "redisMemory": "256MB"}, ["redisMaxmemory", "192MB"]),
        ({"accessPoolSize": 50}, ["accessPoolSize", "appConnectionLimit"]),
        ({"postgresMaxConnections": 20}, ["postgresMaxConnections", "raise it to"]),
        ({"redisMaxmemry": "64MB"}, ["redisMaxmemry", "did you mean groundwork:redisMaxmemory"]),
        ({"postgresParameters": {"ssl": "off"}}, ["postgresParameters", "ssl"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
@pytest.mark.parametrize("command", ["up", "preview"])
def test_a_bad_setting_is_one_line_and_makes_nothing(
    checkout: Checkout, command: str, settings: dict[str, object], words: list[str]
) -> None:
    checkout.settings(**settings)
    done = checkout.run(command)
    assert done.returncode == Exit.USAGE
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert all(word in lines[0] for word in words), lines[0]
    assert checkout.leftovers() == []


def test_a_port_that_is_taken_is_one_line_and_makes_nothing(checkout: Checkout) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        checkout.settings(redisPort=port)
        done = checkout.run("up")
    assert done.returncode == Exit.USAGE
    assert f"groundwork:redisPort: port {port} of 127.0.0.1 is taken" in done.stderr.splitlines()[-1]
    assert checkout.leftovers() == []


def test_an_unknown_stack_is_told_with_the_ones_there_are(checkout: Checkout) -> None:
    done = checkout.run("up", "--stack", "moon")
    assert done.returncode == Exit.USAGE
    assert "no stack 'moon'" in done.stderr
    assert "dev" in done.stderr


def test_dropping_the_data_without_a_terminal_needs_yes(checkout: Checkout) -> None:
    checkout.settings()
    checkout.run("preview")
    done = checkout.run("down", "--volumes")
    assert done.returncode == Exit.REFUSED
    assert "--yes" in done.stderr
