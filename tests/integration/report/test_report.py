"""The report of test servers under load, in a real browser."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis

from ops import cli
from ops.report.page import render
from ops.report.sampling import Sampling, sample_for
from ops.servers.errors import ServerUnreachable
from ops.servers.monitored_stack import MonitoredStack
from tests.chromium import Page, browser, new_page
from tests.conftest import Database, cloned_database
from tests.containers import Server
from tests.monitored import monitored
from tests.promises import promise
from tests.web_server import QuietHandler, served

# If this ran as markup, it would change the page's title: by an image that fails, a script, and an end of the SVG.
ATTACK = "</title></svg><script>document.title='taken'</script><img src=x onerror=document.title='taken'>"
# Metrics in the format of the access service. {count} increases by STEP with each scrape.
STEP = 12_345
METRICS = """\
# TYPE groundwork_cache_hits_total counter
groundwork_cache_hits_total{{entity="user",kind="value",layer="redis"}} {count}
groundwork_cache_hits_total{{entity="user",kind="negative",layer="redis"}} {count}
groundwork_cache_misses_total{{entity="user",layer="redis"}} {count}
groundwork_cache_hits_total{{entity="a<b>&\\"c",kind="value",layer="near"}} {count}
# TYPE groundwork_db_pool_size gauge
groundwork_db_pool_size{{pool="app"}} 4.0
groundwork_db_pool_available{{pool="app"}} 3.0
groundwork_db_pool_max{{pool="app"}} 8.0
groundwork_db_requests_waiting{{pool="app"}} 1.0
# TYPE groundwork_outbox_depth gauge
groundwork_outbox_depth 6.0
groundwork_outbox_age_seconds 0.5
"""
Run = Callable[..., tuple[int, str, str]]


@contextmanager
def metrics_served(text: str) -> Iterator[str]:
    counts = itertools.count(0, STEP)

    class Handler(QuietHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(text.format(count=next(counts)).encode())

    with served(Handler) as port:
        yield f"http://127.0.0.1:{port}"


def _load(database: Database, server: Server, until: threading.Event) -> None:
    """Make reads, writes, hits, misses and expiring keys."""
    with (
        psycopg.connect(database.url("app"), autocommit=True) as app,
        redis.Redis.from_url(server.redis_url("app"), driver_info=None) as cache,
    ):
        number = 0
        while not until.wait(0.02):
            number += 1
            app.execute("INSERT INTO organizations (github_id, name) VALUES (%s, 'x')", [number])
            app.execute("SELECT count(*) FROM organizations")
            cache.set(f"gw:report:{number}", "x", px=100)
            cache.mget([f"gw:report:{number}", f"gw:report:{number + 1}"])


@pytest.fixture(scope="module")
def sampled(postgres_server: Server, migrated_template: str, redis_server: Server) -> Sampling:
    """Samples of 3 s under load, with a session that waits for a lock, and a hostile statement among the slowest."""
    with ExitStack() as stack:
        database = stack.enter_context(cloned_database(postgres_server, migrated_template))
        url = stack.enter_context(metrics_served(METRICS))
        holder = stack.enter_context(psycopg.connect(database.url("app"), application_name="holder"))
        # Quoted names are shown, unlike literals and comments. The text has the whole name; the server cuts it later.
        holder.execute(f'SELECT pg_sleep(0.5) AS "{ATTACK}"')
        holder.execute("LOCK TABLE users IN SHARE ROW EXCLUSIVE MODE")
        waiter = stack.enter_context(psycopg.connect(database.url("app"), autocommit=True))
        waits = threading.Thread(target=waiter.execute, args=[f'DELETE FROM users AS "{ATTACK}"'])
        waiter.execute("SET lock_timeout = 0")
        waiter.execute("BEGIN")
        waits.start()
        ended = threading.Event()
        load = threading.Thread(target=_load, args=[database, redis_server, ended])
        load.start()
        try:
            return sample_for(monitored(database, redis_server, access_url=url), seconds=3, interval=0.5)
        finally:
            ended.set()
            load.join()
            holder.rollback()
            waits.join()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with browser(tmp_path_factory.mktemp("browser")) as found:
        yield found


@pytest.fixture
def page(address: str) -> Iterator[Page]:
    with new_page(address) as found:
        yield found


@pytest.fixture(scope="module")
def file(sampled: Sampling, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render(sampled))
    return path


@promise("the report is a single self-contained page and runs no script from the data")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_loads_from_disk_without_a_request_or_a_complaint(
    page: Page, file: Path, scheme: str
) -> None:
    page.show_in(scheme)
    page.open(file)
    assert page.requests == [file.as_uri()]
    assert page.complaints == []
    assert page.evaluate("document.scripts.length") == 0


def test_every_plot_has_drawn_marks_and_a_table_beside_it(page: Page, file: Path) -> None:
    page.show_in("light")
    page.open(file)
    plots = page.evaluate(
        """[...document.querySelectorAll('section:has(svg)')].map(section => {
            const marks = [...section.querySelectorAll('svg .mark')].map(mark => mark.getBoundingClientRect());
            return {
                key: section.id,
                drawn: marks.filter(box => box.width > 0 || box.height > 0).length,
                rows: section.querySelectorAll('tbody tr').length,
                legend: section.querySelectorAll('.legend li').length,
            };
        })"""
    )
    assert {plot["key"] for plot in plots} == {
        *("postgres-hit-rate", "redis-hit-rate", "connections", "cache", "transactions", "locks"),
        *("redis-memory", "evictions", "redis-commands", "pool", "outbox-depth", "outbox-age", "statements"),
    }
    assert [plot for plot in plots if not (plot["drawn"] and plot["rows"] and plot["legend"])] == []


@pytest.mark.parametrize("width", [1280, 600])
def test_no_label_of_a_plot_lies_on_another_or_outside(page: Page, file: Path, width: int) -> None:
    page.show_in("light", width)
    page.open(file)
    found = page.evaluate(
        """[...document.querySelectorAll('svg.plot')].flatMap(svg => {
            const frame = svg.getBoundingClientRect();
            const labels = [...svg.querySelectorAll('text')].map(t => [t.textContent, t.getBoundingClientRect()]);
            const outside = labels.filter(([, b]) => b.left < frame.left - 1 || b.right > frame.right + 1
                || b.top < frame.top - 1 || b.bottom > frame.bottom + 1).map(([text]) => 'outside: ' + text);
            const crossed = labels.flatMap(([text, a], i) => labels.slice(i + 1)
                .filter(([, b]) => a.left < b.right - 1 && b.left < a.right - 1
                    && a.top < b.bottom - 3 && b.top < a.bottom - 3)
                .map(([other]) => text + ' on ' + other));
            return [...outside, ...crossed];
        })"""
    )
    assert found == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast(page: Page, file: Path, scheme: str) -> None:
    """Text has a contrast of 4.5 to its background, as WCAG requires."""
    page.show_in(scheme)
    page.open(file)
    contrast = page.evaluate(
        """(() => {
            const shade = colour => {
                const [r, g, b] = colour.match(/[0-9.]+/g).map(Number)
                    .map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
                return 0.2126 * r + 0.7152 * g + 0.0722 * b;
            };
            const ground = shade(getComputedStyle(document.querySelector('section')).backgroundColor);
            return ['h2', 'td', 'th', '.quiet', '.axis', 'code'].map(selector => {
                const style = getComputedStyle(document.querySelector(selector));
                const ink = shade(selector === '.axis' ? style.fill : style.color);
                return [selector, (Math.max(ink, ground) + 0.05) / (Math.min(ink, ground) + 0.05)];
            });
        })()"""
    )
    assert [entry for entry in contrast if entry[1] < 4.5] == []


@promise("the report is a single self-contained page and runs no script from the data")
def test_a_hostile_statement_is_shown_and_does_not_run(page: Page, file: Path) -> None:
    page.open(file)
    assert page.evaluate("document.title") == "groundwork report: stack temporary"
    shown = page.evaluate("[...document.querySelectorAll('code')].map(code => code.textContent)")
    assert [text for text in shown if ATTACK in text and "pg_sleep" in text], shown
    assert [text for text in shown if ATTACK in text and "DELETE FROM" in text], shown
    assert 'access: a<b>&"c' in page.evaluate("document.querySelector('#cache').textContent")


@promise("the report is a single self-contained page and runs no script from the data", control=True)
@pytest.mark.parametrize("with_policy", [False, True])
def test_unescaped_it_would_run_where_no_policy_stops_it(
    page: Page, file: Path, tmp_path: Path, with_policy: bool
) -> None:
    """The negative control, which also shows that the page's content policy is a second defence."""
    text = file.read_text()
    escaped = "&lt;/title&gt;&lt;/svg&gt;&lt;script&gt;document.title='taken'&lt;/script&gt;"
    assert escaped in text
    naive = text.replace(escaped, "</title></svg><script>document.title='taken'</script>")
    if not with_policy:
        naive = naive.replace('http-equiv="Content-Security-Policy"', 'name="none"')
    path = tmp_path / "naive.html"
    path.write_text(naive)
    page.open(path)
    assert (page.evaluate("document.title") == "taken") is not with_policy


@promise(
    "the report shows which share of the applications' reads the near cache, Redis and the database answered"
)
def test_the_hit_rates_are_differences_of_the_access_services_counters(sampled: Sampling) -> None:
    reads = {each.entity: each for each in sampled.cache_reads.by_entity}
    scrapes = len(sampled.samples) - 1
    assert (reads["user"].redis, reads["user"].database) == (2 * STEP * scrapes, STEP * scrapes)
    assert reads['a<b>&"c'].hit_rate == 100


def test_rates_are_differences_of_counters(sampled: Sampling) -> None:
    from ops.report.charts import time_charts

    charts = {chart.key: chart for chart in time_charts(sampled)}
    committed = charts["transactions"].series[0]
    assert committed.values[0] is None
    assert max(committed.known) > 5
    assert max(committed.known) < 2000, "a counter's value, not its increase"
    shares = charts["redis-hit-rate"].series[0].known
    assert all(0 < share < 100 for share in shares)
    assert max(charts["locks"].series[0].known) == 1
    assert charts["pool"].series[3].known[-1] == 1


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run groundwork report with the test's servers, and return exit code, stdout and stderr."""

    def run(stack: MonitoredStack, *arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(MonitoredStack, "of", lambda name: stack)
        with pytest.raises(SystemExit) as exit_:
            cli.main(["report", *arguments])
        out, err = capfd.readouterr()
        return int(exit_.value.code or 0), out, err

    return run


@pytest.fixture
def stack(database: Database, redis_server: Server) -> MonitoredStack:
    return monitored(database, redis_server)


def test_the_command_writes_a_file_for_its_owner_and_prints_the_numbers(
    stack: MonitoredStack, command: Run, tmp_path: Path
) -> None:
    path = tmp_path / "report.html"
    path.write_text("an older one")
    code, out, err = command(stack, "--html", str(path), "--json", "--seconds", "1", "--interval", "0.2")
    told: dict[str, Any] = json.loads(out)
    assert code == 0
    assert "sampling for 1 s\n" in err
    assert told["samples"] >= 3
    assert told["html"] == str(path)
    assert len(told["series"]["redis-memory"]["values"]["used"]) == told["samples"]
    assert path.read_text().startswith("<!DOCTYPE html>")
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]


@promise("a server that does not answer is shown as a gap in the report, with exit code 6")
@pytest.mark.parametrize("field", ["redis_url", "database_url"])
def test_a_server_that_is_gone_is_a_gap_and_exit_code_6(
    stack: MonitoredStack, command: Run, tmp_path: Path, field: str
) -> None:
    scheme = "rediss://monitor:x@localhost:1/0" if field == "redis_url" else "postgresql://m:x@localhost:1/x"
    path = tmp_path / "report.html"
    code, _, err = command(replace(stack, **{field: scheme}), "--html", str(path), "--seconds", "0.2")
    assert code == 6
    assert "cannot reach" in err.splitlines()[-1]
    assert "Some servers did not answer" in path.read_text()
    assert "no data" in path.read_text()


def test_if_no_server_answers_the_existing_file_stays(
    stack: MonitoredStack, command: Run, tmp_path: Path
) -> None:
    path = tmp_path / "report.html"
    path.write_text("an older one")
    gone = replace(
        stack, redis_url="rediss://m:x@localhost:1/0", database_url="postgresql://m:x@localhost:1/x"
    )
    code, out, err = command(gone, "--html", str(path), "--seconds", "0.2")
    assert (code, out) == (6, "")
    assert len(err.splitlines()) == 2
    assert path.read_text() == "an older one"


@promise("a file that cannot be written is reported before the work begins")
@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "no output is selected"),
        (["--html", "/nowhere/report.html"], "is not a directory"),
        (["--html", "/"], "is a directory"),
    ],
)
def test_a_file_that_cannot_be_written_is_reported_before_the_sampling(
    stack: MonitoredStack, command: Run, arguments: list[str], reason: str
) -> None:
    began = time.monotonic()
    code, out, err = command(stack, *arguments, "--seconds", "3600")
    assert (code, out) == (2, "")
    assert reason in err
    assert time.monotonic() - began < 60


@promise("Ctrl-C ends a command with the results so far, or the next run resumes it")
def test_ctrl_c_ends_the_sampling_and_keeps_its_results(stack: MonitoredStack) -> None:
    def stop(count: int, _: float) -> None:
        if count == 3:
            raise KeyboardInterrupt

    done = sample_for(stack, 3600, 0.1, stop)
    assert done.was_stopped
    assert len(done.samples) == 3
    assert "stopped early" in render(done)


def test_a_stack_that_answers_nothing_raises(stack: MonitoredStack) -> None:
    gone = replace(
        stack, redis_url="rediss://m:x@localhost:1/0", database_url="postgresql://m:x@localhost:1/x"
    )
    with pytest.raises(ServerUnreachable, match="Postgres at localhost"):
        sample_for(gone, 0.2, 0.1)
