"""The calculator of `groundwork size`: its figures, its estimates, and its prices."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import pytest

from infra.spec.aws_sizes import DATABASE_CLASSES, vcpus
from infra.spec.errors import UnreadableFile
from ops import cli
from ops.errors import OpsError
from ops.sizing import estimate
from ops.sizing import text as sizing_text
from ops.sizing.estimate import Estimate, Load, advice, estimates
from ops.sizing.figures import Figures, Measured, read_figures
from ops.sizing.prices import read_prices
from tests.cases import in_case
from tests.promises import promise

PAGE = """
2 cores, Python 3.11

| measured | median | spread | bar | |
|---|---|---|---|---|
| feed page of 50 from Redis / redis-py GET + decode (83,542 bytes, one round trip) | 0.99 x | 0.98 to 1.00 | | |
| 90 % reads, throughput | 2000.00 ops/s | 1900.00 to 2100.00 |  |  |
| CPU time of a read, client (cashews 782.1 at best) | 400.00 us | 300.00 to 500.00 |  |  |
| CPU time of a read, servers | 100.00 us | 90.00 to 110.00 |  |  |
"""
FIGURES = Figures(Measured(3e-4, 4e-4, 5e-4), Measured(9e-5, 1e-4, 1.1e-4), 0.0055, 83_542)
PRICES = """
as_of = "2026-11-30"
currency = "EUR"
region = "made-up"
[hour]
"db.t4g.medium" = 0.1
"cache.t4g.small" = 0.05
"fargate.vcpu" = 0.04
"fargate.gb" = 0.01
[month]
"gp3.gb" = 0.5
"""
SMALL = Load(users=1000, reads=10, writes=1, retention_days=90)


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "benchmarks.md"
    path.write_text(PAGE)
    return path


@promise("size calculates with the figures of the last `make bench`")
def test_the_figures_are_those_of_the_page(page: Path) -> None:
    found = read_figures(page)
    assert found.read_application == Measured(pytest.approx(3e-4), pytest.approx(4e-4), pytest.approx(5e-4))
    # 2 cores at 2000 operations per second are 1 ms each. 90 % of them are reads of 0.5 ms.
    assert found.write == pytest.approx((0.001 - 0.9 * 0.0005) / 0.1)
    assert found.feed_bytes == 83_542
    # The repository's page has every row.
    assert read_figures().write > 0


@pytest.mark.parametrize(
    "gone", ["2 cores, ", "CPU time of a read, servers", "90 % reads, throughput", "83,542 bytes"]
)
def test_a_page_without_a_figure_is_refused_by_its_name(page: Path, gone: str) -> None:
    page.write_text(PAGE.replace(gone, "x"))
    with pytest.raises(OpsError, match="make bench"):
        read_figures(page)


def test_without_a_checkout_the_error_says_so(tmp_path: Path) -> None:
    with pytest.raises(OpsError, match="in a checkout"):
        read_figures(tmp_path / "none.md")


def test_cpu_is_the_cost_of_the_operations_and_half_of_it_stays_free() -> None:
    _, middle, _ = estimates(Load(1, reads=1000, writes=100, retention_days=1), FIGURES)
    assert middle.application_cores == pytest.approx((1000 * 4e-4 + 100 * 0.0055 / 2) / 0.5)
    assert middle.postgres_cores == pytest.approx((1000 * 1e-4 + 100 * 0.0055 / 2) / 0.5)


@promise("a larger load or a more careful estimate never needs less")
def test_more_load_never_needs_less() -> None:
    def needs(found: Estimate) -> list[float]:
        classes = [*estimate._CLASSES, None], [*estimate._NODES, None]
        return [
            found.application_cores, found.application_tasks, found.postgres_cores, found.postgres_memory,
            found.postgres_storage, found.postgres_connections, found.redis_memory, found.redis_cores,
            classes[0].index(found.postgres_class), classes[1].index(found.redis_node),
        ]  # fmt: skip

    before: list[list[float]] | None = None
    for factor in (0, 1, 10, 100, 1000, 100_000):
        found = [needs(each) for each in estimates(Load(1000 * factor + 1, 20 * factor, factor, 90), FIGURES)]
        for less, more in itertools.pairwise(found):
            assert all(a <= b for a, b in zip(less, more, strict=True))
        if before is not None:
            assert all(
                a <= b
                for less, more in zip(before, found, strict=True)
                for a, b in zip(less, more, strict=True)
            )
        before = found
    assert found[2][-2:] == [len(estimate._CLASSES), len(estimate._NODES)]


def test_every_class_has_a_number_of_cpus() -> None:
    assert {vcpus(each) for each in DATABASE_CLASSES} == {2, 4, 8, 16, 32, 48, 64}
    assert set(estimate._CLASSES) <= DATABASE_CLASSES.keys()


def test_a_month_costs_what_its_parts_cost(tmp_path: Path) -> None:
    path = tmp_path / "prices.toml"
    path.write_text(PRICES)
    found = estimates(SMALL, FIGURES)
    prices = read_prices(path, found)
    # Two of each server, one task of the application, two of the access service, and twice 20 GB.
    expected = 730 * (2 * 0.15 + 1.5 * 0.04 + 3 * 0.01) + 2 * 20 * 0.5
    assert prices.monthly(found[0]) == pytest.approx(expected)
    assert "2026-11-30" in prices.source
    huge = estimates(Load(10**10, 10**6, 10**5, 900), FIGURES)
    assert read_prices(path, huge[2:]).monthly(huge[2]) is None


def test_prices_without_an_end_are_refused() -> None:
    with pytest.raises(UnreadableFile, match="cannot read /dev/zero: it is larger than 64 MiB"):
        read_prices(Path("/dev/zero"), ())


def test_connections_above_the_default_limit_are_reported() -> None:
    # A task of the application has 8 connections, and the two access tasks have 9 each.
    for reads, noted in (
        (900.0, None),
        (1200.0, "in the high estimate, 42 connections of 3 processes and 2 access tasks exceed the default"),
        (3000.0, "42 connections of 3 processes and 2 access tasks exceed the default"),
    ):
        with in_case(reads):
            load = Load(1000, reads, 0, 1)
            notes = [
                note for note in advice(load, estimates(load, FIGURES)) if "appConnectionLimit (40)" in note
            ]
            assert [note[: len(noted or "")] for note in notes] == ([noted] if noted else [])


@pytest.mark.parametrize(
    ("load", "title"),
    [
        (
            Load(1, 1e7, 0.5, 1),
            "1 user, 10,000,000 reads/s and 0.5 writes/s at the peak, activities kept for 1 day",
        ),
        (Load(10**7, 0, 1234567.25, 2), "10,000,000 users, 0 reads/s and 1,234,567.25 writes/s at the peak,"),
    ],
)
def test_the_title_has_no_exponent(load: Load, title: str) -> None:
    assert sizing_text.lines(load, estimates(load, FIGURES), None)[0].startswith(title)


@promise("size contains no prices, and refuses a file that lacks one it needs")
@pytest.mark.parametrize(
    ("text", "named"),
    [
        (PRICES.replace('"db.t4g.medium" = 0.1', ""), "hour.'db.t4g.medium'"),
        (PRICES.replace('"gp3.gb" = 0.5', ""), "month.'gp3.gb'"),
        (PRICES.replace("0.05", '"0.05"'), "hour.'cache.t4g.small' is '0.05', which is not a price; write"),
        (PRICES.replace("0.05", "-1"), "hour.'cache.t4g.small' is -1, which is not a price; write a number"),
        (
            PRICES.replace("0.05", "nan"),
            "hour.'cache.t4g.small' is nan, which is not a price; write a number",
        ),
        (PRICES.replace("0.05", "1" + "0" * 400), "which is not a price; write a number"),
        (
            PRICES.replace("0.05", "1e308"),
            "hour.'cache.t4g.small' is 1e+308, which is not a price; write a number",
        ),
        (
            PRICES.replace("0.05", "inf"),
            "hour.'cache.t4g.small' is inf, which is not a price; write a number",
        ),
        (
            PRICES.replace('"db.t4g.medium"', "db.t4g.medium"),
            "hour.'db' is a table, not a price; quote names",
        ),
        (PRICES.replace('as_of = "2026-11-30"', ""), "as_of is missing"),
        ("hour = 1\n" + PRICES.replace("[hour]", "[x]"), "unknown key 'x'"),
        ("hour = ", "not valid TOML"),
    ],
)
def test_a_file_of_prices_that_is_not_usable_is_refused(
    tmp_path: Path, text: str, named: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "prices.toml"
    path.write_text(text)
    with pytest.raises(SystemExit) as exit_:
        cli.main(["size", "--users", "1000", "--reads", "10", "--writes", "1", "--prices", str(path)])
    error = capfd.readouterr().err
    assert exit_.value.code == 2
    assert named in error
    assert len(error.splitlines()) == 1


def test_the_command_prints_a_table_and_a_document(capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ["size", "--users", "1000000", "--reads", "20000", "--writes", "1000"]
    with pytest.raises(SystemExit) as exit_:
        cli.main(arguments)
    table = capfd.readouterr().out
    assert exit_.value.code == 0
    assert "awsPostgresClass" in table
    assert "no prices" in table
    assert "none large enough" in table
    with pytest.raises(SystemExit):
        cli.main([*arguments, "--json"])
    found = json.loads(capfd.readouterr().out)
    assert found["load"] == {"users": 1_000_000, "reads": 20000.0, "writes": 1000.0, "retentionDays": 90}
    assert found["estimates"]["low"]["postgresClass"].startswith("db.")
    assert found["estimates"]["high"]["monthly"] is None


@pytest.mark.parametrize(
    "arguments",
    [
        ["--users", "0"],
        ["--reads", "-1"],
        ["--reads", "nan"],
        ["--writes", ""],
        ["--prices", ""],
        ["--retention-days", "0"],
    ],
)
def test_an_invalid_value_is_refused(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    given = {"--users": "1", "--reads": "1", "--writes": "1"} | {arguments[0]: arguments[1]}
    with pytest.raises(SystemExit) as exit_:
        cli.main(["size", *(word for pair in given.items() for word in pair)])
    assert exit_.value.code == 2
    assert arguments[0] in capfd.readouterr().err


def test_the_table_of_loads_in_the_documentation_is_what_size_prints() -> None:
    page = (Path(__file__).parents[3] / "docs" / "scaling.md").read_text()
    rows = re.findall(
        r"^\| [\d,]+x \| ([\d,]+), ([\d,]+) \| ([\d. to]+) \| ([\d. to]+)(?: or less)? \|", page, re.MULTILINE
    )
    assert len(rows) == 4
    for *load, application, postgres in rows:
        reads, writes = (float(number.replace(",", "")) for number in load)
        found = estimates(Load(int(reads * 1000), reads, writes, 90), read_figures())
        for cell, name in ((application, "application_cores"), (postgres, "postgres_cores")):
            with in_case(reads, name):
                printed = cell.split(" to ")
                # The middle and the high estimate, or the latter alone.
                sizes = [getattr(each, name) for each in found[-len(printed) :]]
                decimals = [len(number.partition(".")[2]) for number in printed]
                assert printed == [f"{size:.{n}f}" for size, n in zip(sizes, decimals, strict=True)]
