"""Every command that prints foreign text, with hostile text: none of it reaches the terminal as it was written.

The cases replace what asks a server, Docker or Pulumi. A new command needs a case here, or a reason to have none.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
from msgspec import structs

from db.migrator.catalog import Drift
from db.migrator.errors import LedgerMismatch, ScriptFailed
from infra import outputs
from infra.settings import StackSettings
from ops import cli
from ops.chaos.outcome import FaultOutcome, LoadOutcome, Run
from ops.chaos.plan import Step
from ops.doctor.check_result import CheckResult, CheckStatus
from ops.errors import OpsError
from ops.migrations.plan import MigrationPlan, PendingPlan
from ops.migrations.verification import Verification
from ops.servers.errors import ServerUnreachable
from ops.stack.adoption import Adoption
from ops.stack.cluster import Member
from ops.stack.database_url import SelectedDatabase
from ops.stack.redis_cluster import RedisRow
from ops.toolchain.prune import Item
from ops.top.snapshot import Cache
from tests.cases import in_case
from tests.policy_stack import changed, good_stack, preview
from tests.promises import promise
from tests.unit.documentation.pages import ROOT
from tests.unit.pull_request import inputs
from tests.unit.top.snapshots import session, snapshot, statement

# A terminal's title, clear screen, C1 CSI, text directions, an invisible character, backspace, CR, a forged line, and
# an invalid byte.
HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e\u2066\u200b\x08\r\ngroundwork: forged\udcff"
FORGED = b"groundwork: forged"
SHOWN = b"\\u202e\\u2066\\u200b"
RAW = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")

Patches = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A command line and what is replaced for it. `keeps_lines`: it prints another program's lines as they are."""

    arguments: str
    patches: Patches = field(default_factory=dict)
    keeps_lines: bool = False
    is_json: bool = False
    files: dict[str, str] = field(default_factory=dict)


def answers(value: Any) -> Callable[..., Any]:
    return lambda *_, **__: value


def fails(error: BaseException) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


def says(result: Any, keyword: str) -> Callable[..., Any]:
    """Report hostile progress to the argument `keyword` (or to the argument with this index), and return the result."""

    def run(*positional: Any, **named: Any) -> Any:
        (positional[int(keyword)] if keyword.isdigit() else named[keyword])(HOSTILE)
        return result

    return run


class Server(SimpleNamespace):
    def __str__(self) -> str:
        return HOSTILE


