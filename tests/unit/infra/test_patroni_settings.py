"""The settings that the members of a cluster share: when they are written, and which servers restart for them."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import yaml

from infra.docker import members, patroni_settings
from infra.docker.engine import DockerError
from infra.docker.patroni_settings import PatroniSettingsProvider
from infra.spec.postgres_cluster import MEMBERS
from tests.cases import in_case
from tests.promises import promise

PROPS = {"container": "gw-0a1b2c-prod-eu-postgres", "configuration": '{"ttl": 20}'}
CONTAINERS = {member: f"gw-0a1b2c-prod-eu-{member}" for member in MEMBERS}
FAILED = "Failed: restart for member {}, status code=503, (restart failed)"
# Patroni's words if a member that is listed with a mark has none any more.
UNNEEDED = "Failed: restart for member {}, status code=503, (restart conditions are not satisfied)"


class Patroni:
    """Patroni's command line: `edit-config` reports a change if the settings differ from the stored ones.

    `postgres-2` is the primary. A restart answers with the line of `answers`, and a member that failed does not stream
    until the former settings are stored again.
    """

    def __init__(self, stored: str) -> None:
        self.stored = stored
        self.runs_with = dict.fromkeys(MEMBERS, stored)
        self.marked: set[str] = set()
        self.down: set[str] = set()
        self.keeps_marks = False
        self.answers: dict[str, str] = {}
        self.restarted: list[str] = []
        self.isolated: set[str] = set()

    def ctl(self, container: str, command: str, *arguments: str, stdin: str = "", seconds: int = 0) -> str:
        if container in self.isolated:
            raise DockerError("`docker exec` failed: Traceback\nno etcd")
        if command == "show-config":
            assert 0 < seconds <= 15
            return yaml.safe_dump(json.loads(self.stored), default_flow_style=False)
        if command == "edit-config":
            assert arguments[1:3] == ("--replace=-", "--force")
            changed, self.stored = self.stored != stdin, stdin
            if stdin == PROPS["configuration"]:
                self.down.clear()
            if changed:
                self.marked = {member for member in MEMBERS if self.runs_with[member] != stdin}
            return "Configuration changed" if changed else ""
        if command == "list":
            return json.dumps([self._row(member) for member in MEMBERS])
        assert command == "restart"
        assert arguments[2:] == ("--pending", "--force")
        member = arguments[1]
        assert not self.down, "a server is restarted while another one is missing"
        self.restarted.append(member)
        answer = self.answers.get(member, "Success: restart on member {}").format(member)
        if answer == FAILED.format(member):
            self.down.add(member)
        else:
            self.runs_with[member] = self.stored
        if not self.keeps_marks or member == "postgres-2":
            self.marked.discard(member)
        return f"+ Cluster: groundwork +\n{answer}\n"

    def psql(self, container: str, sql: str) -> str:
        assert (container, "pg_stat_replication" in sql) == ("gw-0a1b2c-prod-eu-postgres-2", True)
        return "\n".join({*MEMBERS} - {"postgres-2"} - self.down)

    def _row(self, member: str) -> dict[str, str]:
        role = "Leader" if member == "postgres-2" else "Replica"
        return {"Member": member, "Role": role} | ({"Pending restart": "*"} if member in self.marked else {})


@pytest.fixture
def patroni(monkeypatch: pytest.MonkeyPatch) -> Patroni:
    patroni = Patroni(PROPS["configuration"])
    for module in (patroni_settings, members):
        monkeypatch.setattr(module, "patronictl", patroni.ctl)
    monkeypatch.setattr(patroni_settings, "psql", patroni.psql)
    monkeypatch.setattr(patroni_settings, "member_containers", lambda _: CONTAINERS)
    monkeypatch.setattr(patroni_settings, "primary_container", lambda _: "gw-0a1b2c-prod-eu-postgres-2")
    monkeypatch.setattr(patroni_settings, "WAIT_SECONDS", 0)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    return patroni


def _apply(configuration: str) -> dict[str, Any]:
    made = PatroniSettingsProvider().update("id", PROPS, PROPS | {"configuration": configuration})
    return dict(made.outs or {})


def test_the_settings_of_a_new_cluster_are_those_it_started_with(patroni: Patroni) -> None:
    assert PatroniSettingsProvider().create(dict(PROPS)).outs == PROPS
    assert patroni.restarted == []


def test_changed_settings_are_stored_and_pending_restarts_begin_with_the_replicas(patroni: Patroni) -> None:
    # A larger max_connections must reach the replicas first.
    assert _apply('{"ttl": 30}')["configuration"] == '{"ttl": 30}'
    assert patroni.stored == '{"ttl": 30}'
    assert patroni.restarted == ["postgres", "postgres-3", "postgres-2"]


def test_replicas_that_wait_for_a_smaller_value_of_the_primary_restart_after_it(patroni: Patroni) -> None:
    patroni.keeps_marks = True
    _apply('{"ttl": 30}')
    replicas = ["postgres", "postgres-3"]
    assert patroni.restarted == [*replicas, "postgres-2", *replicas]


def test_settings_that_etcd_has_already_restart_nothing(patroni: Patroni) -> None:
    patroni.stored = '{"ttl": 30}'
    _apply('{"ttl": 30}')
    assert patroni.restarted == []


def test_marks_that_a_killed_up_has_left_restart_their_servers(patroni: Patroni) -> None:
    patroni.stored, patroni.marked = '{"ttl": 30}', {*MEMBERS}
    _apply('{"ttl": 30}')
    assert patroni.restarted == ["postgres", "postgres-3", "postgres-2"]


@promise("a parameter with which a server does not start takes down one replica at most")
@pytest.mark.parametrize(
    "restarted", [["postgres"], ["postgres", "postgres-3"], ["postgres", "postgres-3", "postgres-2"]], ids=len
)
def test_a_failed_restart_is_the_last_one_and_the_former_settings_are_stored_again(
    patroni: Patroni, restarted: list[str]
) -> None:
    *_, broken = restarted
    patroni.answers[broken] = FAILED
    with pytest.raises(
        DockerError,
        match=rf"{broken} did not restart .*\(restart failed\); see .*logs --stack prod-eu --service {broken}`",
    ) as failed:
        _apply('{"ttl": 30}')
    assert "\n" not in str(failed.value)
    # Those that have restarted with the rejected value restart with the former one.
    assert patroni.restarted == [*restarted, *restarted[:-1]]
    assert set(patroni.runs_with.values()) == {PROPS["configuration"]}
    assert patroni.stored == PROPS["configuration"]
    # The next `up` tries again.
    patroni.answers, patroni.restarted = {}, []
    _apply('{"ttl": 31}')
    assert (patroni.stored, patroni.restarted[-1]) == ('{"ttl": 31}', "postgres-2")


@promise("a parameter with which a server does not start takes down one replica at most")
def test_no_server_gets_the_former_settings_by_a_restart_while_the_failed_one_is_missing(
    patroni: Patroni, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ctl(container: str, command: str, *arguments: str, stdin: str = "", seconds: int = 0) -> str:
        said = patroni.ctl(container, command, *arguments, stdin=stdin, seconds=seconds)
        patroni.down |= {"postgres-3"} if "postgres-3" in patroni.restarted else set()
        return said

    for module in (patroni_settings, members):
        monkeypatch.setattr(module, "patronictl", ctl)
    patroni.answers["postgres-3"] = FAILED
    with pytest.raises(DockerError, match="postgres-3 did not restart"):
        _apply('{"ttl": 30}')
    assert (patroni.restarted, patroni.marked) == (["postgres", "postgres-3"], {"postgres"})


def test_a_restart_that_patronictl_cannot_ask_for_is_reported_in_one_line(
    patroni: Patroni, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ctl(container: str, command: str, *arguments: str, stdin: str = "", seconds: int = 0) -> str:
        if command == "restart":
            raise DockerError("`docker exec` failed: Traceback\nConnection refused")
        return patroni.ctl(container, command, *arguments, stdin=stdin, seconds=seconds)

    monkeypatch.setattr(patroni_settings, "patronictl", ctl)
    with pytest.raises(DockerError, match=r"postgres did not restart .*: Connection refused; see") as failed:
        _apply('{"ttl": 30}')
    assert "\n" not in str(failed.value)


def test_a_stale_mark_is_not_a_failed_restart(patroni: Patroni) -> None:
    patroni.answers["postgres"] = UNNEEDED
    _apply('{"ttl": 30}')
    assert patroni.restarted == ["postgres", "postgres-3", "postgres-2"]


def _diff(news: dict[str, Any]) -> bool | None:
    return PatroniSettingsProvider().diff("id", PROPS, news).changes


def test_unchanged_inputs_are_a_change_if_etcd_has_other_settings(patroni: Patroni) -> None:
    """A failed `up` may have stored them, and then the user reverted the parameter."""
    parameters = {"huge_pages": "on", "max_connections": "100"}
    kept: dict[str, Any] = {
        "ttl": 20,
        "postgresql": {"parameters": {"max_connections": "100"}, "pg_hba": ["local all", "host"]},
    }
    props = PROPS | {"configuration": json.dumps(kept)}
    cases: list[tuple[dict[str, Any], bool]] = [
        (kept, False),
        (kept | {"pause": True}, False),
        ({}, False),
        (kept | {"ttl": 30}, True),
        ({"ttl": 20}, True),
        (kept | {"postgresql": kept["postgresql"] | {"parameters": parameters}}, True),
    ]
    for stored, is_change in cases:
        with in_case(stored):
            patroni.stored = json.dumps(stored)
            # In a preview, a property that is not known yet is missing.
            for news in (props, {"configuration": props["configuration"]}):
                assert PatroniSettingsProvider().diff("id", props, news).changes is is_change
    PatroniSettingsProvider().update("id", props, props)
    assert json.loads(patroni.stored) == kept


def test_the_settings_in_etcd_are_not_asked_for_if_the_inputs_differ_or_etcd_does_not_answer(
    patroni: Patroni, monkeypatch: pytest.MonkeyPatch
) -> None:
    patroni.stored, patroni.isolated = '{"ttl": 30}', {"gw-0a1b2c-prod-eu-postgres"}
    assert _diff(PROPS) is False
    monkeypatch.delattr(patroni_settings, "patronictl")
    assert _diff(PROPS | {"configuration": '{"ttl": 30}'}) is True


def test_former_settings_that_cannot_be_stored_again_are_reported_with_the_reason(
    patroni: Patroni, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: str) -> None:
        patroni.isolated = {*CONTAINERS.values()}
        raise DockerError("postgres did not restart; run `groundwork up` again")

    monkeypatch.setattr(patroni_settings, "_restart", fail)
    with pytest.raises(
        DockerError,
        match=r"`up` failed \(postgres did not restart; .*etcd back \(no etcd\).* up --stack prod-eu`",
    ) as failed:
        _apply('{"ttl": 30}')
    assert "\n" not in str(failed.value)
    # The user reverts the change.
    patroni.isolated.clear()
    assert _diff(PROPS) is True


@promise("a parameter with which a server does not start takes down one replica at most")
def test_no_server_restarts_while_another_one_does_not_stream(patroni: Patroni) -> None:
    patroni.down = {"postgres-3"}
    with pytest.raises(
        DockerError,
        match=r"postgres-3 does not stream .* cluster reinit --stack prod-eu postgres-3`",
    ):
        _apply('{"ttl": 30}')
    assert patroni.restarted == []
