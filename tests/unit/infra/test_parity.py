"""docs/parity.md: it contains every setting and parameter, gives reasons for differences, and is up to date."""

from __future__ import annotations

from infra.settings import AWS, DOCKER, StackSettings
from infra.spec import elasticache, postgres, rds, redis
from infra.spec.parity.entry import NONE
from infra.spec.parity.parameters import postgres_parameters, redis_parameters
from infra.spec.parity.properties import PROPERTIES
from infra.spec.parity.settings import SETTINGS
from scripts import render_parity
from tests.cases import in_case
from tests.promises import promise

EVERY = {
    **PROPERTIES,
    **{f"setting {name}": row for name, row in SETTINGS.items()},
    **{f"parameter {name}": row for name, row in postgres_parameters().items()},
    **{f"directive {name}": row for name, row in redis_parameters().items()},
}


@promise("every setting and parameter has a row, with a reason only if the targets differ")
def test_settings_and_rows_match() -> None:
    assert list(SETTINGS) == [setting.key for setting in StackSettings.declarations()]


def test_a_setting_has_no_effect_on_the_other_target() -> None:
    for setting in StackSettings.declarations():
        row = SETTINGS[setting.key]
        assert row.docker.startswith(NONE) == (DOCKER not in setting.targets), setting.key
        assert row.aws.startswith(NONE) == (AWS not in setting.targets), setting.key


def test_the_page_has_a_row_for_every_setting_and_parameter_of_postgres() -> None:
    parameters = {*postgres.parameters(1024**3, 100), *rds.parameters(1024**3, 100)}
    page = render_parity.page()
    names = [*(setting.key for setting in StackSettings.declarations()), *parameters]
    assert [name for name in names if f"\n| `{name}` |" not in page] == []


def test_every_directive_of_redis_has_a_row() -> None:
    for persistence in redis.PERSISTENCE:
        with in_case(persistence):
            directives = redis.configuration(
                maxmemory_bytes=1, eviction_policy="noeviction", persistence=persistence
            )
            parameters = elasticache.parameters(
                elasticache.ENGINES[elasticache.DEFAULT_ENGINE],
                eviction_policy="noeviction",
                reserved_percent=25,
            )
            assert {*directives, *parameters} <= redis_parameters().keys()


def test_each_parameter_that_rds_sets_itself_has_a_reason() -> None:
    rows = postgres_parameters()
    assert [name for name in rds.OWN_OF_RDS if not rows[name].why] == []


def test_a_parameter_of_both_targets_has_the_same_value() -> None:
    rows = postgres_parameters()
    names = rds.parameters(1024**3, 100).keys() & postgres.parameters(1024**3, 100).keys()
    assert [name for name in names if rows[name].docker != rows[name].aws] == []


@promise("every setting and parameter has a row, with a reason only if the targets differ")
def test_a_row_has_a_reason_if_and_only_if_the_targets_differ() -> None:
    assert [name for name, row in EVERY.items() if bool(row.why) != (row.docker != row.aws)] == []


def test_a_setting_named_as_the_counterpart_belongs_to_that_target() -> None:
    import re

    targets = {setting.key: setting.targets for setting in StackSettings.declarations()}
    for key, row in SETTINGS.items():
        for side, target in ((row.docker, DOCKER), (row.aws, AWS)):
            if side.startswith(NONE):
                for named in re.findall(r"`([a-z]+[A-Z]\w*)`", side):
                    assert target in targets[named], key


def test_every_command_that_elasticache_reserves_is_named() -> None:
    for command in sorted(elasticache.RESTRICTED_COMMANDS):
        with in_case(command):
            assert any(command in row.aws for row in PROPERTIES.values()) or command == "config|set"


def test_no_cell_contains_an_unescaped_bar() -> None:
    for line in render_parity.page().splitlines():
        if line.startswith("|"):
            assert line.replace(r"\|", "").count("|") == 5, line


def test_the_page_is_rendered_from_the_data() -> None:
    assert render_parity.PAGE.read_text() == render_parity.page()