MIGRATION = SimpleNamespace(
    version=7, name=HOSTILE, description=HOSTILE, up=SimpleNamespace(phase="expand", path=Path("x"))
)
LEDGER_ROW = SimpleNamespace(
    version=1, description=HOSTILE, installed_on=datetime(2026, 1, 1, tzinfo=UTC), checksum=b"", execution_time=1,
)  # fmt: skip
PROBLEM = LedgerMismatch(HOSTILE, version=1)
FAILURE = ScriptFailed(HOSTILE, HOSTILE, path=Path("x"), line=1, statement=HOSTILE, sqlstate=None)
STATUS = SimpleNamespace(
    version=1, applied=(LEDGER_ROW,), pending=(MIGRATION,), interrupted=(), out_of_order=(),
    problems=(PROBLEM,), problem_lines=lambda: [(1, HOSTILE)], absence=HOSTILE,
)  # fmt: skip
STATEMENT = SimpleNamespace(
    line=1, text=HOSTILE, locks=(), rewrites=(HOSTILE,), scans=(), as_json=lambda: HOSTILE
)
PLAN = PendingPlan(
    version=1, has_target=True, has_squawk=False, rows={},
    migrations=(MigrationPlan(7, HOSTILE, True, False, (STATEMENT,), ()),),  # type: ignore[arg-type]
)  # fmt: skip
ROWS = [
    {
        "service": service, "container": HOSTILE, "health": "healthy", "isRunning": True, "address": HOSTILE,
        "memoryLimitBytes": 1,
    }
    for service in ("postgres", "redis", "access")
]  # fmt: skip
CHECKS = [(SimpleNamespace(name="locks"), CheckResult(CheckStatus.FAIL, HOSTILE, HOSTILE, (HOSTILE,)))]
RESOURCE = SimpleNamespace(name=HOSTILE)
OUTPUTS = {
    outputs.POSTGRES: {"host": HOSTILE, "port": 1}, outputs.REDIS: {"host": HOSTILE, "port": 1},
    outputs.TARGET: "docker", outputs.ACCESS_URL: HOSTILE, outputs.CA_FILE: HOSTILE,
}  # fmt: skip
SNAPSHOTS = {
    "backups": [{"label": HOSTILE, "type": HOSTILE, "status": HOSTILE, "sizeBytes": 1, "createdAt": HOSTILE}],
    "windows": [{"from": HOSTILE, "to": HOSTILE}],
}
ENTRY = {
    "entity": "user", "id": 1, "state": "value", "schema": 1,
    "entries": [{"key": HOSTILE, "state": "value", "value": {"name": HOSTILE[:-1]},
                 "stamp": HOSTILE, "reason": HOSTILE}],
}  # fmt: skip
STATS = {
    "server": {
        "version": HOSTILE, "uptimeSeconds": 1, "clients": 1, "hitRate": None, "hits": 1, "misses": 1, "usedMemory": 1,
        "maxMemory": 0, "evictionPolicy": HOSTILE, "fragmentation": 1, "keys": 1, "evicted": 0, "expired": 0,
    },
    "redis": HOSTILE, "namespace": HOSTILE, "epoch": HOSTILE,
    "sample": {"keys": 1, "share": 1, "leases": 0}, "entities": {}, "reads": None,
}  # fmt: skip
KEYS = SimpleNamespace(key=HOSTILE, ttl_seconds=1.0, bytes=1)
DRILL = SimpleNamespace(
    checks={"rows": SimpleNamespace(name="rows", ok=False, detail=HOSTILE)}, rto_seconds=1.0, rpo_seconds=1.0, ok=False,
    failures=[SimpleNamespace(name="rows", detail=HOSTILE)], document=lambda: {"detail": HOSTILE},
)  # fmt: skip
CHAOS_RUN = Run("dev", 1, 0.0, HOSTILE, has_replicas=False)
CHAOS_RUN.faults = [
    FaultOutcome(Step(1, "kill", HOSTILE, 1), HOSTILE, 1.0, note=HOSTILE, problem=HOSTILE, took_effect=True)
]
CHAOS_RUN.skipped, CHAOS_RUN.left = [(Step(2, "kill", HOSTILE, 1), HOSTILE)], [HOSTILE]
CHAOS_RUN.load = LoadOutcome(errors=[(1.0, HOSTILE)])
CACHE = {
    "ops.cache.server.open_cache_server": answers(
        nullcontext(Server(stack=None, redis=None, namespace=HOSTILE, description=HOSTILE))
    )
}
URL = {"ops.stack.database_url.select_database": answers(SelectedDatabase("postgresql://x", HOSTILE))}
FILES = {"db.migrator.read_source": answers((MIGRATION,))}
UNLOCKED = {
    "ops.backup.workbench.refuse_during_restore": answers(None),
    "ops.stack.change_lock.changing": answers(nullcontext()),
}
STACK = {
    "ops.stack.pulumi_stack.PulumiStack.refuse_another_state": answers(None),
    "ops.stack.pulumi_stack.PulumiStack.prepare": answers(
        SimpleNamespace(target="docker", postgres_replicas=0, token_key_ids=["k1"])
    ),
    "ops.stack.pulumi_stack.PulumiStack.check_settings": answers(
        SimpleNamespace(target="docker", migrations_folder="db/migrations", connection_limits={})
    ),
    "ops.stack.pulumi_stack.PulumiStack.exists": property(answers(True)),
    "ops.stack.pulumi_stack.PulumiStack.public_outputs": answers(OUTPUTS),
    "ops.stack.pulumi_stack.Recorded.containers": answers([]),
    "ops.stack.pulumi_stack.Recorded.lacks_a_container": answers(False),
    "ops.stack.pulumi_stack.Recorded.is_incomplete": answers(False),
    "ops.stack.pulumi_stack.Recorded.lost_volumes": answers([HOSTILE]),
    "ops.stack.pulumi_stack.start_stopped": says(None, "2"),
    "ops.stack.pulumi_stack.require_healthy": says(None, "2"),
    "ops.stack.pulumi_stack.PulumiStack._go_on_from_a_killed_run": answers(None),
    "ops.stack.pulumi_stack.PulumiStack._urns_without_data": answers(["urn"]),
    "ops.stack.pulumi_stack.PulumiStack.require_known": answers(None),
    "ops.stack.pulumi_stack.ownership.remove_leftovers": answers([HOSTILE]),
    "ops.toolchain.provision.ensure": answers(None),
    **UNLOCKED,
}
CONTAINERS = {
    "ops.stack.stack_status.container_rows": answers(ROWS),
    "ops.stack.stack_status.server_roles": answers({"postgres": HOSTILE}),
}
# Not `Instance`: the stack is on this machine.
# Columns are cropped, and the last line is not.
SNAPSHOT = structs.replace(
    snapshot(
        sessions=(session(1, login=HOSTILE, application=HOSTILE, statement=HOSTILE),),
        statements=(statement(HOSTILE, login=HOSTILE),),
    ),
    cache=Cache(source=HOSTILE),
)
TOP = {
    "ops.servers.monitored_stack.MonitoredStack.of": answers(None),
    "ops.top.collector.Collector": answers(
        SimpleNamespace(read_twice=answers(None), snapshot=answers(SNAPSHOT))
    ),
}
SITE = UNLOCKED | {
    "ops.backup.rds.Instance.of": answers(None),
    "ops.backup.site.BackupSite.of": answers(None),
}
ON_RDS = {"ops.backup.rds.Instance.of": answers(SimpleNamespace(stack=HOSTILE, require_window=answers(None)))}
ADOPTED = {"instance": HOSTILE, "kept": HOSTILE, "flush": HOSTILE}
ROTATED = {
    "ops.commands.rotate._running": answers(nullcontext()),
    "ops.rotation.subject.RotatedStack.roles": answers(("app",)),
    "ops.rotation.subject.RotatedStack.wanted": answers(None),
    "ops.commands.rotate._refuse_on_aws": answers(None),
}
_STORED = next(each for each in good_stack() if each.name == "postgres")
_CHANGED = changed(good_stack(), "postgres", multiAz=False)
PREVIEW = json.dumps(preview(good_stack(), _CHANGED)).replace(
    _STORED.urn, _STORED.urn + json.dumps(HOSTILE)[1:-1]
)
COMMENTED = inputs.preview(inputs.step("create", HOSTILE))

