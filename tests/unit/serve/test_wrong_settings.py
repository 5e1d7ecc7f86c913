"""`groundwork serve` reports a wrong setting before it starts, without the URL."""

from __future__ import annotations

import traceback

import pytest

from db.settings import DatabaseSettings
from ops.commands.serve import serve

RIGHT = {"DATABASE_URL": "postgresql://u:canary@h/d", "REDIS_URL": "rediss://u:canary@h:1/0"}
WRONG: list[tuple[dict[str, str | None], str]] = [
    ({"DATABASE_URL": ""}, "DATABASE_URL is set but empty"),
    ({"DATABASE_URL": None}, "neither DATABASE_URL nor DATABASE_URL_FILE"),
    ({"DATABASE_URL_FILE": "/nowhere"}, "DATABASE_URL and DATABASE_URL_FILE are both set"),
    ({"DATABASE_URL": None, "DATABASE_URL_FILE": "/nowhere"}, "cannot read /nowhere"),
    ({"DATABASE_URL": "postgresql://u:canary@h/d?nonsense=1"}, "not a connection string"),
    ({"REDIS_URL": "http://u:canary@h"}, "REDIS_URL is not a connection string"),
    ({"REDIS_URL": "rediss://u:canary@h:1/0?nonsense=1"}, "REDIS_URL"),
    ({"GROUNDWORK_CACHE_NAMESPACE": "a b"}, "namespace"),
]


class _Started(Exception):
    """The service would have started."""


@pytest.fixture(autouse=True)
def _no_service(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*_arguments: object) -> None:
        raise _Started

    monkeypatch.setattr("ops.serve.logs.configure_logging", lambda _level: None)
    monkeypatch.setattr("ops.serve.server.bind", start)


def _failure(monkeypatch: pytest.MonkeyPatch, changed: dict[str, str | None]) -> Exception:
    with monkeypatch.context() as patch:
        for name, value in (RIGHT | changed).items():
            if value is None:
                patch.delenv(name, raising=False)
            else:
                patch.setenv(name, value)
        with pytest.raises(Exception) as failed:  # noqa: PT011 - of several classes
            serve.main([], standalone_mode=False)
    return failed.value


def test_a_wrong_setting_is_reported_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for changed, message in WRONG:
        error = _failure(monkeypatch, changed)
        assert message in str(error), changed
        assert "canary" not in "".join(traceback.format_exception(error)), changed


def test_with_right_settings_the_service_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(_failure(monkeypatch, {}), _Started)


def test_the_service_opens_no_connections_to_replicas(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[DatabaseSettings] = []

    def access(database: DatabaseSettings, _cache: object) -> None:
        given.append(database)

    monkeypatch.setattr("db.AsyncDataAccess", access)
    monkeypatch.setattr("ops.serve.app.make_app", lambda *_arguments: None)
    read_url = "postgresql://u:canary@h/d?target_session_attrs=prefer-standby"
    assert isinstance(_failure(monkeypatch, {"DATABASE_READ_URL": read_url}), _Started)
    assert [settings.of_replicas() for settings in given] == [None]
