"""WebKitGTK: a window driven over WebDriver, and one with Safari's tracking prevention, left to itself.

The window with tracking prevention cannot be driven, because a driven browser keeps its cookies to
itself. It opens one page, and its cookies are read from the file it keeps them in.
"""

import contextlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Self

import httpx2
from e2e.harness import wait_until

from .lab import MORTAL

DAY_S = 86_400


def minibrowser() -> str:
    """Where Debian keeps the browser that comes with the library."""
    return str(max(Path("/usr/lib").glob("*/webkit2gtk-4.*/MiniBrowser")))


@contextmanager
def screen() -> Iterator[str]:
    """A display nobody looks at; its name."""
    command = ["Xvfb", "-displayfd", "1", "-screen", "0", "1024x768x24", "-nolisten", "tcp"]
    with subprocess.Popen(
        [*MORTAL, *command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as server:
        try:
            assert server.stdout
            yield f":{server.stdout.readline().decode().strip()}"
        finally:
            server.terminate()


class Proxy:
    """Every name is this machine: WebKit can be told so by a proxy only."""

    def __init__(self, port: int) -> None:
        class Handler(StreamRequestHandler):
            def handle(self) -> None:
                while self.rfile.readline().strip():
                    pass
                self.wfile.write(b"HTTP/1.1 200 Connected\r\n\r\n")
                with socket.create_connection(("127.0.0.1", port)) as site:
                    threading.Thread(target=_pour, args=(site, self.connection)).start()
                    _pour(self.connection, site)

        class Server(ThreadingTCPServer):
            daemon_threads = True

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _pour(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@contextmanager
def _running(command: Sequence[str], folder: Path, display: str) -> Iterator[None]:
    """With everything it keeps in `folder`; the processes it has started end with it."""
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "DISPLAY": display}
    env |= {"NO_AT_BRIDGE": "1", "GSETTINGS_BACKEND": "memory", "LIBGL_ALWAYS_SOFTWARE": "1"}
    with (folder / "webkit.log").open("ab") as log:
        process = subprocess.Popen(
            [*MORTAL, *command], stdout=log, stderr=log, env=env, start_new_session=True
        )
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(20)


class WebKit:
    """A window, by its WebDriver session."""

    def __init__(self, client: httpx2.Client, proxy: Proxy) -> None:
        self._client = client
        self._path = ""
        arguments = ["--automation", f"--proxy={proxy.url}", "--ignore-tls-errors"]
        options = {"binary": minibrowser(), "args": arguments}
        wanted = {"acceptInsecureCerts": True, "webkitgtk:browserOptions": options}
        session = self._post("/session", capabilities={"alwaysMatch": wanted})
        assert isinstance(session, dict)
        self._path = f"/session/{session['sessionId']}"

    def _post(self, path: str, **arguments: object) -> object:
        """One command and its answer; fails with what WebKit says."""
        answer = self._client.post(self._path + path, content=json.dumps(arguments))
        assert answer.is_success, answer.text
        value: object = answer.json()["value"]
        return value

    def go(self, url: str) -> None:
        """Open a page, and wait for its load event."""
        self._post("/url", url=url)

    def run(self, script: str) -> object:
        """What `script` returns; a promise is waited for."""
        return self._post("/execute/sync", script=script, args=[])


@contextmanager
def webkit(folder: Path, display: str, proxy: Proxy) -> Iterator[WebKit]:
    """A browser with a new profile."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with (
        _running(["WebKitWebDriver", f"--port={port}"], folder, display),
        # There is no TLS here, and reading the certificates takes 30 ms.
        httpx2.Client(base_url=url, trust_env=False, verify=False, timeout=60) as client,
    ):
        wait_until(lambda: _listens(client), what="WebKitWebDriver listens")
        yield WebKit(client, proxy)


def _listens(client: httpx2.Client) -> bool:
    try:
        return client.get("/status").is_success
    except httpx2.ConnectError:
        return False


@dataclass(frozen=True, slots=True)
class Kept:
    """A cookie as the browser keeps it."""

    value: str
    days: float
    """left to live"""
    http_only: bool


class Safari:
    """A visitor whose WebKit prevents tracking as Safari's does; what it keeps outlives its windows."""

    def __init__(self, folder: Path, display: str, proxy: Proxy) -> None:
        self._folder = folder
        self._display = display
        self._proxy = proxy
        self._file = folder / "cookies.sqlite"

    def at(self, url: str) -> AbstractContextManager[None]:
        """A window with this page, until the end of the block."""
        options = ["--enable-itp", "--ignore-tls-errors", f"--proxy={self._proxy.url}"]
        command = [minibrowser(), *options, "-c", str(self._file), url]
        return _running(command, self._folder, self._display)

    def cookies(self) -> dict[str, Kept]:
        """By name, as they are in the file now."""
        query = "SELECT name, value, expiry, isHttpOnly FROM moz_cookies"
        if not self._file.exists():
            return {}
        with contextlib.closing(sqlite3.connect(self._file)) as file:
            rows = file.execute(query).fetchall()
        now = time.time()
        return {n: Kept(v, round((e - now) / DAY_S, 1), bool(h)) for n, v, e, h in rows}

    def let_pass(self, days: int) -> None:
        """Bring the end of every cookie nearer. No window may be open."""
        self._change("UPDATE moz_cookies SET expiry = expiry - ?", days * DAY_S + 60)

    def lose(self, name: str) -> None:
        """Delete a cookie, as the browser does by itself. No window may be open."""
        self._change("DELETE FROM moz_cookies WHERE name = ?", name)

    def _change(self, statement: str, value: str | int) -> None:
        with contextlib.closing(sqlite3.connect(self._file)) as file, file:
            assert file.execute(statement, [value]).rowcount