CASES = [
    Case(
        "up",
        STACK
        | {
            "docker": HOSTILE,
            "pulumi": HOSTILE,
            "ops.stack.stack_status.old_packages": answers({HOSTILE: 45}),
        },
        keeps_lines=True,
    ),
    Case("preview", STACK | {"pulumi": HOSTILE}, keeps_lines=True),
    Case(
        "preview --json",
        STACK | {"pulumi": json.dumps({"a": HOSTILE[:-1]}, ensure_ascii=False)},
        is_json=True,
    ),
    Case("down --yes", STACK | {"pulumi": HOSTILE}, keeps_lines=True),
    Case(
        "adopt --stack dev",
        STACK
        | {
            "ops.servers.scratch_server.ensure_docker": answers(None),
            "ops.stack.stack_status.refuse_on_aws": answers(None),
            "ops.stack.adoption.Adoption.of": answers(
                Adoption(None, "dev", (RESOURCE,), (RESOURCE,), (), (RESOURCE,), RESOURCE)  # type: ignore[arg-type]
            ),
        },
    ),
    Case("status", STACK | CONTAINERS),
    Case("status --json", STACK | CONTAINERS, is_json=True),
    Case(
        "cluster status --service postgres",
        UNLOCKED
        | {
            "ops.stack.cluster.Cluster.of": answers(
                SimpleNamespace(members=answers([Member(HOSTILE, HOSTILE, HOSTILE, HOSTILE)]))
            )
        },
    ),
    Case(
        "cluster status --service redis",
        {
            "ops.stack.redis_cluster.RedisCluster.of": answers(
                SimpleNamespace(members=answers([RedisRow(HOSTILE, HOSTILE, HOSTILE, HOSTILE, False)]))
            )
        },
    ),
    Case(
        "cluster failover --service redis --yes",
        {"ops.stack.redis_cluster.RedisCluster.of": fails(OpsError(HOSTILE))},
    ),
    Case(
        "cluster switchover --service redis --yes",
        {"ops.stack.redis_cluster.RedisCluster.of": fails(OpsError(HOSTILE))},
    ),
    Case("cluster switchover --yes", {"ops.stack.cluster.Cluster.of": fails(OpsError(HOSTILE))}),
    Case(
        "cluster failover --yes",
        UNLOCKED
        | {
            "ops.stack.cluster.Cluster.of": answers(
                SimpleNamespace(
                    successor=answers(Member(HOSTILE, HOSTILE, HOSTILE, HOSTILE)), fail_over=answers(None)
                )
            )
        },
    ),
    Case(
        "cluster reinit postgres-2 --yes",
        UNLOCKED
        | {
            "ops.stack.cluster.Cluster.of": answers(
                SimpleNamespace(require_copyable=answers([]), copy_again=says(None, "1"))
            )
        },
    ),
    Case("env --format shell", {"ops.stack.connections.environment_of": answers({HOSTILE: HOSTILE})}),
    Case(
        "env --format json", {"ops.stack.connections.environment_of": answers({"A": HOSTILE})}, is_json=True
    ),
    Case(
        "shellenv",
        {
            "ops.toolchain.pulumi_environment.variables": answers({HOSTILE: "x"}),
            "ops.toolchain.stack_init.ensure": answers(None),
        },
    ),
    Case(
        "logs --service postgres",
        {"ops.commands.container_tools._rows": answers(ROWS), "docker": HOSTILE},
        keeps_lines=True,
    ),
    Case(
        "logs --service postgres --follow",
        {"ops.commands.container_tools._rows": answers(ROWS), "docker": HOSTILE},
        keeps_lines=True,
    ),
    Case("psql", {"ops.commands.container_tools._rows": fails(OpsError(HOSTILE))}),
    Case("redis-cli", {"ops.commands.container_tools._rows": fails(OpsError(HOSTILE))}),
    Case("migrate status", URL | FILES | {"db.migrator.status": answers(STATUS)}),
    Case("migrate status --json", URL | FILES | {"db.migrator.status": answers(STATUS)}, is_json=True),
    Case(
        "migrate up",
        URL | FILES | {"db.migrator.apply_pending": fails(FAILURE)},
    ),
    Case("migrate up --json", URL | FILES | {"db.migrator.apply_pending": fails(PROBLEM)}, is_json=True),
    Case("migrate down --yes", URL | FILES | {"db.migrator.revert": fails(FAILURE)}),
    Case("migrate reset --yes", {"ops.stack.reset.require_resettable": fails(OpsError(HOSTILE))}),
    Case("migrate new x", {"db.migrator.new_migration": answers([HOSTILE])}),
    Case("migrate new x --json", {"db.migrator.new_migration": answers([HOSTILE])}, is_json=True),
    Case("new entity x", {"ops.entity.specification.specify": fails(OpsError(HOSTILE))}),
    Case(
        "migrate repair",
        URL
        | FILES
        | {
            "db.migrator.repair_checksums": answers(
                [SimpleNamespace(version=1, name=HOSTILE, action=HOSTILE, detail=HOSTILE)]
            )
        },
    ),
    Case(
        "migrate baseline 1 --unchecked",
        URL
        | FILES
        | {
            "db.migrator.record_baseline": answers([MIGRATION]),
            "db.migrator.connection.require_login": answers(None),
            "db.migrator.source.require_version": answers(MIGRATION),
        },
    ),
    Case(
        "migrate lint --no-squawk",
        FILES
        | {
            "db.migrator.lint_migrations": answers(
                [SimpleNamespace(path=Path(HOSTILE), line=1, rule=HOSTILE, message=HOSTILE)]
            )
        },
    ),
    Case("migrate plan --from-scratch", FILES | {"ops.migrations.plan.plan_from": answers(PLAN)}),
    Case("migrate plan --from-scratch --markdown", FILES | {"ops.migrations.plan.plan_from": answers(PLAN)}),
    Case(
        "migrate rehearse --url x",
        URL | FILES | {"ops.migrations.rehearsal.rehearsal.rehearse": fails(OpsError(HOSTILE))},
    ),
    Case(
        "migrate verify",
        URL
        | FILES
        | {
            "ops.migrations.verification.verify": answers(
                Verification(STATUS, (Drift("different", HOSTILE, HOSTILE, None),))  # type: ignore[arg-type]
            )
        },
    ),
    Case(
        "bootstrap --admin-secret x --connection-limits {}",
        {
            "ops.commands.bootstrap._limits": answers({}),
            "db.settings.DatabaseSettings.from_environment": answers(SimpleNamespace(unbounded_conninfo="")),
            "ops.bootstrap.AdministratorLogin.from_secret": answers(None),
            "ops.bootstrap.bootstrap": says(None, "notify"),
        },
    ),
    Case(
        "backup",
        ON_RDS
        | {
            "ops.backup.rds.Instance.of": answers(SimpleNamespace(take=says({}, "0"))),
            "ops.backup.rds_commands.snapshot_row": answers({"label": HOSTILE}),
        },
    ),
    Case("backup list", ON_RDS | {"ops.backup.rds_commands.listing": answers(SNAPSHOTS)}),
    Case(
        "backup list --json", ON_RDS | {"ops.backup.rds_commands.listing": answers(SNAPSHOTS)}, is_json=True
    ),
    Case("restore --abandon", SITE | {"ops.backup.restore.abandon": says(None, "1")}),
    Case(
        "restore --adopt x --yes",
        ON_RDS
        | UNLOCKED
        | {
            "ops.toolchain.provision.ensure": answers(None),
            "ops.backup.rds_adoption.Adoption.of": answers(SimpleNamespace(new="x")),
            "ops.backup.rds_commands.adopt": says(ADOPTED, "3"),
        },
    ),
    Case("drill", SITE | {"ops.backup.drill.drill": says(DRILL, "2")}),
    Case("drill --json", SITE | {"ops.backup.drill.drill": answers(DRILL)}, is_json=True),
    Case("seed", URL | {"ops.commands.seed.require_database": fails(ServerUnreachable(HOSTILE))}),
    Case("import gharchive --dry-run FOREIGN", files={"FOREIGN": "x"}),
    Case("cache get user 1", CACHE | {"ops.cache.entry.entry_of": answers(ENTRY)}),
    Case("cache get user 1 --json", CACHE | {"ops.cache.entry.entry_of": answers(ENTRY)}, is_json=True),
    Case("cache keys", CACHE | {"cache.inspection.list_matching": answers(([KEYS], False))}),
    Case(
        "cache keys --json",
        CACHE | {"cache.inspection.list_matching": answers(([KEYS], False))},
        is_json=True,
    ),
    Case("cache stats --metrics-url x", CACHE | {"ops.cache.stats.stats": answers(STATS)}),
    Case(
        "cache flush --all --yes",
        CACHE | {"ops.cache.flush.flush": says(SimpleNamespace(scope="all", keys=1, seconds=1.0), "say")},
    ),
    Case(
        "cache warm",
        {
            "ops.cache.warming.choose_servers": answers((None, None)),
            "ops.cache.warming.warm_from_here": answers({HOSTILE: 1}),
        },
    ),
    Case(
        "tokens rotate",
        {
            "ops.rotation.tokens.token_keys": answers(None),
            "ops.rotation.tokens.rotate_tokens": answers(SimpleNamespace(unreadable=[HOSTILE])),
        },
    ),
    Case(
        "rotate passwords app --yes",
        ROTATED | {"ops.rotation.passwords.rotate_passwords": fails(OpsError(HOSTILE))},
    ),
    Case(
        "rotate certificates --yes",
        ROTATED | {"ops.rotation.certificates.rotate_certificates": fails(OpsError(HOSTILE))},
    ),
    Case(
        "rotate status",
        ROTATED
        | {
            "ops.rotation.report.report_on": answers(
                SimpleNamespace(as_lines=answers([HOSTILE]), mismatches=(HOSTILE,), due=())
            )
        },
    ),
    Case("policy check --plan FOREIGN", files={"FOREIGN": PREVIEW}),
    Case("policy check --json --plan FOREIGN", files={"FOREIGN": PREVIEW}, is_json=True),
    Case("policy firewall --plan FOREIGN", files={"FOREIGN": "x"}),
    Case(
        "sql check --offline",
        {
            "ops.sql_check.lockfile.offline_problems": answers([HOSTILE]),
            "ops.sql_check.lockfile.stale_grants": answers([]),
        },
    ),
    Case(
        "doctor",
        {
            "ops.servers.monitored_stack.MonitoredStack.of": answers(None),
            "ops.doctor.runner.examine": answers(CHECKS),
            "ops.doctor.examination.Examination": answers(SimpleNamespace(close=answers(None))),
        },
    ),
    Case(
        "doctor --json",
        {
            "ops.servers.monitored_stack.MonitoredStack.of": answers(None),
            "ops.doctor.runner.examine": answers(CHECKS),
            "ops.doctor.examination.Examination": answers(SimpleNamespace(close=answers(None))),
        },
        is_json=True,
    ),
    Case("report --markdown - --preview prod=FOREIGN", files={"FOREIGN": COMMENTED}),
    Case(
        "report --json", {"ops.servers.monitored_stack.MonitoredStack.of": fails(ServerUnreachable(HOSTILE))}
    ),
    Case("top --once", TOP),
    Case("top --once --json", TOP, is_json=True),
    Case(
        "chaos --yes",
        {
            "ops.stack.pulumi_stack.PulumiStack.check_settings": answers(StackSettings(allow_chaos=True)),
            "ops.stack.connections.environment_of": fails(OpsError(HOSTILE)),
        },
    ),
    Case(
        "chaos --yes --seed 1",
        {
            "ops.stack.pulumi_stack.PulumiStack.check_settings": answers(StackSettings(allow_chaos=True)),
            "ops.commands.chaos._run": answers(CHAOS_RUN),
        },
    ),
    Case(
        "chaos --yes --seed 1 --json",
        {
            "ops.stack.pulumi_stack.PulumiStack.check_settings": answers(StackSettings(allow_chaos=True)),
            "ops.commands.chaos._run": answers(CHAOS_RUN),
        },
        is_json=True,
    ),
    Case("chaos stop", {"ops.stack.pulumi_stack.PulumiStack.require_known": fails(OpsError(HOSTILE))}),
    Case("size --users 1 --reads 1 --writes 1 --prices FOREIGN", files={"FOREIGN": "x"}),
    Case("serve", {"ops.serve.logs.configure_logging": fails(OpsError(HOSTILE))}),
    Case("prune", {"ops.toolchain.prune.find_items": says([Item("image", HOSTILE, 1, HOSTILE)], "1")}),
    Case(
        "prune --json",
        {"ops.toolchain.prune.find_items": answers([Item("image", HOSTILE, 1, HOSTILE)])},
        is_json=True,
    ),
    Case(
        "toolchain --check",
        {
            "ops.toolchain.provision.inspect": answers(
                [SimpleNamespace(name="go", version=HOSTILE, source=HOSTILE, seconds=0, where=HOSTILE)]
            )
        },
    ),
]
# Commands that print no foreign text.
NO_FOREIGN_TEXT = {
    "policy list": "the rules are groundwork's own",
    "completion": "click's script",
    "test-servers": "the user's own command",
}


