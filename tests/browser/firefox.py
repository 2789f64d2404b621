"""Debian's Firefox, driven by Marionette: length-prefixed JSON over a socket, no driver in between."""

import json
import os
import socket
import subprocess
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from e2e.harness import wait_until

from .front import HOST
from .lab import MORTAL

UBLOCK = Path("/usr/share/mozilla/extensions/{ec8030f7-c20a-464f-9b0e-13a3a9e97384}")
PREFS: dict[str, str | int | bool] = {
    "marionette.port": 0,
    "network.dns.localDomains": HOST,
    "network.proxy.type": 0,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.page": 0,
    # Debian's add-ons are not everybody's: only what a test installs.
    "extensions.enabledScopes": 1,
    "app.update.disabledForTesting": True,
    "app.normandy.enabled": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "services.settings.server": "data:,#remote-settings-dummy/v1",
}


class Firefox:
    """A window, by its Marionette socket."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._stream = connection.makefile("rb")
        self._numbers = count(1)
        self._message()
        self.ask("WebDriver:NewSession", acceptInsecureCerts=True)

    def _message(self) -> object:
        length = b""
        while (digit := self._stream.read(1)) != b":":
            length += digit
        return json.loads(self._stream.read(int(length)))

    def ask(self, command: str, **arguments: object) -> object:
        """One command and its answer; fails with what Firefox says."""
        text = json.dumps([0, next(self._numbers), command, arguments]).encode()
        self._socket.sendall(b"%d:%s" % (len(text), text))
        answer = self._message()
        assert isinstance(answer, list)
        _, _, error, result = answer
        assert not error, error
        return result["value"] if isinstance(result, dict) and "value" in result else result

    @contextmanager
    def addon(self, file: Path) -> Iterator[None]:
        """Installed until the end of the block."""
        name = self.ask("Addon:Install", path=str(file), temporary=True)
        yield
        self.ask("Addon:Uninstall", id=name)

    def go(self, url: str) -> None:
        """Open a page, and wait for its load event."""
        self.ask("WebDriver:Navigate", url=url)

    def reload(self) -> None:
        """As the visitor would, and wait for the load event."""
        self.ask("WebDriver:Refresh")

    def run(self, script: str) -> object:
        """What `script` returns; a promise is waited for."""
        return self.ask("WebDriver:ExecuteScript", script=script, args=[], sandbox=None)


@contextmanager
def firefox(folder: Path) -> Iterator[Firefox]:
    """A browser with a new profile; it can reach nothing but this machine's shop."""
    profile = folder / "profile"
    profile.mkdir()
    lines = [f"user_pref({json.dumps(k)}, {json.dumps(v)});" for k, v in PREFS.items()]
    (profile / "user.js").write_text("\n".join(lines), encoding="utf-8")
    command = ["firefox-esr", "--marionette", "--headless", "--no-remote", "--profile"]
    env = {"HOME": str(folder), "PATH": os.environ["PATH"]}
    with (folder / "firefox.log").open("wb") as log:
        process = subprocess.Popen([*MORTAL, *command, profile], stdout=log, stderr=log, env=env)
    try:
        active = profile / "MarionetteActivePort"
        port = wait_until(lambda: active.exists() and active.read_text(), 60, "Firefox is up")
        with socket.create_connection(("127.0.0.1", int(port)), timeout=60) as connection:
            yield Firefox(connection)
    finally:
        process.terminate()
        process.wait(20)


def ublock(folder: Path) -> Path:
    """uBlock Origin as Debian packs it, with its default lists, as one file."""
    [source] = UBLOCK.glob("uBlock0*")
    packed = folder / "ublock.xpi"
    with zipfile.ZipFile(packed, "w") as archive:
        for file in sorted(source.rglob("*")):
            archive.write(file, file.relative_to(source))
    return packed
