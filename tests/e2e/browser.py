"""A real Chromium, and small web pages of one's own for it to open."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from playwright.sync_api import Browser, Playwright, sync_playwright

CHROMIUM = "/usr/bin/chromium"
NOBODY_ELSE = "MAP *.acmeshop.com 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def launch(playwright: Playwright, hosts: str = NOBODY_ELSE) -> Browser:
    """Debian's Chromium. `hosts`: what it finds at which address, by its own rules."""
    return playwright.chromium.launch(
        executable_path=CHROMIUM,
        args=[*OPTIONS, f"--host-resolver-rules={hosts}"],
        # Visitors have the back-forward cache; Playwright leaves it out.
        ignore_default_args=["--disable-back-forward-cache"],
    )


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's Chromium, which can reach nothing but 127.0.0.1; that is where acmeshop.com is too."""
    with sync_playwright() as playwright:
        browser = launch(playwright)
        try:
            yield browser
        finally:
            browser.close()


@dataclass(slots=True)
class Document:
    """One page or script of the site."""

    text: str
    kind: str = "text/html; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)


class Site:
    """A website on a port of its own."""

    def __init__(self) -> None:
        self.documents: dict[str, Document] = {}
        self.on_post: Callable[[str], None] = lambda _path: None
        documents, site = self.documents, self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                found = documents.get(self.path.partition("?")[0])
                body = found.text.encode() if found else b""
                self.send_response(200 if found else 404)
                self.send_header("Content-Length", str(len(body)))
                if found:
                    self.send_header("Content-Type", found.kind)
                    for name, value in found.headers.items():
                        self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                site.on_post(self.path)
                self.send_response(204)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
