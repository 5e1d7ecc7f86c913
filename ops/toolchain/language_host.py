"""Pulumi's language host for Python: serves pulumirpc.LanguageRuntime to the engine and starts programs for it.

The official language host is not published as a module. This one replaces it for a CLI built from source. It runs the
program, policy packs and component providers, and installs nothing. The engine starts it. It exits quietly on SIGINT
or SIGTERM, and when the engine is gone.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import importlib.util
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc
from google.protobuf import empty_pb2


def _without_the_sdk() -> None:
    """Make `pulumi.runtime.proto` importable without the SDK around it, which would dominate the start-up time."""
    spec = importlib.util.find_spec("pulumi")
    if spec is None or "pulumi" in sys.modules:
        return
    for name in ("pulumi", "pulumi.runtime"):
        module = ModuleType(name)
        folders = spec.submodule_search_locations or []
        module.__path__ = [str(Path(folder, *name.split(".")[1:])) for folder in folders]
        sys.modules[name] = module


if __name__ == "__main__":
    _without_the_sdk()

from pulumi.runtime.proto import language_pb2, language_pb2_grpc, plugin_pb2  # noqa: E402

# Exit code of a program that has already shown its error, so that the engine adds nothing.
BAIL = 32
# The engine's own limit; a large stack's configuration does not fit into gRPC's default of 4 MB.
MESSAGE_LIMIT = 400 << 20
GRACE_SECONDS = 5.0
CHUNK_BYTES = 1 << 16


class LanguageHost(language_pb2_grpc.LanguageRuntimeServicer):
    """The service. `executor` is the SDK's script that runs a program against the engine."""

    def __init__(self, engine: str, executor: Path) -> None:
        self._engine = engine
        self._executor = executor
        self._running: set[Process] = set()

    async def Handshake(self, request: Any, context: Any) -> Any:
        self._engine = request.engine_address or self._engine
        return language_pb2.LanguageHandshakeResponse()

    async def GetPluginInfo(self, request: Any, context: Any) -> Any:
        return plugin_pb2.PluginInfo(version=importlib.metadata.version("pulumi"))

    async def About(self, request: Any, context: Any) -> Any:
        return language_pb2.AboutResponse(executable=python_of(request.info), version=sys.version.split()[0])

    async def GetRequiredPlugins(self, request: Any, context: Any) -> Any:
        # The older form of GetRequiredPackages. The engine calls both.
        return language_pb2.GetRequiredPluginsResponse()

    async def GetRequiredPackages(self, request: Any, context: Any) -> Any:
        return language_pb2.GetRequiredPackagesResponse(
            packages=[
                plugin_pb2.PackageDependency(name=name, kind="resource", version=version, server=server)
                for name, version, server in plugins_of(python_of(request.info))
                if is_installed(name, version)
            ]
        )

    async def GetProgramDependencies(self, request: Any, context: Any) -> Any:
        found = {d.name: d.version for d in importlib.metadata.distributions()}
        return language_pb2.GetProgramDependenciesResponse(
            dependencies=[language_pb2.DependencyInfo(name=n, version=v) for n, v in sorted(found.items())]
        )

    async def InstallDependencies(self, request: Any, context: Any) -> AsyncIterator[Any]:
        yield language_pb2.InstallDependenciesResponse(
            stdout=b"The dependencies come from requirements.lock; `make .venv` installs them.\n"
        )

    async def Run(self, request: Any, context: Any) -> Any:
        """Run the program. Its output is this process's output, which the engine reads."""
        environment = dict(
            os.environ,
            PULUMI_CONFIG=json.dumps(dict(request.config)),
            PULUMI_CONFIG_SECRET_KEYS=json.dumps(list(request.configSecretKeys)),
        )
        process = await self._start(self._command(request), env=environment)
        code = await self._ended(process)
        if code == 0:
            return language_pb2.RunResponse()
        if code == BAIL:
            return language_pb2.RunResponse(bail=True)
        how = f"was terminated by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"
        return language_pb2.RunResponse(error=f"the program {how}")

    async def RunPlugin(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """Run a policy pack or a provider written in Python, and stream its output."""
        python, folder = python_of(request.info), request.info.program_directory
        if request.kind == "analyzer":
            command = [python, "-u", "-m", "pulumi.policy", *request.args, folder]
        else:
            command = [python, "-u", folder, *request.args]
        environment = dict(os.environ)
        environment.update(pair.split("=", 1) for pair in request.env if "=" in pair)
        where = folder if request.kind == "analyzer" else request.pwd
        process = await self._start(command, env=environment, cwd=where, stdout=PIPE, stderr=PIPE)
        try:
            async for output in _outputs(process):
                yield output
            yield language_pb2.RunPluginResponse(exitcode=await process.wait())
        finally:
            # The engine stops a policy pack by cancelling this call.
            await self._end(process)

    async def Cancel(self, request: Any, context: Any) -> Any:
        await self.end_all()
        return empty_pb2.Empty()

    async def end_all(self) -> None:
        """Terminate all running programs."""
        await asyncio.gather(*(self._end(process) for process in tuple(self._running)))

    def _command(self, request: Any) -> list[str]:
        info = request.info
        entry_point = info.program_directory if info.entry_point in ("", ".") else info.entry_point
        named = {
            "pwd": request.pwd,
            "parallel": str(request.parallel),
            "tracing": "",
            "monitor": request.monitor_address,
            "engine": self._engine,
            "project": request.project,
            "stack": request.stack,
            "organization": request.organization,
            "root_directory": info.root_directory,
        }
        if request.dryRun:
            named["dry_run"] = "true"
        options = [part for name, value in named.items() for part in (f"--{name}", value)]
        return [python_of(info), "-u", str(self._executor), *options, entry_point, *request.args]

    async def _start(self, command: Sequence[str], **how: Any) -> Process:
        # In a separate process group: Ctrl-C and the engine's SIGINT only reach this host, which terminates the
        # program with SIGTERM. An interrupted program would print a traceback.
        process = await asyncio.create_subprocess_exec(*command, stdin=DEVNULL, process_group=0, **how)
        self._running.add(process)
        return process

    async def _ended(self, process: Process) -> int:
        try:
            return await process.wait()
        finally:
            await self._end(process)

    async def _end(self, process: Process) -> None:
        self._running.discard(process)
        if process.returncode is not None:
            return
        _signal(process, signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), GRACE_SECONDS)
        except TimeoutError:
            _signal(process, signal.SIGKILL)


