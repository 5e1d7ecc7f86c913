"""An output of `groundwork cache` that cannot be written is not reported as an unreachable Redis."""

from __future__ import annotations

import errno

import pytest

from cache.errors import CacheSettingError
from cache.settings import CacheSettings
from cache.url_source import UrlSource
from ops.cache.server import connected
from ops.errors import Exit, OpsError
from tests.cases import in_case

SETTINGS = CacheSettings(UrlSource("REDIS_URL", CacheSettingError, "redis://ops:secret@127.0.0.1:1/0"))


def test_only_an_error_of_the_server_means_that_redis_is_unreachable() -> None:
    for number in (errno.EPIPE, errno.ENOSPC):
        with (
            in_case(number),
            pytest.raises(OSError, match="cannot write") as failed,
            connected(SETTINGS, None),
        ):
            raise OSError(number, "cannot write")
        assert failed.value.errno == number
    with (
        pytest.raises(OpsError, match=r"cannot reach Redis at 127\.0\.0\.1:1") as refused,
        connected(SETTINGS, None) as server,
    ):
        server.redis.ping()
    assert refused.value.exit_code == Exit.UNREACHABLE