@dataclass(frozen=True)
class Printed:
    out: bytes
    err: bytes


Run = Callable[[Case], Printed]


def program(text: str) -> str:
    """Return a program that prints text on both outputs."""
    raw = text.encode("utf-8", "surrogateescape")
    return f"#!{sys.executable}\nimport os\nos.write(1, {raw!r})\nos.write(2, {b'' if text[0] == '{' else raw!r})\n"


@pytest.fixture
def run(tmp_path_factory: pytest.TempPathFactory, capfdbinary: pytest.CaptureFixture[bytes]) -> Run:
    """Run a case as the `groundwork` command."""

    def run_(case: Case) -> Printed:
        with pytest.MonkeyPatch.context() as monkeypatch:
            return patched(case, monkeypatch)

    def patched(case: Case, monkeypatch: pytest.MonkeyPatch) -> Printed:
        tmp_path = tmp_path_factory.mktemp("case")
        folder = tmp_path / "programs"
        folder.mkdir()
        for name in ("docker", "pulumi"):
            if name in case.patches:
                (folder / name).write_text(program(case.patches[name]))
                (folder / name).chmod(0o755)
        monkeypatch.setenv("PATH", str(folder), prepend=":")
        # The checkout may have a stack of its own, with another answer.
        monkeypatch.setenv("GROUNDWORK_STATE", str(tmp_path / "state"))
        monkeypatch.setattr(
            "ops.stack.pulumi_stack.environment", answers({"PATH": f"{folder}:/bin:/usr/bin"})
        )
        for name, value in case.patches.items():
            if "." in name:
                monkeypatch.setattr(name, value)
        arguments = case.arguments.split()
        for name, text in case.files.items():
            # The file's own name is hostile too.
            path = tmp_path / HOSTILE.replace("/", "")
            path.write_text(text)
            arguments = [argument.replace(name, str(path)) for argument in arguments]
        with pytest.raises(SystemExit):
            cli.main(arguments)
        said = capfdbinary.readouterr()
        return Printed(said.out, said.err)

    return run_


