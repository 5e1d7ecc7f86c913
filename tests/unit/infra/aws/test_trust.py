"""The certificate authorities for clients on AWS: a downloaded or given file is checked before it is used."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from infra.aws import trust
from infra.certificates import make_authority
from infra.spec.checkout import Checkout
from infra.spec.errors import InfraError
from tests.web_server import QuietHandler, served

PEM = make_authority("rds of a test").certificate


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return replace(Checkout.here(), root=tmp_path, cache_dir=tmp_path / "cache")


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bytes]]:
    """The files that AWS publishes, by path. Each request removes its file."""
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


def test_the_file_is_downloaded_once(checkout: Checkout, published: dict[str, bytes]) -> None:
    published["/eu-central-1-bundle.pem"] = PEM.encode()
    first = trust.rds_authorities(checkout, "eu-central-1")
    assert first.read_text() == PEM
    assert trust.rds_authorities(checkout, "eu-central-1") == first


def test_a_file_that_is_older_than_30_days_is_downloaded_again(
    checkout: Checkout, published: dict[str, bytes]
) -> None:
    name = "/eu-central-1-bundle.pem"
    published[name] = PEM.encode()
    path = trust.rds_authorities(checkout, "eu-central-1")
    newer = make_authority("rds of a later test").certificate
    for age_days, found in ((29, PEM), (31, newer)):
        published[name] = newer.encode()
        os.utime(path, (time.time() - age_days * 86400,) * 2)
        assert trust.rds_authorities(checkout, "eu-central-1").read_text() == found
    # The file is used although AWS cannot be reached, or answers something else.
    for answer in (None, b"a proxy's page"):
        published.clear()
        if answer is not None:
            published[name] = answer
        os.utime(path, (0, 0))
        assert trust.rds_authorities(checkout, "eu-central-1").read_text() == newer


@pytest.mark.parametrize("content", [None, b"<html>a proxy's page</html>", b""])
def test_a_download_without_certificates_is_not_kept(
    checkout: Checkout, published: dict[str, bytes], content: bytes | None
) -> None:
    if content is not None:
        published["/eu-central-1-bundle.pem"] = content
    with pytest.raises(InfraError, match="groundwork:awsRdsCaFile"):
        trust.rds_authorities(checkout, "eu-central-1")
    assert not [path for path in checkout.cache_dir.rglob("*") if path.name != "rds-ca"]


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.0 200 OK\r\nContent-Length: 900\r\n\r\n---", b"SSH-2.0-OpenSSH_9.2\r\n"]
)
def test_an_incomplete_answer_is_one_line(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    class Handler(QuietHandler):
        def do_GET(self) -> None:
            self.wfile.write(answer)

    with served(Handler) as port:
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.setattr(trust, "URL", f"http://127.0.0.1:{port}/{{region}}-bundle.pem")
        with pytest.raises(InfraError, match="groundwork:awsRdsCaFile") as refused:
            trust.rds_authorities(checkout, "eu-central-1")
    assert len(str(refused.value).splitlines()) == 1


def test_a_given_file_is_used_without_the_network(checkout: Checkout, tmp_path: Path) -> None:
    (tmp_path / "mine.pem").write_text(PEM)
    found = trust.authorities(checkout, "eu-central-1", "mine.pem")
    assert found[trust.RDS_FILE].read_text() == PEM
    assert b"Amazon" in found[trust.ELASTICACHE_FILE].read_bytes()


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_given_file_without_certificates_is_refused(
    checkout: Checkout, tmp_path: Path, content: str | None
) -> None:
    if content is not None:
        (tmp_path / "mine.pem").write_text(content)
    with pytest.raises(InfraError, match=r"mine\.pem") as refused:
        trust.rds_authorities(checkout, "eu-central-1", "mine.pem")
    if content is not None:
        assert "/eu-central-1-bundle.pem, and set" in str(refused.value)
