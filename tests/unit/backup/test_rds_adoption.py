"""`restore --adopt` with a fake RDS and a state in memory: every step, refusals, and kills after every call."""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse

from ops.backup import rds_adoption, rds_commands
from ops.backup.rds import TAG, Instance
from ops.backup.rds_adoption import REPLACED_BY, Adoption
from ops.errors import Exit, OpsError
from tests.aws_outputs import REGION
from tests.fake_rds import FakeRds
from tests.promises import promise
from tests.scale import scaled

NAME = "groundwork-prod"
RESTORED = f"{NAME}-restored-20260301-025000"
URN = "urn:pulumi:prod::groundwork::groundwork:aws:Postgres$aws:rds/instance:Instance::postgres"


class Killed(BaseException):
    """Stands in for SIGKILL: no `except` clause catches it."""


class FakeStack:
    """The methods of PulumiStack that an adoption uses. `up` creates missing replicas, as the program does."""

    def __init__(self, account: FakeRds, replicas: int = 0) -> None:
        self.account, self.replicas = account, replicas
        self.deployment: dict[str, Any] = {"resources": []}
        self.backup: Path | None = None
        self.done: list[str] = []
        self.kill: Callable[[], None] = lambda: None

    def resources(self) -> list[dict[str, Any]]:
        return copy.deepcopy(self.deployment["resources"])

    def resource_outputs(self, name: str) -> dict[str, Any]:
        return {"value": f"of-{name}"}

    def edit_state(self, change: Callable[[dict[str, Any]], bool], backup: Path | None = None) -> None:
        self.kill()
        draft = copy.deepcopy(self.deployment)
        if change(draft):
            self.deployment, self.backup = draft, backup
            self.done.append("edit")
        self.kill()

    def refresh(self, *, to_stderr: bool) -> None:
        self._step("refresh")

    def up(self, *, to_stderr: bool) -> None:
        self._step("up")
        for number in range(self.replicas):
            name = f"{NAME}-replica-{number + 1}"
            if name not in self.account.names():
                source = self.account.named(NAME)
                self.account.add(name, ReadReplicaSourceDBInstanceIdentifier=NAME, DeletionProtection=True)
                source.setdefault("ReadReplicaDBInstanceIdentifiers", []).append(name)

    def outputs(self) -> dict[str, Any]:
        return {"loginEnvironment": {}, "redisUrls": {"ops": "rediss://ops@127.0.0.1:1/0"}}

    def _step(self, what: str) -> None:
        self.kill()
        self.done.append(what)
        self.kill()


class Site:
    """A stack with its own instance, a restored one, and `replicas` read replicas."""

    def __init__(self, client: Any, account: FakeRds, *, replicas: int = 0, is_managed: bool = True) -> None:
        common = {
            "KmsKeyId": "key",
            "DBSubnetGroup": {"DBSubnetGroupName": NAME},
            "DeletionProtection": True,
        }
        secret = {"SecretArn": "arn:old", "SecretStatus": "active", "KmsKeyId": "secret-key"}
        self.account = account
        self.old = account.add(NAME, **common, **({"MasterUserSecret": secret} if is_managed else {}))
        self.new = account.add(RESTORED, **common, TagList=[{"Key": TAG, "Value": "2026-03-01T02:50:00Z"}])
        self.stack = FakeStack(account, replicas)
        self.stack.up(to_stderr=False)
        self.stack.done.clear()
        row = {"urn": URN, "type": "aws:rds/instance:Instance", "id": self.old["DbiResourceId"]}
        row["outputs"] = {"id": row["id"], "resourceId": row["id"], "identifier": NAME}
        self.stack.deployment["resources"].append(row)
        self.instance = Instance("prod", NAME, client, poll_seconds=0.001, timeout_seconds=20)
        self.said: list[str] = []

    def find(self, name: str = RESTORED) -> Adoption:
        return Adoption.of(self.instance, self.stack, name)  # type: ignore[arg-type]

    def adopt(self) -> dict[str, Any]:
        backup, check_up = Path("before.json"), lambda target: target._step("guard")
        return rds_commands.adopt(self.find(), backup, check_up, self.said.append, to_stderr=True)

    @property
    def state_id(self) -> str:
        return str(self.stack.deployment["resources"][0]["id"])


@pytest.fixture(scope="module")
def client() -> Any:
    """Return a client whose requests the newest of `accounts` answers, without a network."""
    client = boto3.client(
        "rds", region_name=REGION, aws_access_key_id="test", aws_secret_access_key="test"
    )  # fmt: skip

    def answer(request: Any, **_: Any) -> AWSResponse:
        status, body = accounts[-1].respond(request.body)
        return AWSResponse(request.url, status, {}, SimpleNamespace(stream=lambda **_: iter([body])))

    client.meta.events.register("before-send.rds", answer)
    return client


accounts: list[FakeRds] = []


def _unreachable(settings: object) -> None:
    raise OpsError("cannot reach Redis", Exit.UNREACHABLE)