def problems(printed: Printed, *, keeps_lines: bool = False) -> list[str]:
    """Return what is wrong with a command's output, after foreign text was given to it."""
    found = []
    text = (printed.out + printed.err).decode("utf-8", "surrogateescape")
    if raw := RAW.search(text):
        found.append(f"raw {raw[0]!r}")
    if re.search("[\ud800-\udfff]", text):
        found.append("an invalid byte")
    if not keeps_lines and any(line.startswith("groundwork: forged") for line in text.split("\n")):
        found.append("a forged line")
    if SHOWN not in printed.out + printed.err:
        found.append("the foreign text is missing")
    return found


def values(document: Any) -> Iterator[str]:
    if isinstance(document, dict):
        for key, value in document.items():
            yield key
            yield from values(value)
    elif isinstance(document, list):
        for value in document:
            yield from values(value)
    elif isinstance(document, str):
        yield document


@promise(
    "no command prints a control character, a bidirectional mark or an invalid byte that a stranger wrote"
)
@promise("a newline in a foreign value forges no line of a command's output")
def test_foreign_text_is_printed_escaped(run: Run) -> None:
    for case in CASES:
        with in_case(case.arguments):
            printed = run(case)
            assert problems(printed, keeps_lines=case.keeps_lines) == [], printed


