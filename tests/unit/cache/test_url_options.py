"""Options of REDIS_URL: those that work are used, and every other one is refused by its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from cache._async.client import AsyncClient
from cache._sync.client import Client
from cache.errors import CacheSettingError
from cache.settings import URL_OPTIONS, CacheSettings
from cache.tls import PlainConnection, TlsConnection, connection_options
from ops.cache.server import open_cache_server
from ops.errors import Exit, OpsError
from tests.promises import promise

URL = "rediss://app:canary@redis:6379/0?ssl_ca_certs=/ca.crt"
# What redis-py takes from a URL: options that it knows by name, and any argument of its connections.
REFUSED = (
    "decode_responses=true", "protocol=3", "socket_timeout=5", "socket_connect_timeout=5", "max_connections=100",
    "timeout=1", "retry_on_timeout=true", "retry_on_error=x", "health_check_interval=10", "socket_keepalive=no",
    "socket_read_size=1", "client_name=mine", "username=other", "password=other", "encoding=latin-1", "host=elsewhere",
    "connection_class=x", "legacy_responses=true", "ssl_keyfile=/key", "ssl_min_version=1", "ssl_ciphers=NULL",
    "DECODE_RESPONSES=1", "decode_responses=",
)  # fmt: skip


def refusal(url: str, tmp_path: Path) -> set[str]:
    """Return the messages with which the clients and the commands refuse the URL, as a value and as a file."""
    file = tmp_path / "redis_url"
    file.write_text(url + "\n")
    messages = set()
    for environment in ({"REDIS_URL": url}, {"REDIS_URL_FILE": str(file)}):
        settings = CacheSettings.from_environment(environment)
        for make in (AsyncClient, Client):
            with pytest.raises(CacheSettingError) as caught:
                make(settings)
            messages.add(str(caught.value).replace("REDIS_URL_FILE", "REDIS_URL"))
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv("REDIS_URL", raising=False)
            patch.delenv("REDIS_URL_FILE", raising=False)
            patch.setenv("GROUNDWORK_STATE", str(tmp_path))
            for name, value in environment.items():
                patch.setenv(name, value)
            with pytest.raises(OpsError) as refused, open_cache_server("dev"):
                pass
        assert refused.value.exit_code == Exit.USAGE
        messages.add(str(refused.value).replace("REDIS_URL_FILE", "REDIS_URL"))
    return messages


@promise("an option of REDIS_URL that would have no effect is refused by name")
@pytest.mark.parametrize("option", REFUSED)
def test_an_option_that_cannot_work_is_refused_by_name(option: str, tmp_path: Path) -> None:
    (message,) = refusal(f"{URL}&{option}", tmp_path)
    assert message.startswith(f"REDIS_URL: {option.partition('=')[0]} cannot be set in the URL")
    assert "\n" not in message
    assert "canary" not in message


def test_all_refused_options_are_named(tmp_path: Path) -> None:
    (message,) = refusal(f"{URL}&protocol=3&decode_responses=true", tmp_path)
    assert "decode_responses, protocol cannot" in message


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("rediss://app:canary@redis:6379/0?ssl_ca_certs=", "ssl_ca_certs is empty"),
        (f"{URL}&ssl_ca_certs=/other.crt", "ssl_ca_certs is empty or given twice"),
        ("rediss://app:canary@redis:6379/0?db=x", "db"),
        ("rediss://app:canary@redis:6379/0?ssl_cert_reqs=none", "ssl_cert_reqs must be `required`"),
        ("redis://app:canary@redis:6379/0?ssl_ca_certs=/ca.crt", "needs rediss://"),
        ("rediss://app:canary@redis:6379/zero", "is not a connection string"),
        ("rediss://app:canary@redis:6379/1/0", "is not a connection string"),
        # Passwords that are not percent-encoded. No part of them may be shown.
        ("rediss://app:12#canary@redis:6379/0", "is not a connection string"),
        ("rediss://app:12?canary@redis:6379/0", "is not a connection string"),
        ("rediss://app:12?canary&canary@redis:6379/0", "is not a connection string"),
    ],
)
def test_a_url_that_means_something_else_is_refused(url: str, reason: str, tmp_path: Path) -> None:
    (message,) = refusal(url, tmp_path)
    assert reason in message
    assert "canary" not in message


def test_the_options_that_are_allowed_are_used() -> None:
    values = {
        "ssl_ca_certs": "/ca.crt",
        "ssl_check_hostname": "false",
        "ssl_cert_reqs": "required",
        "db": "3",
    }
    assert values.keys() == {*URL_OPTIONS}
    query = "&".join(f"{name}={value}" for name, value in values.items())
    settings = CacheSettings.from_environment({"REDIS_URL": f"rediss://app:x@redis:6380?{query}"})
    options = connection_options(settings.server_urls()[0], TlsConnection, PlainConnection)
    tls = options.pop("tls")
    assert (tls._ca_file, tls._check_hostname) == ("/ca.crt", False)
    assert options == {"host": "redis", "port": 6380, "db": 3, "connection_class": TlsConnection}
