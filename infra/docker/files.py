"""Pulumi resources for files in a volume and for files on the host."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pulumi
from pulumi import dynamic

from infra.atomic_write import put
from infra.docker.engine import File, inspect, remove_writer, replace_files, write_files
from infra.dynamic import Provider, merged_secret


class VolumeFilesProvider(Provider):
    """Writes files into a volume, with owner and mode. The files are deleted with the volume.

    The state stores the volume's time after the last write (`volume_time`). If the volume was removed and created
    again, its time differs, and the files are written although no input has changed. Containers mount it read-only.
    """

    # The container that writes the files can run any image.
    ignored = frozenset({"image"})
    replacing = frozenset({"volume"})

    def create(self, props: dict[str, Any]) -> dynamic.CreateResult:
        write_files(props["volume"], props["image"], self._files(props))
        return dynamic.CreateResult(id_=props["volume"], outs=self._outputs(props))

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> dynamic.UpdateResult:
        replace_files(_news["volume"], _news["image"], self._files(_news))
        return dynamic.UpdateResult(outs=self._outputs(_news))

    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        remove_writer(_props["volume"])

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> dynamic.DiffResult:
        result = super().diff(_id, _olds, _news)
        if not result.changes and _time_of(_olds["volume"]) != _olds.get("volume_time"):
            return dynamic.DiffResult(changes=True)
        return result

    @staticmethod
    def _outputs(props: dict[str, Any]) -> dict[str, Any]:
        return {**props, "volume_time": _time_of(props["volume"])}

    @staticmethod
    def _files(props: dict[str, Any]) -> dict[str, File]:
        uid, mode = int(props["uid"]), int(props["mode"])
        return {path: File(text, uid, uid, mode) for path, text in props["files"].items()}


def _time_of(volume: str) -> str:
    """Return Docker's time of a volume, in whole seconds, or "" if there is no volume.

    It is the time at which the volume was created, or its top folder last changed.
    """
    found = inspect("volume", volume)
    return str(found[0]["CreatedAt"]) if found else ""


class VolumeFiles(dynamic.Resource):
    """Files in a named volume, owned by one uid. A change replaces them in place. `digest` covers all files."""

    digest: pulumi.Output[str]

    def __init__(
        self,
        name: str,
        *,
        volume: pulumi.Input[str],
        image: pulumi.Input[str],
        uid: int,
        files: Mapping[str, pulumi.Input[str]],
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
        # Not secret, because a digest of 256-bit secrets does not reveal them.
        self.digest = pulumi.Output.unsecret(contents.apply(_digest))


def restart_digest(texts: Sequence[str]) -> str:
    """Return the digest of the texts that a server reads only at its start."""
    return _digest(dict(enumerate(texts)))


def _digest(files: Mapping[Any, str]) -> str:
    sha = hashlib.sha256()
    for path in sorted(files):
        sha.update(f"{path}\0{files[path]}\0".encode())
    return sha.hexdigest()[:16]


class HostFileProvider(Provider):
    """Writes a public file on the host, and replaces it atomically."""

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
        # Write a file again that was deleted outside of Pulumi, although its inputs have not changed.
        if not result.changes and not Path(_id).exists():
            return dynamic.DiffResult(changes=True)
        return result

    @staticmethod
    def _write(props: dict[str, Any]) -> None:
        path = Path(props["path"])
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        put(path, props["content"], mode=0o644)


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