@promise("escapes in JSON output give a JSON parser the original text")
def test_json_output_gives_a_parser_the_original_text(run: Run) -> None:
    for case in (case for case in CASES if case.is_json):
        with in_case(case.arguments):
            printed = run(case)
            assert any(HOSTILE[:-1] in value for value in values(json.loads(printed.out))), printed


@promise(
    "no command prints a control character, a bidirectional mark or an invalid byte that a stranger wrote",
    control=True,
)
@promise("a newline in a foreign value forges no line of a command's output", control=True)
@pytest.mark.parametrize(
    "arguments", ["cache get user 1", "migrate plan --from-scratch", "logs --service postgres"]
)
def test_without_escapes_the_same_commands_print_it_raw(
    run: Run, monkeypatch: pytest.MonkeyPatch, arguments: str
) -> None:
    monkeypatch.setattr("ops.output.escaped", lambda text, keep="": text.replace("\udcff", ""))
    (case,) = (case for case in CASES if case.arguments == arguments)
    assert {"raw '\\x1b'", "a forged line"} <= set(problems(run(case)))


def leaves(group: click.Group, name: str = "") -> Iterator[str]:
    context = click.Context(group)
    for each in group.list_commands(context):
        command = group.get_command(context, each)
        full = f"{name} {each}".strip()
        if isinstance(command, click.Group):
            if command.invoke_without_command:
                yield full
            yield from leaves(command, full)
        else:
            yield full


