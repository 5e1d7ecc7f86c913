"""docs/parity.md has everything that can be set, says why where the targets differ, and is what the data says."""

from __future__ import annotations

import pytest

from infra.settings import AWS, DOCKER, Setting, StackSettings
from infra.spec import elasticache, postgres, rds, redis
from infra.spec.parity.entry import NONE, Parity
from infra.spec.parity.parameters import postgres_parameters, redis_parameters
from infra.spec.parity.properties import PROPERTIES
from infra.spec.parity.settings import SETTINGS
from scripts import render_parity

EVERY = {
    **PROPERTIES,
    **{f"setting {name}": row for name, row in SETTINGS.items()},
    **{f"parameter {name}": row for name, row in postgres_parameters().items()},
    **{f"directive {name}": row for name, row in redis_parameters().items()},
}
declarations = pytest.mark.parametrize("setting", StackSettings.declarations(), ids=lambda s: s.key)


def test_every_setting_has_a_row_and_every_row_is_a_setting() -> None:
    assert list(SETTINGS) == [setting.key for setting in StackSettings.declarations()]


@declarations
def test_a_setting_of_one_target_is_nothing_on_the_other(setting: Setting) -> None:
    row = SETTINGS[setting.key]
    assert row.docker.startswith(NONE) == (DOCKER not in setting.targets)
    assert row.aws.startswith(NONE) == (AWS not in setting.targets)


@declarations
def test_the_page_has_a_row_for_a_setting(setting: Setting) -> None:
    assert f"\n| `{setting.key}` |" in render_parity.page()


@pytest.mark.parametrize("name", sorted({*postgres.parameters(1024**3, 100), *rds.parameters(1024**3, 100)}))
def test_the_page_has_a_row_for_a_parameter_of_postgres(name: str) -> None:
    assert f"\n| `{name}` |" in render_parity.page()


@pytest.mark.parametrize("persistence", redis.PERSISTENCE)
def test_every_directive_of_redis_has_a_row(persistence: str) -> None:
    directives = redis.configuration(maxmemory_bytes=1, eviction_policy="noeviction", persistence=persistence)
    parameters = elasticache.parameters(eviction_policy="noeviction", reserved_percent=25)
    assert {*directives, *parameters} <= redis_parameters().keys()


@pytest.mark.parametrize("name", sorted(rds.OWN_OF_RDS))
def test_what_rds_sets_itself_says_why(name: str) -> None:
    assert postgres_parameters()[name].why


@pytest.mark.parametrize(
    "name", sorted(rds.parameters(1024**3, 100).keys() & postgres.parameters(1024**3, 100).keys())
)
def test_a_parameter_that_both_have_is_the_same(name: str) -> None:
    row = postgres_parameters()[name]
    assert row.docker == row.aws


@pytest.mark.parametrize("name", EVERY)
def test_a_reason_stands_exactly_where_the_targets_differ(name: str) -> None:
    row: Parity = EVERY[name]
    assert bool(row.why) == (row.docker != row.aws)


def test_a_setting_named_as_the_counterpart_is_one_of_that_target() -> None:
    import re

    targets = {setting.key: setting.targets for setting in StackSettings.declarations()}
    for key, row in SETTINGS.items():
        for side, target in ((row.docker, DOCKER), (row.aws, AWS)):
            if side.startswith(NONE):
                for named in re.findall(r"`([a-z]+[A-Z]\w*)`", side):
                    assert target in targets[named], key


@pytest.mark.parametrize("command", sorted(elasticache.RESTRICTED_COMMANDS))
def test_a_command_that_elasticache_keeps_is_named(command: str) -> None:
    assert any(command in row.aws for row in PROPERTIES.values()) or command == "config|set"


def test_no_cell_ends_early() -> None:
    for line in render_parity.page().splitlines():
        if line.startswith("|"):
            assert line.replace(r"\|", "").count("|") == 5, line


def test_the_page_is_what_the_data_says() -> None:
    assert render_parity.PAGE.read_text() == render_parity.page()
