"""The commands that show the cache (one entry, keys, statistics), and that they change nothing."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
import redis

from cache.keys import EntityKeys, epoch_nonce
from db.models import USER_SCHEMA, NewActivity, NewUser
from ops.stack import connections
from tests.conftest import Database
from tests.containers import Server, wait_until
from tests.integration.cache_operations.conftest import OpenReader, Operate, cached_user
from tests.integration.serve.service import running_service
from tests.promises import promise
from tests.web_server import QuietHandler, served


@pytest.fixture
def flavour() -> str:
    """Only the sync flavour, because the commands are sync."""
    return "sync"


@pytest.fixture
def data(reader: OpenReader) -> Any:
    return reader(0)


@pytest.fixture
def keys(namespace: str) -> EntityKeys:
    return EntityKeys(namespace, "user", USER_SCHEMA)


def _get(operate: Operate, entity: str, record_id: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(operate("get", entity, str(record_id), "--json").out)
    return found


def test_a_cached_record_is_shown_with_its_header_and_decoded(
    operate: Operate, data: Any, keys: EntityKeys
) -> None:
    user = cached_user(data)
    found = _get(operate, "user", user.id)
    (entry,) = found["entries"]
    assert (found["state"], entry["key"]) == ("value", keys.value(user.id))
    assert entry["stamp"] == data.cache.epoch.tag.decode()
    assert entry["rowVersion"] == user.row_version
    assert entry["value"]["username"] == "before"
    assert 0.9 * 86_400 * 0.99 < entry["ttlSeconds"] <= 1.1 * 86_400
    assert "cached\n" in operate("get", "user", str(user.id)).out


def test_what_is_not_cached_is_absent(operate: Operate, data: Any) -> None:
    assert _get(operate, "user", 4711) == {
        "entity": "user", "id": 4711, "state": "absent", "schema": USER_SCHEMA, "entries": [], "leaseTtlSeconds": None,
    }  # fmt: skip


def test_a_known_absence_is_negative(operate: Operate, data: Any) -> None:
    assert data.users.find(4711) is None
    assert _get(operate, "user", 4711)["state"] == "negative"


@pytest.mark.parametrize("junk", [b"", b"junk", b"EPOCH:1:2:3:\xff", b"\x80\x81:::"])
def test_bytes_that_are_not_an_entry_are_undecodable(
    operate: Operate, data: Any, keys: EntityKeys, redis_as_ops: redis.Redis, junk: bytes
) -> None:
    data.users.find(4711)
    redis_as_ops.set(keys.value(7), junk.replace(b"EPOCH", data.cache.epoch.tag), ex=60)
    assert _get(operate, "user", 7)["state"] == "undecodable"
    assert "undecodable" in operate("get", "user", "7").out


@pytest.mark.parametrize(("schema", "state"), [(0, "olderSchema"), (USER_SCHEMA + 1, "newerSchema")])
def test_an_entry_of_another_release_is_shown_as_such(
    operate: Operate, data: Any, namespace: str, redis_as_ops: redis.Redis, schema: int, state: str
) -> None:
    user = cached_user(data)
    own = EntityKeys(namespace, "user", USER_SCHEMA).value(user.id)
    redis_as_ops.set(
        EntityKeys(namespace, "user", schema).value(user.id), redis_as_ops.get(own) or b"", ex=60
    )
    redis_as_ops.unlink(own)
    found = _get(operate, "user", user.id)
    assert (found["state"], [entry["state"] for entry in found["entries"]]) == ("otherSchema", [state])


@pytest.mark.parametrize("scope", ["--all", "--entity=user"])
def test_an_entry_that_was_flushed_is_of_a_past_epoch(operate: Operate, data: Any, scope: str) -> None:
    user = cached_user(data)
    operate("flush", scope, "--yes")
    assert _get(operate, "user", user.id)["state"] == "pastEpoch"
    (row,) = json.loads(operate("stats", "--json").out)["entities"].values()
    assert (row["keys"], row["ofPastEpochs"]) == (1, 1)


def test_a_record_being_filled_shows_its_lease(
    operate: Operate, keys: EntityKeys, redis_as_ops: redis.Redis
) -> None:
    redis_as_ops.set(keys.lease(7), b"nonce", px=60_000)
    assert 0 < _get(operate, "user", 7)["leaseTtlSeconds"] <= 60
    assert "being filled" in operate("get", "user", "7").out


def test_a_feed_is_shown_page_by_page_under_its_generation(operate: Operate, data: Any) -> None:
    user = data.users.add(NewUser(github_id=7, username="ada"))
    data.activities.add(NewActivity(user_id=user.id, type="push", timestamp=datetime.now(UTC)))
    data.activities.feed(user.id)
    found = _get(operate, "user_feed", user.id)
    assert [page["value"]["items"][0]["type"] for page in found["entries"]] == ["push"]
    assert found["entries"][0]["stamp"] == found["generation"]
    data.activities.add(NewActivity(user_id=user.id, type="push", timestamp=datetime.now(UTC)))
    found = _get(operate, "user_feed", user.id)
    assert (found["state"], found["generation"]) == ("pastGeneration", None)
    assert [page["state"] for page in found["entries"]] == ["pastGeneration"]


def test_the_state_of_a_feed_takes_every_page_into_account(
    operate: Operate, data: Any, redis_as_ops: redis.Redis
) -> None:
    user = data.users.add(NewUser(github_id=7, username="ada"))
    data.activities.feed(user.id)
    (page,) = _get(operate, "user_feed", user.id)["entries"]
    head = page["key"].rpartition(":")[0]
    # They sort before the page that readers use.
    for number in range(120):
        redis_as_ops.set(f"{head}:{number:024x}", b"x", ex=60)
    found = _get(operate, "user_feed", user.id)
    assert (found["state"], found["pages"], len(found["entries"])) == ("value", 121, 100)
    assert operate("get", "user_feed", str(user.id)).out.endswith("  21 more pages are cached\n")
    redis_as_ops.unlink(page["key"])
    assert _get(operate, "user_feed", user.id)["state"] == "undecodable"


def test_keys_are_listed_with_life_and_size_up_to_a_limit(
    operate: Operate, keys: EntityKeys, redis_as_ops: redis.Redis
) -> None:
    for number in range(5):
        redis_as_ops.set(keys.value(number), b"x" * 100, ex=60)
    redis_as_ops.set(keys.lease(1), b"x", ex=60)
    everything = json.loads(operate("keys", "--json").out)
    assert {each["key"] for each in everything["keys"]} == {keys.value(number) for number in range(5)}
    assert all(each["bytes"] > 100 and 0 < each["ttlSeconds"] <= 60 for each in everything["keys"])
    assert everything["hasMore"] is False
    two = json.loads(operate("keys", "--limit", "2", "--json").out)
    assert (len(two["keys"]), two["hasMore"]) == (2, True)
    one = operate("keys", "--pattern", "v1:user:{3}")
    assert [line.split()[2] for line in one.out.splitlines()] == [keys.value(3)]
    assert operate("keys", "--entity", "repository").out == ""


def test_a_key_that_a_terminal_would_obey_is_escaped(
    operate: Operate, namespace: str, redis_as_ops: redis.Redis
) -> None:
    redis_as_ops.set(f"gw:{namespace}:v1:\x1b[2J:{{1}}", b"x", ex=60)
    assert "\\u001b[2J" in operate("keys").out
    assert "\x1b" not in operate("flush", "--all", "--dry-run").out


def test_stats_count_by_entity_and_name_the_epoch(
    operate: Operate, data: Any, namespace: str, redis_as_ops: redis.Redis, keys: EntityKeys
) -> None:
    user = cached_user(data)
    found = json.loads(operate("stats", "--json").out)
    assert found["epoch"] == data.cache.epoch.tag.decode()
    assert found["entities"]["user"]["bytes"] == pytest.approx(
        redis_as_ops.memory_usage(keys.value(user.id)) or 0, abs=1 / found["sample"]["share"]
    )
    assert found["server"]["hits"] > 0
    assert found["reads"] is None
    assert "user" in operate("stats").out


def test_a_sample_is_bounded_and_extrapolated(
    operate: Operate, keys: EntityKeys, redis_as_ops: redis.Redis
) -> None:
    for number in range(3000):
        redis_as_ops.set(keys.value(number), b"x", ex=60)
    found = json.loads(operate("stats", "--sample", "500", "--json").out)
    assert 500 <= found["sample"]["keys"] < 1000
    assert found["sample"]["share"] < 0.4
    assert found["entities"]["user"]["keys"] == pytest.approx(3000, rel=0.3)


@promise("inspecting the cache changes nothing")
def test_looking_changes_nothing(
    operate: Operate, data: Any, namespace: str, redis_as_ops: redis.Redis, keys: EntityKeys
) -> None:
    user = cached_user(data)
    before = redis_as_ops.get(keys.value(user.id)), redis_as_ops.get(epoch_nonce(namespace))
    for command in (["stats"], ["get", "user", str(user.id)], ["keys"], ["flush", "--all", "--dry-run"]):
        assert operate(*command).code == 0
    assert (redis_as_ops.get(keys.value(user.id)), redis_as_ops.get(epoch_nonce(namespace))) == before


def test_the_access_services_reads_are_shown_if_it_answers(
    operate: Operate, database: Database, redis_server: Server, namespace: str
) -> None:
    with running_service(
        DATABASE_URL=database.url("app"),
        REDIS_URL=redis_server.redis_url("app"),
        GROUNDWORK_CACHE_NAMESPACE=namespace,
    ) as service:
        wait_until(service.is_ready, 60)
        url = f"http://127.0.0.1:{service.port}/metrics"
        found = json.loads(operate("stats", "--metrics-url", url, "--json").out)
    assert found["reads"]["user/redis"] == {"hits": 0, "misses": 0, "hitRate": None}
    gone = operate("stats", "--metrics-url", url)
    assert "did not answer" in gone.out


PAGES = {
    "/html": (b"<!DOCTYPE html>\n<html>", "is not a page with groundwork's metrics"),
    "/empty": (b"", "is not a page with groundwork's metrics"),
    "/other-metrics": (b"up 1\n", "is not a page with groundwork's metrics"),
    "/broken": (b"groundwork_cache_hits_total{entity= 1\n", "is not a page of metrics: "),
    "/binary": (b"\xff\xfe", "is not a page of metrics: "),
    "/without-labels": (
        b"groundwork_cache_hits_total 3\n",
        "has unexpected counters of reads: KeyError('entity')",
    ),
    "/not-a-number": (
        b'groundwork_cache_hits_total{entity="user",layer="redis"} NaN\n',
        "has unexpected counters of reads: ValueError(",
    ),
    "/cut": (None, "IncompleteRead("),
}


class _Pages(QuietHandler):
    def do_GET(self) -> None:
        content, _ = PAGES[self.path]
        self.send_response(200)
        self.send_header("Content-Length", str(9 if content is None else len(content)))
        self.end_headers()
        self.wfile.write(content or b"")


def test_a_given_page_without_metrics_is_named_with_the_reason_in_one_line(operate: Operate) -> None:
    with served(_Pages) as port:
        cases = {f"http://127.0.0.1:{port}{path}": reason for path, (_, reason) in PAGES.items()}
        cases |= {
            "localhost:8000/metrics": "unknown url type: localhost",
            "localhost/metrics": "unknown url type: 'localhost/metrics'",
            "http://127.0.0.1:9/metrics": "Connection refused",
            f"http://127.0.0.1:{port}x/": "the URL is invalid: nonnumeric port",
        }
        for url, reason in cases.items():
            outcome = operate("stats", "--metrics-url", url)
            assert outcome.code == 0, url
            assert "did not answer" in outcome.out, url
            (line,) = outcome.error.splitlines()
            assert line.startswith("--metrics-url is not used: "), url
            assert url in line
            assert reason in line, url


def test_a_login_in_the_url_of_metrics_is_not_printed(operate: Operate) -> None:
    outcome = operate("stats", "--metrics-url", "http://me:canary@127.0.0.1/metrics")
    assert outcome.error == (
        "--metrics-url is not used: the URL contains a login, which is not supported; omit it\n"
    )


def test_a_stacks_access_service_that_does_not_answer_causes_no_warning(
    operate: Operate, redis_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REDIS_URL")
    monkeypatch.setattr(
        connections, "environment_of", lambda role, stack: {"REDIS_URL": redis_server.redis_url(role)}
    )
    monkeypatch.setattr(connections, "access_url", lambda stack: "http://127.0.0.1:9")
    outcome = operate("stats")
    assert (outcome.code, outcome.error) == (0, "")
    assert "did not answer" in outcome.out
