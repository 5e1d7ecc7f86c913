"""Login tokens: shared, renewed before they expire, and used without waiting while the old one is still accepted."""

from __future__ import annotations

import threading
from urllib.parse import parse_qs, urlsplit

import pytest
from psycopg.conninfo import conninfo_to_dict

from cache.errors import CacheSettingError
from cache.login_token import EXPIRY_SECONDS, RENEW_SECONDS, LoginTokens
from cache.settings import CacheSettings
from db.errors import InvalidSetting
from db.settings import DatabaseSettings
from tests.containers import wait_until
from tests.promises import promise

DATABASE = {
    "DATABASE_URL": "postgresql://app_a@db.example:15432/groundwork?sslmode=verify-full&sslrootcert=/ca.pem",
    "GROUNDWORK_DATABASE_LOGIN": "iam",
}
CACHE = {
    "REDIS_URL": "rediss://groundwork-prod-app@cache.example:6379/0?ssl_ca_certs=/ca.pem&ssl_check_hostname=true",
    "GROUNDWORK_CACHE_LOGIN": "iam",
    "GROUNDWORK_REPLICATION_GROUP": "groundwork-prod",
}


class Source:
    """Returns numbered tokens. Fails while `failing` is set, and waits while `held` is set."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.made = 0
        self.failing = False
        self.free = threading.Event()
        self.free.set()
        self.tokens = LoginTokens(self._make, clock=lambda: self.now)

    def _make(self, *subject: str) -> str:
        self.free.wait(60)
        if self.failing:
            raise RuntimeError("the signer is away")
        self.made += 1
        return f"{'/'.join(subject)}-{self.made}"


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")


@promise("on AWS connection strings contain no password")
def test_a_young_token_is_reused(source: Source) -> None:
    assert source.tokens.current("app") == "app-1"
    source.now += RENEW_SECONDS - 1
    assert source.tokens.current("app") == "app-1"
    assert source.made == 1


def test_each_subject_has_its_own_token(source: Source) -> None:
    assert source.tokens.current("a", "1") == "a/1-1"
    assert source.tokens.current("b", "1") == "b/1-2"


def test_the_old_token_is_returned_while_the_next_one_is_created(source: Source) -> None:
    source.tokens.current("app")
    source.free.clear()
    source.now += RENEW_SECONDS
    assert source.tokens.current("app") == "app-1"
    source.free.set()
    wait_until(lambda: source.tokens.current("app") == "app-2", 30)
    assert source.made == 2


def test_an_expired_token_is_not_returned(source: Source) -> None:
    source.tokens.current("app")
    source.now += EXPIRY_SECONDS
    assert source.tokens.current("app") == "app-2"


def test_a_failed_renewal_keeps_the_old_token_until_it_expires(source: Source) -> None:
    source.tokens.current("app")
    source.failing = True
    source.now += RENEW_SECONDS
    assert source.tokens.current("app") == "app-1"
    source.now = 1000.0 + EXPIRY_SECONDS - 1
    assert source.tokens.current("app") == "app-1"
    source.now += 1
    with pytest.raises(RuntimeError, match="away"):
        source.tokens.current("app")
    source.failing = False
    assert source.tokens.current("app").startswith("app-")


def test_concurrent_callers_share_one_new_token(source: Source) -> None:
    source.free.clear()
    seen: list[str] = []
    threads = [threading.Thread(target=lambda: seen.append(source.tokens.current("app"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    source.free.set()
    for thread in threads:
        thread.join(60)
    assert seen == ["app-1"] * 8


def test_a_token_can_be_created_before_it_is_needed(source: Source) -> None:
    source.tokens.prefetch("app")
    wait_until(lambda: source.made == 1, 30)
    assert source.tokens.current("app") == "app-1"


def test_the_password_of_a_database_connection_is_a_token_for_its_login() -> None:
    settings = DatabaseSettings.from_environment(DATABASE)
    given = conninfo_to_dict(settings.conninfo())
    token = urlsplit(f"https://{given['password']}")
    query = parse_qs(token.query)
    assert token.netloc == "db.example:15432"
    assert (query["Action"], query["DBUser"]) == (["connect"], ["app_a"])
    assert "/eu-central-1/rds-db/aws4_request" in query["X-Amz-Credential"][0]
    assert query["X-Amz-Expires"] == ["900"]
    assert given["sslmode"] == "verify-full"


def test_the_password_of_a_redis_connection_is_a_signed_request_to_connect() -> None:
    user, token = CacheSettings.from_environment(CACHE).credentials()
    parts = urlsplit(f"https://{token}")
    query = parse_qs(parts.query)
    assert user == "groundwork-prod-app"
    assert parts.netloc == "groundwork-prod"
    assert (query["Action"], query["User"]) == (["connect"], ["groundwork-prod-app"])
    assert "/eu-central-1/elasticache/aws4_request" in query["X-Amz-Credential"][0]
    assert query["X-Amz-Expires"] == ["900"]


@pytest.mark.parametrize(
    ("environment", "error", "said"),
    [
        (DATABASE | {"GROUNDWORK_DATABASE_LOGIN": "kerberos"}, InvalidSetting, "write password or iam"),
        (
            DATABASE | {"DATABASE_URL": "postgresql://app_a:secret@db:1/groundwork"},
            InvalidSetting,
            "DATABASE_URL contains a password",
        ),
        (
            DATABASE | {"DATABASE_URL": "postgresql://db/groundwork"},
            InvalidSetting,
            "has no port and no user",
        ),
        (CACHE | {"GROUNDWORK_CACHE_LOGIN": "IAM"}, CacheSettingError, "write password or iam"),
        (CACHE | {"GROUNDWORK_REPLICATION_GROUP": ""}, CacheSettingError, "GROUNDWORK_REPLICATION_GROUP"),
        (CACHE | {"REDIS_URL": "rediss://cache:6379/0"}, CacheSettingError, "names no user"),
        (CACHE | {"REDIS_URL": "rediss://a:secret@cache:6379/0"}, CacheSettingError, "contains a password"),
    ],
)
def test_an_invalid_token_login_is_refused_without_showing_secrets(
    environment: dict[str, str], error: type[Exception], said: str
) -> None:
    def read() -> object:
        if "DATABASE_URL" in environment:
            return DatabaseSettings.from_environment(environment).conninfo()
        return CacheSettings.from_environment(environment).credentials()

    with pytest.raises(error, match=said) as refusal:
        read()
    assert "secret" not in str(refusal.value)


def test_missing_credentials_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    with pytest.raises(InvalidSetting, match="Unable to locate credentials"):
        DatabaseSettings.from_environment(DATABASE).conninfo()
    with pytest.raises(CacheSettingError, match="needs AWS credentials"):
        CacheSettings.from_environment(CACHE).credentials()