def python_of(info: Any) -> str:
    """Return a program's interpreter: that of the virtual environment in its project file, or this one."""
    if "virtualenv" in info.options.fields and (named := info.options.fields["virtualenv"].string_value):
        return str(Path(info.root_directory, named, "bin", "python"))
    return sys.executable


def plugins_of(python: str) -> Iterator[tuple[str, str, str]]:
    """Yield name, version and server of the plugins that the packages of `python`'s environment need.

    They are read from a file in each package, without starting that interpreter.
    """
    for path in sorted(Path(python).parent.parent.glob("lib/python3*/site-packages/*/pulumi-plugin.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.get("resource") and content.get("version"):
            version = str(content["version"]).removeprefix("v")
            yield (content.get("name") or path.parent.name, f"v{version}", content.get("server") or "")


def is_installed(name: str, version: str) -> bool:
    """Return whether PULUMI_HOME has the plugin.

    Missing plugins are not requested in advance: the engine fetches one for its first resource, and a stack on Docker
    must not wait for the AWS plugin.
    """
    home = Path(os.environ.get("PULUMI_HOME") or Path.home() / ".pulumi")
    return (home / "plugins" / f"resource-{name}-{version}").is_dir()


async def _outputs(process: Process) -> AsyncIterator[Any]:
    """Yield a process's output as RunPlugin responses until both of its streams are closed."""
    responses: asyncio.Queue[Any] = asyncio.Queue()

    async def pump(stream: asyncio.StreamReader | None, response: Callable[[bytes], Any]) -> None:
        while stream is not None and (chunk := await stream.read(CHUNK_BYTES)):
            await responses.put(response(chunk))
        await responses.put(None)

    answer = language_pb2.RunPluginResponse
    pumps = [
        asyncio.create_task(pump(process.stdout, lambda chunk: answer(stdout=chunk))),
        asyncio.create_task(pump(process.stderr, lambda chunk: answer(stderr=chunk))),
    ]
    for _ in pumps:
        while (response := await responses.get()) is not None:
            yield response


def _signal(process: Process, number: signal.Signals) -> None:
    try:
        # Signal the whole group, because the program may have started others.
        os.killpg(process.pid, number)
    except ProcessLookupError:
        pass


async def _end_of(parent: int) -> None:
    """Return when the parent process has ended, because a killed engine sends no signal."""
    while os.getppid() == parent:
        await asyncio.sleep(1)


async def serve(engine: str, executor: Path) -> None:
    """Serve on a free local port, print its number, for which the engine waits, and run until told to stop."""
    # Read before printing the port, because the engine may end at any time after that.
    parent = os.getppid()
    size = [
        ("grpc.max_receive_message_length", MESSAGE_LIMIT),
        ("grpc.max_send_message_length", MESSAGE_LIMIT),
    ]
    server = grpc.aio.server(options=size)
    host = LanguageHost(engine, executor)
    language_pb2_grpc.add_LanguageRuntimeServicer_to_server(host, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    stop_requested = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop_requested.set)
    print(port, flush=True)
    endings = [asyncio.create_task(stop_requested.wait()), asyncio.create_task(_end_of(parent))]
    await asyncio.wait(endings, return_when=asyncio.FIRST_COMPLETED)
    await host.end_all()
    await server.stop(0.2)


def main(arguments: Sequence[str] | None = None) -> None:
    # The engine's own flags (-tracing, -root) vary by version. The address is the last argument.
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--exec", type=Path, required=True)
    known, rest = parser.parse_known_args(arguments)
    addresses = [argument for argument in rest if not argument.startswith("-")]
    # A signal before the event loop has its handlers must not print a traceback either.
    signal.signal(signal.SIGINT, lambda *_: os._exit(0))
    asyncio.run(serve(addresses[-1] if addresses else "", known.exec))


if __name__ == "__main__":
    main()
