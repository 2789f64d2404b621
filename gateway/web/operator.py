"""What the operator meets, on a listener of its own: dashboard, health, metrics and the records."""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import shutil
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import Response

from gateway import metrics
from gateway.alerts import Alert
from gateway.config import Settings
from gateway.errors import StoreError
from gateway.install import Install
from gateway.selfcheck import PATIENCE_S, store_error
from gateway.stores import Store
from gateway.web.answer import json_answer
from gateway.web.backend import bears
from gateway.web.shapes import dead_letter, ledger_line, logged_event

EVENTS_SHOWN = 200
ASSETS = Path(__file__).parent.parent.parent / "static" / "dashboard"
_ASSET_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; connect-src 'self'; "
    "style-src 'self'; img-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}

Handler = Callable[[Request], Awaitable[Response]]


class _Refs(msgspec.Struct, frozen=True):
    refs: list[int]


class Operator:
    """The operator's routes."""

    def __init__(
        self,
        *,
        store: Store,
        settings: Settings,
        install: Install,
        trouble: Callable[[], list[str]],
        alerts: Callable[[], Sequence[Alert]],
        draining: Callable[[], bool],
        on_revived: Callable[[], None],
        clock_ms: Callable[[], int],
    ) -> None:
        self._store = store
        self._settings = settings
        self._install = install
        self._trouble = trouble
        self._alerts = alerts
        self._draining = draining
        self._on_revived = on_revived
        self._clock_ms = clock_ms
        self._admitted = ""

    # --- health and metrics ------------------------------------------------------------------

    async def livez(self, _request: Request) -> Response:
        """The process answers; nothing it depends on is asked."""
        return json_answer({"live": True})

    async def readyz(self, _request: Request) -> Response:
        """200 while events can be accepted; the notes name what an operator should see to."""
        failing = []
        if error := await store_error(self._store):
            failing.append(f"store: {error}")
        free = shutil.disk_usage(self._settings.data_dir).free if self._settings.embedded else None
        if self._draining():
            failing.append("draining: the process is about to stop")
        content = {
            "ready": not failing,
            "failing": failing,
            "notes": self._notes(),
            "alerts": self._alerts(),
        } | ({} if free is None else {"disk_free_bytes": free})
        return json_answer(content, 503 if failing else 200)

    async def metrics(self, _request: Request) -> Response:
        """Prometheus' text format."""
        # A store that hangs must not take the numbers away that say so.
        with contextlib.suppress(TimeoutError, StoreError):
            async with asyncio.timeout(PATIENCE_S):
                for line in await asyncio.shield(self._store.ledger()):
                    metrics.OUTBOX_JOBS.labels(line.pixel).set(line.pending)
                    metrics.DEAD_LETTERS.labels(line.pixel).set(line.dead)
        return Response(
            generate_latest(metrics.REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )

    # --- records -----------------------------------------------------------------------------

    async def overview(self, _request: Request) -> Response:
        """Everything the dashboard shows."""
        ledger = await self._store.ledger()
        events = await self._store.events(limit=EVENTS_SHOWN)
        dead = await self._store.dead()
        content = {
            "notes": self._notes(),
            "ledger": [ledger_line(line) for line in ledger],
            "events": [logged_event(event) for event in reversed(events)],
            "dead": [dead_letter(letter) for letter in dead[:EVENTS_SHOWN]],
        }
        return json_answer(content)

    async def retry(self, request: Request) -> Response:
        """Dead letters back into the outbox."""
        refs = msgspec.json.decode(await request.body(), type=_Refs).refs
        done = await self._store.revive(refs, self._clock_ms())
        self._on_revived()
        return json_answer({"count": done})

    async def discard(self, request: Request) -> Response:
        """Dead letters away for good."""
        refs = msgspec.json.decode(await request.body(), type=_Refs).refs
        return json_answer({"count": await self._store.discard(refs)})

    async def asset(self, request: Request) -> Response:
        """A file of the dashboard, out of a closed list."""
        name = request.path_params.get("name", "index.html")
        path = ASSETS / name
        if path.suffix not in _ASSET_TYPES or path not in ASSETS.iterdir():
            return Response(status_code=404)
        return Response(
            path.read_bytes(), media_type=_ASSET_TYPES[path.suffix], headers=_PAGE_HEADERS
        )

    def _notes(self) -> list[str]:
        notes = []
        if self._settings.sandbox:
            notes.append(
                "Sandbox: batches go to the built-in stand-in of Meta's Graph, nothing reaches Meta. "
                "Set FB_PIXEL_ID and FB_ACCESS_TOKEN to go live."
            )
        for pixel in self._settings.pixels:
            if pixel.test_event_code and not pixel.sandbox:
                notes.append(
                    f"FB_TEST_EVENT_CODE is set for pixel {pixel.id}: events show under Test events "
                    "and still count. Remove it when the test is done."
                )
        return [*notes, *dict.fromkeys([*self._trouble(), *(a.text for a in self._alerts())])]

    # --- who may -----------------------------------------------------------------------------

    def guarded(self, handler: Handler) -> Handler:
        """For people with the dashboard's password."""

        async def wrapped(request: Request) -> Response:
            if bears(request, self._install.cli_key) or await self._admits(request):
                return await handler(request)
            challenge = {"WWW-Authenticate": 'Basic realm="dashboard", charset="UTF-8"'}
            return Response("the dashboard's password is needed", 401, challenge)

        return wrapped

    def commanded(self, handler: Handler) -> Handler:
        """For commands of this install's own user: a browser cannot be tricked into these."""

        async def wrapped(request: Request) -> Response:
            if bears(request, self._install.cli_key):
                return await handler(request)
            return Response(status_code=401)

        return wrapped

    async def _admits(self, request: Request) -> bool:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        try:
            _, _, password = base64.b64decode(given).decode().partition(":")
        except ValueError:  # not Base64, not even ASCII, or not UTF-8 inside
            return False
        if scheme.lower() != "basic" or not password:
            return False
        # Stretching costs tens of milliseconds on purpose; the right password costs them once.
        digest = hashlib.sha256(password.encode()).hexdigest()
        if self._admitted and hmac.compare_digest(digest, self._admitted):
            return True
        right = await asyncio.to_thread(self._install.admits, password)
        if right:
            self._admitted = digest
        return right
