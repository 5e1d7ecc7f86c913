"""Files for containers, in a volume, and files on the host: as resources."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pulumi
from pulumi import dynamic

from infra.docker.engine import File, remove_container, replace_files, write_files, writer_of
from infra.dynamic import Provider, merged_secret
from infra.whole_file import put


class VolumeFilesProvider(Provider):
    """Writes files into a volume with owner and mode; the volume's end is theirs."""

    # The image only lends its file system for the write.
    ignored = frozenset({"image"})
    replacing = frozenset({"volume"})

    def create(self, props: dict[str, Any]) -> dynamic.CreateResult:
        write_files(props["volume"], props["image"], self._files(props))
        return dynamic.CreateResult(id_=props["volume"], outs=dict(props))

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> dynamic.UpdateResult:
        replace_files(_news["volume"], _news["image"], self._files(_news))
        return dynamic.UpdateResult(outs=dict(_news))

    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        # What a killed write left behind would hold the volume.
        remove_container(writer_of(_props["volume"]))

    @staticmethod
    def _files(props: dict[str, Any]) -> dict[str, File]:
        uid, mode = int(props["uid"]), int(props["mode"])
        return {path: File(text, uid, uid, mode) for path, text in props["files"].items()}


class VolumeFiles(dynamic.Resource):
    """Files in a named volume, owned by one uid; a change replaces them in place.

    `restart_digest` is over the texts of `restart_on`: what a server takes up only when it starts. `digest` is
    over all of them.
    """

    restart_digest: pulumi.Output[str]
    digest: pulumi.Output[str]

    def __init__(
        self,
        name: str,
        *,
        volume: pulumi.Input[str],
        image: pulumi.Input[str],
        uid: int,
        files: Mapping[str, pulumi.Input[str]],
        restart_on: Sequence[str] = (),
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        contents = merged_secret(files)
        props = {
            "volume": volume,
            "image": image,
            "uid": uid,
            "mode": 0o400,
            "files": contents,
        }
        opts = pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(additional_secret_outputs=["files"]))
        super().__init__(VolumeFilesProvider(), name, props, opts)
        # Not secret: a digest over 256-bit secrets gives nothing away.
        self.digest = pulumi.Output.unsecret(contents.apply(_digest))
        self.restart_digest = pulumi.Output.from_input(_digest(dict(enumerate(restart_on))))


def _digest(files: Mapping[Any, str]) -> str:
    sha = hashlib.sha256()
    for path in sorted(files):
        sha.update(f"{path}\0{files[path]}\0".encode())
    return sha.hexdigest()[:16]


class HostFileProvider(Provider):
    """Keeps a public file on the host, replaced atomically."""

    replacing = frozenset({"path"})

    def create(self, props: dict[str, Any]) -> dynamic.CreateResult:
        self._write(props)
        return dynamic.CreateResult(id_=props["path"], outs=dict(props))

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> dynamic.UpdateResult:
        self._write(_news)
        return dynamic.UpdateResult(outs=dict(_news))

    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        Path(_id).unlink(missing_ok=True)

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> dynamic.DiffResult:
        result = super().diff(_id, _olds, _news)
        # A file that somebody removed comes back, although its inputs are the same.
        if not result.changes and not Path(_id).exists():
            return dynamic.DiffResult(changes=True)
        return result

    @staticmethod
    def _write(props: dict[str, Any]) -> None:
        path = Path(props["path"])
        path.parent.mkdir(parents=True, exist_ok=True)
        put(path, props["content"])


class HostFile(dynamic.Resource):
    """A public file on the machine that runs the program, such as the CA's certificate."""

    path: pulumi.Output[str]

    def __init__(
        self,
        name: str,
        *,
        path: Path,
        content: pulumi.Input[str],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__(HostFileProvider(), name, {"path": str(path), "content": content}, opts)
