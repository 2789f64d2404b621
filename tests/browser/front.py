"""The website as visitors meet it: https://www.acmeshop.com, with one path handed on to the gateway.

Browsers are told that the name is this machine. On port 443 when this process may take it, because
filter rules and cookies then see the address a real shop has.
"""

import contextlib
import http.client
import json
import ssl
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

from e2e.browser import Document
from e2e.harness import Arrived, Gateway, StandIn

HOST = "www.acmeshop.com"
VISITOR = "203.0.113.9"
"""the address of every visitor, as the front server tells it"""
# Only between two neighbours (RFC 9110, 7.6.1), or said anew by the one that answers.
HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"}


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as the browser made it, and the status it got."""

    method: str
    path: str
    cookies: dict[str, str]
    body: bytes
    status: int


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that closes a connection it had opened in advance is no news."""


class Front:
    """Pages from `documents` by path; everything below the slug goes to the gateway."""

    def __init__(self, gateway: Gateway, graph: StandIn, folder: Path) -> None:
        self.gateway = gateway
        self.graph = graph
        self.documents: dict[str, Document] = {}
        self.asked: list[Asked] = []
        self.before: Callable[[str], object] = lambda _path: None
        self._server = self._listen()
        self._server.socket = _certified(folder).wrap_socket(
            # A connection that says nothing must not hold up the others.
            self._server.socket,
            server_side=True,
            do_handshake_on_connect=False,
        )
        self.port = self._server.server_port
        self.url = f"https://{HOST}" + ("" if self.port == 443 else f":{self.port}")
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def tag(self) -> str:
        """What the owner of the site pastes."""
        return f'<script src="/{self.gateway.slug}"></script>'

    def paths(self, path: str) -> list[Asked]:
        """The requests for one path so far, in order."""
        return [one for one in list(self.asked) if one.path == path]

    @property
    def hits(self) -> list[Asked]:
        """The hits so far, in order."""
        return self.paths(f"/{self.gateway.slug}/h")

    @property
    def sent(self) -> list[tuple[str, str]]:
        """Name and path of every event so far, in order."""
        events = [event for hit in self.hits for event in json.loads(hit.body)["events"]]
        return [(event["name"], event["url"].removeprefix(self.url)) for event in events]

    def delivered(self, count: int) -> list[Arrived]:
        """The events Meta's stand-in took of the hits so far, once it has so many; else nothing."""
        ids = {event["id"] for hit in self.hits for event in json.loads(hit.body)["events"]}
        found = [event for event in self.graph.received() if event.event_id in ids]
        assert len(found) <= count
        return found if len(found) == count else []

    def _listen(self) -> _Server:
        front = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def _do(self) -> None:
                front._answer(self)

            do_GET = do_POST = do_OPTIONS = _do

            def log_message(self, format: str, *args: object) -> None:
                pass

        with contextlib.suppress(OSError):
            return _Server(("127.0.0.1", 443), Handler)
        return _Server(("127.0.0.1", 0), Handler)

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        path = request.path.partition("?")[0]
        self.before(path)
        if path.startswith(f"/{self.gateway.slug}"):
            status, headers, text = self._passed_on(request, body)
        elif document := self.documents.get(path):
            headers = [("Content-Type", document.kind), *document.headers.items()]
            status, text = 200, document.text.encode()
        else:
            status, headers, text = 404, [], b""
        jar = SimpleCookie(request.headers.get("Cookie", ""))
        cookies = {name: morsel.value for name, morsel in jar.items()}
        self.asked.append(Asked(request.command, path, cookies, body, status))
        request.send_response(status)
        for name, value in headers:
            request.send_header(name, value)
        if status not in (204, 304):
            request.send_header("Content-Length", str(len(text)))
        request.end_headers()
        request.wfile.write(text)

    def _passed_on(
        self, request: BaseHTTPRequestHandler, body: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        upstream = http.client.HTTPConnection(self.gateway.url.removeprefix("http://"), timeout=20)
        headers = {k: v for k, v in request.headers.items() if k.lower() not in HOP}
        headers |= {"X-Forwarded-For": VISITOR, "X-Forwarded-Proto": "https"}
        with contextlib.closing(upstream):
            upstream.request(request.command, request.path, body or None, headers)
            answer = upstream.getresponse()
            kept = [(k, v) for k, v in answer.getheaders() if k.lower() not in HOP]
            return answer.status, kept, answer.read()


def _certified(folder: Path) -> ssl.SSLContext:
    """A certificate nobody vouches for; browsers are told to take it."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    command = f"openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN={HOST}"
    names = "subjectAltName=DNS:acmeshop.com,DNS:*.acmeshop.com"
    subprocess.run(
        [*command.split(), "-addext", names, "-keyout", key, "-out", certificate],
        check=True,
        capture_output=True,
        timeout=60,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context
