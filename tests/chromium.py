"""A headless Chromium for tests, driven by its DevTools protocol.

If no browser is installed, root on Debian installs Debian's. Otherwise tests that need a browser are skipped.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import platform
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_START_SECONDS = 90.0
_ANSWER_SECONDS = 60.0
_INSTALL_SECONDS = 500


def find_or_install() -> str:
    """Return the browser's path. Skips the test, or fails it in CI, if no browser can be found or installed."""
    if found := _find():
        return found
    missing = "no Chromium or Chrome is on PATH"
    if os.geteuid() != 0 or not _is_debian():
        missing += ", and it is installed only by root on Debian"
    else:
        command = "apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium"
        done = subprocess.run(
            ["sh", "-c", command],
            env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
            capture_output=True,
            text=True,
            check=False,
            timeout=_INSTALL_SECONDS,
        )
        if found := _find():
            return found
        missing += f", and apt-get could not install it: {done.stderr.strip()[-200:]}"
    if os.environ.get("CI"):
        pytest.fail(f"{missing}; CI must run every test")
    pytest.skip(missing)


@dataclass
class Page:
    """A page under test, with its requests and console messages since it was opened."""

    connection: ClientConnection
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)
    _ids: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def open(self, path: Path) -> None:
        """Load a file, and wait until the page and its resources are loaded."""
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")
        self.send("Page.navigate", url=path.as_uri())
        deadline = time.monotonic() + _ANSWER_SECONDS
        while self.evaluate("document.readyState") != "complete":
            assert time.monotonic() < deadline, "the page did not load"
            time.sleep(0.05)
        # Scripts may run after the load event.
        self.evaluate("new Promise(done => setTimeout(done, 300))")

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression. A promise is awaited."""
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def show_in(self, scheme: str, width: int = 1280) -> None:
        """Emulate the color scheme `dark` or `light`, and a window of that width."""
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False
        )

    def screenshot(self, path: Path) -> None:
        answer = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(answer["data"]))

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call the browser and return its answer. Keeps the events that arrive meanwhile."""
        number = next(self._ids)
        self.connection.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self.connection.recv(timeout=_ANSWER_SECONDS))
            if message.get("id") == number:
                assert "error" not in message, f"{method}: {message['error']}"
                answer: dict[str, Any] = message["result"]
                return answer
            self._keep(message.get("method", ""), message.get("params", {}))

    def _keep(self, event: str, what: dict[str, Any]) -> None:
        if event == "Network.requestWillBeSent":
            self.requests.append(what["request"]["url"])
        elif event == "Runtime.exceptionThrown":
            self.complaints.append(str(what["exceptionDetails"]))
        elif event == "Log.entryAdded":
            self.complaints.append(what["entry"]["text"])
        elif event == "Runtime.consoleAPICalled" and what["type"] in ("error", "warning"):
            self.complaints.append(str(what["args"]))
        elif event == "Page.javascriptDialogOpening":
            self.dialogs.append(what["message"])
            self.connection.send(
                json.dumps(
                    {
                        "id": next(self._ids),
                        "method": "Page.handleJavaScriptDialog",
                        "params": {"accept": True},
                    }
                )
            )


@contextmanager
def browser(folder: Path) -> Iterator[str]:
    """Run a browser with an empty profile in `folder`, and yield the address of its DevTools."""
    path = find_or_install()
    command = [
        *(path, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
        *("--disable-dev-shm-usage", f"--user-data-dir={folder}", "--remote-debugging-port=0", "about:blank"),
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield _address(folder, process)
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=20)
        if process.poll() is None:
            process.kill()
            process.wait()


@contextmanager
def new_page(address: str) -> Iterator[Page]:
    """Yield an empty page of a running browser."""
    request = urllib.request.Request(f"http://{address}/json/new?about:blank", method="PUT")
    with urllib.request.urlopen(request, timeout=_ANSWER_SECONDS) as answer:
        url = json.load(answer)["webSocketDebuggerUrl"]
    with connect(url, max_size=None, proxy=None) as connection:
        yield Page(connection)


def _address(folder: Path, process: subprocess.Popen[bytes]) -> str:
    written = folder / "DevToolsActivePort"
    deadline = time.monotonic() + _START_SECONDS
    while True:
        if written.is_file() and (port := written.read_text().partition("\n")[0]):
            return f"127.0.0.1:{port}"
        assert process.poll() is None, f"the browser ended at once with {process.returncode}"
        assert time.monotonic() < deadline, "the browser did not start"
        time.sleep(0.1)


def _find() -> str | None:
    return next((found for name in _NAMES if (found := shutil.which(name))), None)


def _is_debian() -> bool:
    try:
        return platform.freedesktop_os_release()["ID"] == "debian"
    except OSError:
        return False
