"""The settings that the members of a cluster share: when they are written, and which servers restart for them."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from infra.docker import members, patroni_settings
from infra.docker.patroni_settings import PatroniSettingsProvider

PROPS = {"container": "gw-postgres", "configuration": '{"ttl": 20}'}


class Patroni:
    """Patroni's command line: `edit-config` reports a change if the settings differ from the stored ones."""

    def __init__(self, stored: str) -> None:
        self.stored = stored
        self.is_marked = False
        self.restarted: list[str] = []

    def ctl(self, container: str, command: str, *arguments: str, stdin: str = "", seconds: int = 0) -> str:
        assert container == "the primary"
        if command == "edit-config":
            assert arguments[1:3] == ("--replace=-", "--force")
            changed, self.stored = self.stored != stdin, stdin
            self.is_marked |= changed
            return "Configuration changed" if changed else ""
        if command == "list":
            mark = {"Pending restart": "*"} if self.is_marked else {}
            return json.dumps([{"Member": "postgres"}, {"Member": "postgres-2", **mark}])
        assert command == "restart"
        assert "--pending" in arguments
        self.restarted.append(arguments[arguments.index("--role") + 1])
        return ""


@pytest.fixture
def patroni(monkeypatch: pytest.MonkeyPatch) -> Patroni:
    patroni = Patroni(PROPS["configuration"])
    for module in (patroni_settings, members):
        monkeypatch.setattr(module, "patronictl", patroni.ctl)
    monkeypatch.setattr(patroni_settings, "primary_container", lambda _: "the primary")
    monkeypatch.setattr(time, "sleep", lambda _: None)
    return patroni


def _apply(configuration: str) -> dict[str, Any]:
    made = PatroniSettingsProvider().update("id", PROPS, PROPS | {"configuration": configuration})
    return dict(made.outs or {})


def test_the_settings_of_a_new_cluster_are_those_it_started_with(patroni: Patroni) -> None:
    assert PatroniSettingsProvider().create(dict(PROPS)).outs == PROPS
    assert patroni.restarted == []


def test_changed_settings_are_stored_and_pending_restarts_begin_with_the_replicas(patroni: Patroni) -> None:
    # A larger max_connections must reach the replicas first. A smaller one reaches them after the primary.
    assert _apply('{"ttl": 30}')["configuration"] == '{"ttl": 30}'
    assert patroni.stored == '{"ttl": 30}'
    assert patroni.restarted == ["replica", "primary", "replica"]


def test_settings_that_etcd_has_already_restart_nothing(patroni: Patroni) -> None:
    patroni.stored = '{"ttl": 30}'
    _apply('{"ttl": 30}')
    assert patroni.restarted == []


def test_marks_that_a_killed_up_has_left_restart_their_servers(patroni: Patroni) -> None:
    patroni.stored, patroni.is_marked = '{"ttl": 30}', True
    _apply('{"ttl": 30}')
    assert patroni.restarted == ["replica", "primary", "replica"]