@pytest.fixture(autouse=True)
def _no_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rds_commands, "invalidate_namespaces", _unreachable)


@pytest.fixture
def site(client: Any, request: pytest.FixtureRequest) -> Site:
    accounts.append(FakeRds(lag=1))
    return Site(client, accounts[-1], **getattr(request, "param", {}))


def _is_adopted(site: Site) -> bool:
    """Return whether the result is that of an uninterrupted adoption."""
    new = site.account.named(NAME)
    replicas = {f"{NAME}-replica-{n + 1}" for n in range(site.stack.replicas)}
    return (
        new["DbiResourceId"] == site.new["DbiResourceId"] == site.state_id
        and site.account.named(f"{NAME}-before")["DbiResourceId"] == site.old["DbiResourceId"]
        and site.account.names() == {NAME, f"{NAME}-before"} | replicas
        and set(new.get("ReadReplicaDBInstanceIdentifiers", [])) == replicas
        and site.stack.done[-3:] == ["refresh", "guard", "up"]
    )


@promise("`restore --adopt` puts a restored instance in place of the stack's, and keeps the old one")
def test_adoption_exchanges_the_names_and_the_id_in_the_state(site: Site) -> None:
    document = site.adopt()
    assert _is_adopted(site)
    assert site.stack.done == ["edit", "refresh", "guard", "up"]
    assert site.stack.backup == Path("before.json")
    resource = site.stack.deployment["resources"][0]
    assert resource["outputs"]["resourceId"] == site.new["DbiResourceId"]
    assert document["kept"] == f"{NAME}-before"
    assert site.account.named(f"{NAME}-before")["DeletionProtection"]


def test_adopted_instance_has_its_password_managed_by_rds_with_the_same_key(site: Site) -> None:
    site.adopt()
    assert site.account.named(NAME)["MasterUserSecret"]["SecretStatus"] == "active"


@pytest.mark.parametrize("site", [{"replicas": 2, "is_managed": False}], indirect=True)
def test_adoption_creates_replicas_again_and_sets_the_stacks_password(site: Site) -> None:
    old = site.account.named(f"{NAME}-replica-1")["DbiResourceId"]
    site.adopt()
    assert _is_adopted(site)
    assert site.account.named(f"{NAME}-replica-1")["DbiResourceId"] != old
    assert site.account.named(NAME)["password"] == "of-postgres-admin"