def test_every_command_has_a_case_or_a_reason_to_have_none() -> None:
    known = set(leaves(cli.cli))
    covered = {
        max((name for name in known if f"{case.arguments} ".startswith(f"{name} ")), key=len)
        for case in CASES
    }
    assert known - covered == NO_FOREIGN_TEXT.keys()


def test_no_program_inherits_the_terminal_unless_it_is_the_users_own() -> None:
    """A program's output is captured, or goes through ops.output."""
    inherited = []
    for path in sorted((ROOT / "ops").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            called = ast.unparse(node.func)
            if called.startswith("subprocess.") and called.partition(".")[2] in (
                "run",
                "Popen",
                "call",
                "check_call",
            ):
                given = {keyword.arg for keyword in node.keywords}
                if not ("capture_output" in given or {"stdout", "stderr"} <= given):
                    inherited.append(f"{path.relative_to(ROOT)}: {called}")
            if called in ("os.execvp", "os.execv", "os.system", "os.popen"):
                inherited.append(f"{path.relative_to(ROOT)}: {called}")
    assert inherited == [
        "ops/chaos/program_load.py: subprocess.Popen",
        "ops/commands/container_tools.py: os.execvp",
        "ops/commands/container_tools.py: subprocess.Popen",
        "ops/commands/test_servers.py: subprocess.run",
    ]
