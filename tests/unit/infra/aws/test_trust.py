"""Whom clients trust on AWS: what is downloaded or given is looked at before anybody does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from infra.aws import trust
from infra.certificates import make_authority
from infra.spec.errors import InfraError
from infra.spec.world import World
from tests.web_server import QuietHandler, served

PEM = make_authority("rds of a test").certificate


@pytest.fixture
def world(tmp_path: Path) -> World:
    return replace(World.here(), root=tmp_path, cache_dir=tmp_path / "cache")


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bytes]]:
    """What AWS publishes, by path; each request takes it out."""
    files: dict[str, bytes] = {}

    class Handler(QuietHandler):
        def do_GET(self) -> None:
            body = files.pop(self.path, None)
            self.send_response(200 if body is not None else 404)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

    with served(Handler) as port:
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.setattr(trust, "URL", f"http://127.0.0.1:{port}/{{region}}-bundle.pem")
        yield files


def test_it_is_downloaded_once_and_kept(world: World, published: dict[str, bytes]) -> None:
    published["/eu-central-1-bundle.pem"] = PEM.encode()
    first = trust.rds_authorities(world, "eu-central-1")
    assert first.read_text() == PEM
    assert trust.rds_authorities(world, "eu-central-1") == first


@pytest.mark.parametrize("content", [None, b"<html>a proxy's page</html>", b""])
def test_what_is_no_certificate_is_not_kept(
    world: World, published: dict[str, bytes], content: bytes | None
) -> None:
    if content is not None:
        published["/eu-central-1-bundle.pem"] = content
    with pytest.raises(InfraError, match="groundwork:awsRdsCaFile"):
        trust.rds_authorities(world, "eu-central-1")
    assert not [path for path in world.cache_dir.rglob("*") if path.name != "rds-ca"]


def test_a_file_that_is_given_is_taken_without_the_network(world: World, tmp_path: Path) -> None:
    (tmp_path / "mine.pem").write_text(PEM)
    found = trust.authorities(world, "eu-central-1", "mine.pem")
    assert found[trust.RDS_FILE].read_text() == PEM
    assert b"Amazon" in found[trust.ELASTICACHE_FILE].read_bytes()


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_file_that_is_none_is_refused(world: World, tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "mine.pem").write_text(content)
    with pytest.raises(InfraError, match=r"mine\.pem"):
        trust.rds_authorities(world, "eu-central-1", "mine.pem")