@promise("copies of backups continue with the restored instance after `restore --adopt`")
def test_copies_of_the_replaced_instance_are_stopped(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The refresh then removes them from the state, so that `up` begins new ones."""
    regions = []

    def client_in(_: Instance, region: str) -> Any:
        regions.append(region)
        return client

    monkeypatch.setattr(Instance, "client_in", client_in)
    for calls in count(1, scaled(6, 1)):
        accounts.append(FakeRds(lag=1))
        site = Site(client, accounts[-1])
        copies = "arn:aws:rds:eu-west-1:123456789012:auto-backup:ab-0a1b"
        site.old["DBInstanceAutomatedBackupsReplications"] = [{"DBInstanceAutomatedBackupsArn": copies}]
        was_killed = _killed_after(site, calls)
        site.adopt()
        assert _is_adopted(site)
        assert site.account.calls.count("StopDBInstanceAutomatedBackupsReplication") >= 1
        assert site.old["DBInstanceAutomatedBackupsReplications"] == []
        if not was_killed:
            break
    assert set(regions) == {"eu-west-1"}


def test_unreachable_redis_prints_the_command_that_invalidates_the_cache(site: Site) -> None:
    document = site.adopt()
    command = "groundwork cache flush --all --yes --confirm prod --stack prod"
    assert document["flush"] == command
    assert f"  {command}" in rds_commands.adoption_lines(document)


def test_reachable_redis_needs_no_command(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[object] = []
    monkeypatch.setattr(rds_commands, "invalidate_namespaces", flushed.append)
    document = site.adopt()
    assert document["flush"] is None
    assert len(flushed) == 1
    assert len(rds_commands.adoption_lines(document)) == 1


def test_each_step_is_announced(site: Site) -> None:
    site.adopt()
    announced = [line for line in site.said if not line.startswith(("the password of", NAME))]
    assert announced[:4] == [
        f"setting the administrator's password of {RESTORED}",
        f"renaming {NAME} to {NAME}-before",
        f"renaming {RESTORED} to {NAME}",
        f"replacing {site.old['DbiResourceId']} with {site.new['DbiResourceId']} in Pulumi's state",
    ]


def test_consequence_names_the_time_the_kept_instance_and_the_replicas(client: Any) -> None:
    accounts.append(FakeRds())
    site = Site(client, accounts[-1], replicas=1)
    said = site.find().consequence
    for part in ("2026-03-01T02:50:00Z", f"{NAME}-before", f"{NAME}-replica-1", "20 minutes"):
        assert part in said


@pytest.mark.parametrize(
    ("change", "reason", "code"),
    [
        ({"KmsKeyId": "other"}, "its encryption key is other, not key", Exit.REFUSED),
        ({"EngineVersion": "16.1"}, "its major version is 16, not 15", Exit.REFUSED),
        ({"MasterUsername": "postgres"}, "its administrator is postgres", Exit.REFUSED),
        ({"DBSubnetGroup": {"DBSubnetGroupName": "x"}}, "its subnet group is x", Exit.REFUSED),
        ({"Endpoint": {"Address": "x", "Port": 5432}}, "uses port 5432", Exit.REFUSED),
        ({"ReadReplicaSourceDBInstanceIdentifier": NAME}, "is a read replica of", Exit.REFUSED),
    ],
    ids=["key", "version", "administrator", "subnets", "port", "replica"],
)
def test_instance_that_cannot_replace_the_stacks_is_refused(
    site: Site, change: dict[str, Any], reason: str, code: Exit
) -> None:
    site.new.update(change)
    with pytest.raises(OpsError, match=reason) as refused:
        site.find()
    assert refused.value.exit_code == code
    assert [call for call in site.account.calls if not call.startswith("Describe")] == site.stack.done == []


def test_other_refusals_change_nothing(site: Site) -> None:
    with pytest.raises(OpsError, match="is the stack's own instance") as refused:
        site.find(NAME)
    assert refused.value.exit_code == Exit.USAGE
    with pytest.raises(OpsError, match="DBInstanceNotFound") as refused:
        site.find("mistyped")
    assert refused.value.exit_code == Exit.UNREACHABLE
    site.account.add(f"{NAME}-before")
    with pytest.raises(OpsError, match=f"{NAME}-before exists, .*; delete or rename") as refused:
        site.find()
    assert refused.value.exit_code == Exit.REFUSED
    site.stack.deployment["resources"][0]["id"] = "db-other"
    site.account.instances.popitem()
    with pytest.raises(OpsError, match="the state of stack 'prod' has instance db-other") as refused:
        site.find()
    assert refused.value.exit_code == Exit.MISMATCH
    site.stack.deployment["resources"].clear()
    with pytest.raises(OpsError, match="has no RDS instance; run `groundwork up --stack prod`") as refused:
        site.find()
    assert refused.value.exit_code == Exit.UNREACHABLE
    assert [call for call in site.account.calls if not call.startswith("Describe")] == site.stack.done == []


def test_state_that_another_command_changed_is_not_overwritten(site: Site) -> None:
    adoption = site.find()
    site.stack.deployment["resources"][0]["id"] = "db-other"
    with pytest.raises(OpsError, match="another command has changed it"):
        adoption.change_state(Path("before.json"), site.said.append)
    assert site.state_id == "db-other"


def test_adopting_again_changes_no_instance(site: Site) -> None:
    site.adopt()
    site.account.calls.clear()
    site.stack.done.clear()
    site.adopt()
    assert "ModifyDBInstance" not in site.account.calls
    assert site.stack.done == ["refresh", "guard", "up"]


def _killed_after(site: Site, calls: int) -> bool:
    """Adopt, and stop after a number of calls of RDS or Pulumi. Return whether the adoption was stopped."""
    left = calls

    def count_down(**_: Any) -> None:
        nonlocal left
        left -= 1
        if left <= 0:
            raise Killed

    events = site.instance.client.meta.events
    events.register("after-call.rds", count_down)
    site.stack.kill = count_down
    try:
        site.adopt()
    except Killed:
        return True
    finally:
        events.unregister("after-call.rds", count_down)
        site.stack.kill = lambda: None
    return False


@promise("the same `restore --adopt` resumes one that was killed at any step")
@pytest.mark.parametrize(
    "given", [{}, {"replicas": 1, "is_managed": False}], ids=["managed password", "replicas"]
)
def test_adoption_killed_after_any_call_is_completed_by_the_same_command(
    client: Any, given: dict[str, Any]
) -> None:
    seen = set()
    for calls in count(1, scaled(6, 1)):
        accounts.append(FakeRds(lag=1))
        site = Site(client, accounts[-1], **given)
        was_killed = _killed_after(site, calls)
        seen.add((frozenset(site.account.names()), site.state_id == site.new["DbiResourceId"]))
        site.adopt()
        assert _is_adopted(site), calls
        if not was_killed:
            break
    # Negative control: the kills left the stack before, between and after the two renames.
    assert len({names for names, _ in seen}) >= 3


def test_tag_of_the_replaced_instance_names_its_successor(site: Site) -> None:
    site.adopt()
    tags = {tag["Key"]: tag["Value"] for tag in site.account.named(f"{NAME}-before")["TagList"]}
    assert tags[REPLACED_BY] == f"{RESTORED}/{site.new['DbiResourceId']}"
    assert rds_adoption.REPLACED_BY not in str(site.account.named(NAME)["TagList"])
