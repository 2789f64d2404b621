"""What the browser tests stand on: a shop, a stand-in of Meta's pixel, and visitors who watch what happens."""

import json
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self
from urllib.parse import parse_qs

from e2e.harness import Gateway, Logged, wait_until
from playwright.sync_api import BrowserContext, Page, Request

FBEVENTS = (Path(__file__).parent / "fbevents.js").read_bytes()
PIXEL = "1234567890123456"
MORTAL = ["setpriv", "--pdeathsig", "TERM"]
"""before a command: it ends with the tests, also when these are killed and clean nothing up"""
STUB = "window.px = window.px || function () { (px.q = px.q || []).push(arguments); };"


@dataclass(frozen=True, slots=True)
class Fired:
    """An event as the pixel sent it to Meta."""

    name: str
    id: str
    pixel: str
    data: Mapping[str, str]
    url: str


class Answers:
    """A small server on a port of its own; `answer` decides by method and path."""

    def __init__(
        self, answer: Callable[[str, str, bytes], tuple[int, Mapping[str, str], bytes]]
    ) -> None:
        class Handler(BaseHTTPRequestHandler):
            def _do(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                status, headers, text = answer(self.command, self.path, body)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = do_OPTIONS = _do

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Meta(Answers):
    """connect.facebook.net and facebook.com/tr in one."""

    def __init__(self) -> None:
        self.fired: list[Fired] = []
        super().__init__(self._answer)

    def _answer(self, method: str, path: str, body: bytes) -> tuple[int, Mapping[str, str], bytes]:
        path, _, query = path.partition("?")
        if path == "/fbevents.js":
            return 200, {"Content-Type": "text/javascript"}, FBEVENTS
        if path == "/facebook.com/tr/":
            self._record(query if method == "GET" else body.decode())
            return 200, {"Content-Type": "image/gif"}, b""
        return 404, {}, b""

    def _record(self, query: str) -> None:
        said = {key: values[0] for key, values in parse_qs(query).items()}
        data = {key[3:-1]: value for key, value in said.items() if key.startswith("cd[")}
        self.fired.append(Fired(said["ev"], said.get("eid", ""), said["id"], data, said["dl"]))

    def base_code(self, switches: str = "") -> str:
        """What a site pastes to get the pixel: a stub that queues, and the script."""
        return f"""(function (w, d) {{
          if (w.fbq) return;
          const stub = (w.fbq = function () {{
            if (stub.callMethod) stub.callMethod.apply(stub, arguments);
            else stub.queue.push(arguments);
          }});
          if (!w._fbq) w._fbq = stub;
          stub.push = stub; stub.loaded = true; stub.version = "2.0"; stub.queue = [];
          const s = d.createElement("script");
          s.async = true; s.src = "{self.url}/fbevents.js?{switches}"; d.head.append(s);
        }})(window, document);"""


@dataclass(slots=True)
class Visitor:
    """A window, what went wrong in it, and what it asked the gateway for."""

    page: Page
    gateway: Gateway
    errors: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    bodies: list[dict[str, object]] = field(default_factory=list)
    answered: int = 0

    @classmethod
    def of(cls, context: BrowserContext, gateway: Gateway) -> Self:
        visitor = cls(context.new_page(), gateway)
        page = visitor.page
        page.on("pageerror", lambda error: visitor.errors.append(str(error)))
        page.on("request", lambda request: visitor._asked(request))
        page.on("response", lambda answer: visitor._answered(answer.request))
        return visitor

    def _asked(self, request: Request) -> None:
        if request.url.startswith(self.gateway.url):
            self.asked.append(
                f"{request.method} {request.url.removeprefix(self.gateway.script_url)}"
            )
            if request.method == "POST":
                self.bodies.append(json.loads(request.post_data or "null"))

    def _answered(self, request: Request) -> None:
        if request.url.startswith(self.gateway.url) and request.method == "POST":
            self.answered += 1

    @property
    def sent(self) -> list[dict[str, object]]:
        """Every event posted so far, in order."""
        return [event for body in self.bodies for event in body["events"]]  # type: ignore[attr-defined]

    @property
    def names(self) -> list[str]:
        return [str(event["name"]) for event in self.sent]

    def until(self, condition: Callable[[], object], what: str = "") -> None:
        """The browser's own news arrive only while it is asked something."""
        wait_until(lambda: self.page.evaluate("1") and condition(), what=what)

    def rest(self, ms: int = 700) -> None:
        """Longer than the script waits with anything, so that what is not sent now never is."""
        self.page.wait_for_timeout(ms)

    def cookies(self) -> dict[str, str]:
        return {c["name"]: c["value"] for c in self.page.context.cookies()}


def html(*head: str, body: str = "Hi") -> str:
    return (
        "<!doctype html><html><head><title>Shop</title><link rel=icon href='data:,'>"
        f"{''.join(head)}</head><body>{body}</body></html>"
    )


def script(text: str) -> str:
    return f"<script>{text}</script>"


def sync(tag: str) -> str:
    """The tag without `async`, for the tests that are about the order of scripts."""
    return tag.replace(" async", "")


def pairs(events: Sequence[Logged] | Sequence[Fired]) -> Counter[tuple[str, str]]:
    return Counter(
        (e.event_name, e.event_id) if isinstance(e, Logged) else (e.name, e.id) for e in events
    )


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print for the reader of a test run (`pytest -s`)."""
    lines = [head, *[[str(cell) for cell in row] for row in rows]]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    print(f"\n{title}")
    for line in lines:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)))
