"""What the cache leans on inside redis-py: an upgrade that changes it fails here, and not at night."""

from __future__ import annotations

import pytest
from redis import connection
from redis._parsers import resp3

from cache import tls


def test_the_parser_hands_invalidations_to_a_handler() -> None:
    handed: list[object] = []
    parser = resp3._RESP3Parser(65536)
    parser.set_invalidation_push_handler(handed.append)
    parser.handle_push_response([b"invalidate", [b"gw:main:v1:user:{7}"]])
    parser.handle_push_response([b"invalidate", None])
    assert handed == [[b"invalidate", [b"gw:main:v1:user:{7}"]], [b"invalidate", None]]


def test_a_connection_keeps_its_parser_where_tracking_sets_the_handler() -> None:
    made = connection.Connection(protocol=3)
    assert hasattr(made._parser, "set_invalidation_push_handler")


@pytest.mark.parametrize("kind", [tls.PlainConnection, tls.TlsConnection])
def test_a_connection_connects_and_reads_by_the_methods_that_are_bounded_here(kind: type) -> None:
    for name, hidden in (("_connect", connection.Connection), ("read_response", connection.Connection)):
        assert callable(getattr(hidden, name))
        assert getattr(kind, name) is getattr(tls._BoundedSteps, name)
    options = {"tls": None} if kind is tls.TlsConnection else {}
    made = kind(socket_timeout=1.0, socket_connect_timeout=2.0, **options)
    assert (made.socket_timeout, made.socket_connect_timeout, made._sock) == (1.0, 2.0, None)
