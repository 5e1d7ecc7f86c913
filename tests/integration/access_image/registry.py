"""An in-memory image registry with the part of the distribution protocol that `docker push` uses."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.infra.aws.fake_aws import REGISTRY_LOGIN
from tests.web_server import QuietHandler, served


@dataclass
class Registry:
    """The content of the registry. `manifests` maps tags to content. Only AWS's login is accepted."""

    address: str = ""
    blobs: dict[str, int] = field(default_factory=dict)
    manifests: dict[str, dict[str, Any]] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    pushes: int = 0


@contextmanager
def registry() -> Iterator[Registry]:
    """Serve on a free port of the loopback address, where Docker does not require TLS."""
    kept = Registry()
    uploads: dict[str, bytes] = {}

    class Handler(QuietHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self, status: int, **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", headers.get("length", "0"))
            self.end_headers()

        def _is_let_in(self) -> bool:
            # Read the body first, because it would otherwise be parsed as the next request.
            length = int(self.headers.get("Content-Length") or 0)
            self.body = self.rfile.read(length)
            if self.headers.get("Transfer-Encoding") == "chunked":
                while size := int(self.rfile.readline(), 16):
                    self.body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
            if self.headers.get("Authorization") == f"Basic {REGISTRY_LOGIN}":
                return True
            self._answer(401, WWW_Authenticate='Basic realm="registry"')
            return False

        def do_GET(self) -> None:
            if self._is_let_in():
                self._answer(200, Docker_Distribution_Api_Version="registry/2.0")

        def do_HEAD(self) -> None:
            if not self._is_let_in():
                return
            last = self.path.rpartition("/")[2]
            known = last in self.path and (last in kept.blobs or last in kept.digests)
            self._answer(200 if known else 404)

        def do_POST(self) -> None:
            if self._is_let_in():
                upload = uuid.uuid4().hex
                uploads[upload] = b""
                self._answer(202, Location=f"{self.path.partition('?')[0]}{upload}", Range="0-0")

        def do_PATCH(self) -> None:
            if self._is_let_in():
                upload = self.path.rpartition("/")[2]
                uploads[upload] += self.body
                self._answer(202, Location=self.path, Range=f"0-{len(uploads[upload]) - 1}")

        def do_PUT(self) -> None:
            if not self._is_let_in():
                return
            parts = urlsplit(self.path)
            name = parts.path.rpartition("/")[2]
            if "/manifests/" in parts.path:
                digest = f"sha256:{hashlib.sha256(self.body).hexdigest()}"
                kept.manifests[name] = json.loads(self.body)
                kept.digests[name] = digest
                kept.pushes += 1
            else:
                content = uploads.pop(name) + self.body
                (digest,) = parse_qs(parts.query)["digest"]
                assert digest == f"sha256:{hashlib.sha256(content).hexdigest()}"
                kept.blobs[digest] = len(content)
            self._answer(201, Docker_Content_Digest=digest, Location=parts.path)

    with served(Handler) as port:
        kept.address = f"127.0.0.1:{port}"
        yield kept
