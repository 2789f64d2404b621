"""New tokens for workers at work: real files, a real store, and what goes out to Meta afterwards."""

import asyncio
import contextlib
import json
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from gateway import config, reload, sender
from gateway.config import Pixel, Settings
from gateway.reload import Reloads
from gateway.sender import Sender
from gateway.slugs import Slugs
from gateway.stores import Entry, Note
from gateway.stores.sqlite import SqliteStore
from gateway.worker import Worker

pytestmark = pytest.mark.anyio

NOW = 1_764_000_000_000
FIRST, SECOND = "11111", "22222"
OLD, NEW, OTHER = "hunter2-old", "hunter2-new", "hunter2-other"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def _nothing_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting comes from where the tests run; a reload reads the process's own environment."""
    for name in os.environ:
        if name.startswith(("GATEWAY_", "FB_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="gateway.reload")


class Meta:
    """What answers in Meta's place: every token it was shown, by pixel."""

    def __init__(self) -> None:
        self.seen: dict[str, list[tuple[str, str | None]]] = {}

    async def answer(self, request: httpx2.Request) -> httpx2.Response:
        body = json.loads(await request.aread())
        pixel = request.url.path.split("/")[-2]
        shown = body["access_token"], body.get("test_event_code")
        self.seen.setdefault(pixel, []).append(shown)
        return httpx2.Response(200, json={"events_received": len(body["data"])})


class Told(Worker):
    """A worker that also says when it was given a token."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.times = 0
        self.told = asyncio.Event()

    def use(self, pixel: Pixel) -> None:
        super().use(pixel)
        self.times += 1
        self.told.set()


class Running:
    """The workers of one gateway, and what gives them new tokens."""

    def __init__(self, settings: Settings, store: SqliteStore, client: httpx2.AsyncClient) -> None:
        graph = Sender(client, "https://graph.example", "v26.0")
        self._store = store
        self._count = 0
        self.workers = {
            pixel.lane: Told(
                outbox=store,
                sender=graph,
                pixel=pixel,
                per_second=1000,
                hold_ms=0,
                clock_ms=lambda: NOW,
                draw=lambda: 0.0,
            )
            for pixel in settings.pixels
        }
        self.slugs: list[Slugs] = []
        self.reloads = Reloads(settings, self.workers, self.slugs.append)

    async def put(self, pixel: str) -> None:
        self._count += 1
        entry = Entry(
            pixel=pixel,
            key=str(self._count).rjust(16).encode(),
            body=b'{"event_name":"Lead"}',
            due_ms=NOW,
            deadline_ms=NOW + 3_600_000,
            note=Note(event_name="Lead", event_id=str(self._count), source="page"),
        )
        await self._store.put([entry], [], NOW)

    async def deliver(self, pixel: str) -> None:
        """One event, all the way to Meta."""
        await self.put(pixel)
        assert await self.workers[pixel].drain_once() == 1


Start = Callable[[Settings], Running]


@pytest.fixture
def meta() -> Meta:
    return Meta()


@pytest.fixture
async def start(tmp_path: Path, meta: Meta) -> AsyncIterator[Start]:
    store = await SqliteStore.open(tmp_path / "data" / "gateway.db", wait_s=0)
    async with sender.new_client(httpx2.MockTransport(meta.answer)) as client:
        yield lambda settings: Running(settings, store, client)
    await store.close()


def write(path: Path, text: str, *, aside: bool = False) -> None:
    """Write a file a second later than the last time, in place or as editors do."""
    later = path.stat().st_mtime_ns + 1_000_000_000 if path.exists() else None
    target = path.with_name("aside") if aside else path
    target.write_text(text)
    if later:
        os.utime(target, ns=(later, later))
    target.replace(path)


def toml(folder: Path, token: str = OLD, more: str = "") -> Path:
    """Two pixels, the second one's token in a file."""
    path = folder / "settings.toml"
    secret = folder / "token"
    if not secret.exists():
        secret.write_text(OTHER)
    text = f"""
[[site]]
pixels = [
    {{id = "{FIRST}", access_token = "{token}"{more}}},
    {{id = "{SECOND}", access_token_file = "{secret}"}},
]
"""
    write(path, text)
    return path


def loaded(file: Path) -> Settings:
    return config.load(os.environ, file=file)


def errors(caplog: pytest.LogCaptureFixture) -> Iterator[str]:
    for record in caplog.records:
        if record.name == "gateway.reload" and record.levelno >= logging.ERROR:
            yield f"{record.getMessage()} {record.__dict__['error']}"


# --- now -------------------------------------------------------------------------------------


async def test_now_gives_the_worker_the_token_of_the_changed_settings(
    tmp_path: Path, start: Start, meta: Meta
) -> None:
    running = start(loaded(toml(tmp_path)))
    await running.deliver(FIRST)
    await running.deliver(SECOND)

    toml(tmp_path, NEW)
    running.reloads.now()
    await running.deliver(FIRST)
    await running.deliver(SECOND)

    assert meta.seen == {
        FIRST: [(OLD, None), (NEW, None)],
        SECOND: [(OTHER, None), (OTHER, None)],
    }


async def test_now_gives_the_worker_the_token_of_the_changed_file(
    tmp_path: Path, start: Start, meta: Meta
) -> None:
    running = start(loaded(toml(tmp_path)))

    write(tmp_path / "token", NEW)
    running.reloads.now()
    await running.deliver(FIRST)
    await running.deliver(SECOND)

    assert meta.seen == {FIRST: [(OLD, None)], SECOND: [(NEW, None)]}


async def test_a_token_comes_from_the_variables_file_as_at_the_start(
    tmp_path: Path, start: Start, meta: Meta, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "token"
    secret.write_text(OLD)
    monkeypatch.setenv("FB_PIXEL_ID", FIRST)
    monkeypatch.setenv("FB_ACCESS_TOKEN_FILE", str(secret))
    running = start(config.from_process())

    write(secret, NEW)
    running.reloads.now()
    await running.deliver(FIRST)

    assert meta.seen == {FIRST: [(NEW, None)]}


async def test_a_pixel_that_waited_for_its_token_delivers_with_it(
    tmp_path: Path, start: Start, meta: Meta
) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(f'pixel_id = "{FIRST}"')
    running = start(loaded(path))
    await running.deliver(FIRST)
    assert meta.seen == {}

    write(path, f'pixel_id = "{FIRST}"\naccess_token = "{NEW}"')
    running.reloads.now()

    await running.workers[FIRST].drain_once()
    assert meta.seen == {FIRST: [(NEW, None)]}


async def test_a_test_event_code_comes_and_goes(tmp_path: Path, start: Start, meta: Meta) -> None:
    running = start(loaded(toml(tmp_path)))

    toml(tmp_path, more=', test_event_code = "TEST1"')
    running.reloads.now()
    await running.deliver(FIRST)
    toml(tmp_path)
    running.reloads.now()
    await running.deliver(FIRST)

    assert meta.seen == {FIRST: [(OLD, "TEST1"), (OLD, None)]}


async def test_a_worker_whose_pixel_did_not_change_is_not_disturbed(
    tmp_path: Path, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    running = start(loaded(toml(tmp_path)))

    running.reloads.now()
    assert caplog.messages == []
    toml(tmp_path, NEW)
    running.reloads.now()
    running.reloads.now()

    assert {lane: worker.times for lane, worker in running.workers.items()} == {FIRST: 1, SECOND: 0}
    assert caplog.messages == ["a pixel's token was reloaded"]
    assert NEW not in str([record.__dict__ for record in caplog.records])


async def test_a_pixel_that_is_new_or_gone_takes_a_restart(
    tmp_path: Path, start: Start, meta: Meta
) -> None:
    path = toml(tmp_path)
    running = start(loaded(path))

    text = path.read_text().replace(SECOND, "33333").replace(OLD, NEW)
    write(path, text)
    running.reloads.now()
    await running.deliver(FIRST)
    await running.deliver(SECOND)

    assert meta.seen == {FIRST: [(NEW, None)], SECOND: [(OTHER, None)]}


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        pytest.param(f'access_token = "{NEW}', "not valid TOML", id="half written"),
        pytest.param(f"access_token = ['{NEW}']", "access_token: expected", id="impossible"),
        pytest.param(f"acces_token = '{NEW}'", "acces_token is not a setting", id="unknown"),
        pytest.param(
            f'[[site]]\npixels = [{{id = "{FIRST}", access_token = "{NEW}"}}]\nport = 1',
            "site.port is not a setting",
            id="right token beside a wrong key",
        ),
        pytest.param(None, "cannot be read", id="gone"),
    ],
)
async def test_settings_that_became_invalid_change_nothing_and_are_logged(
    tmp_path: Path,
    start: Start,
    meta: Meta,
    caplog: pytest.LogCaptureFixture,
    bad: str | None,
    named: str,
) -> None:
    path = toml(tmp_path)
    running = start(loaded(path))

    if bad is None:
        path.unlink()
    else:
        write(path, bad)
    running.reloads.now()
    await running.deliver(FIRST)
    await running.deliver(SECOND)

    (said,) = errors(caplog)
    assert said.startswith("the settings were not reloaded ")
    assert named in said
    assert NEW not in said
    assert meta.seen == {FIRST: [(OLD, None)], SECOND: [(OTHER, None)]}


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe"], ids=["gone", "empty", "no text"])
async def test_a_secrets_file_that_became_unreadable_changes_nothing_until_it_is_mended(
    tmp_path: Path,
    start: Start,
    meta: Meta,
    caplog: pytest.LogCaptureFixture,
    content: bytes | None,
) -> None:
    running = start(loaded(toml(tmp_path)))
    secret = tmp_path / "token"

    if content is None:
        secret.unlink()
    else:
        secret.write_bytes(content)
    running.reloads.now()
    await running.deliver(SECOND)
    (said,) = errors(caplog)
    write(secret, NEW)
    running.reloads.now()
    await running.deliver(SECOND)

    assert "site.pixels.access_token_file: " in said
    assert meta.seen == {SECOND: [(OTHER, None), (NEW, None)]}


# --- watch -----------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _looks_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reload, "LOOK_S", 0.001)


@contextlib.asynccontextmanager
async def watching(running: Running) -> AsyncIterator[None]:
    stopping = asyncio.Event()
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        tasks.create_task(running.reloads.watch(stopping))
        yield
        stopping.set()


@pytest.mark.parametrize("aside", [False, True], ids=["in place", "replaced"])
async def test_changed_settings_are_noticed(
    tmp_path: Path, start: Start, meta: Meta, *, aside: bool
) -> None:
    path = toml(tmp_path)
    running = start(loaded(path))

    async with watching(running):
        write(path, path.read_text().replace(OLD, NEW), aside=aside)
        await running.workers[FIRST].told.wait()

    await running.deliver(FIRST)
    assert meta.seen == {FIRST: [(NEW, None)]}
    assert running.workers[SECOND].times == 0


@pytest.mark.parametrize("aside", [False, True], ids=["in place", "replaced"])
async def test_a_changed_secrets_file_is_noticed(
    tmp_path: Path, start: Start, meta: Meta, *, aside: bool
) -> None:
    running = start(loaded(toml(tmp_path)))

    async with watching(running):
        write(tmp_path / "token", NEW, aside=aside)
        await running.workers[SECOND].told.wait()

    await running.deliver(SECOND)
    assert meta.seen == {SECOND: [(NEW, None)]}
    assert running.workers[FIRST].times == 0


async def test_a_secrets_file_the_settings_name_only_now_is_watched_too(
    tmp_path: Path, start: Start, meta: Meta
) -> None:
    path = toml(tmp_path)
    running = start(loaded(path))
    moved = tmp_path / "moved"
    moved.write_text(OLD)

    async with watching(running):
        write(path, path.read_text().replace(str(tmp_path / "token"), str(moved)))
        await running.workers[SECOND].told.wait()
        running.workers[SECOND].told.clear()
        write(moved, NEW)
        await running.workers[SECOND].told.wait()

    await running.deliver(SECOND)
    assert meta.seen == {SECOND: [(NEW, None)]}


class Heard(logging.Handler):
    """Says when something went wrong."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.event = asyncio.Event()

    def emit(self, _record: logging.LogRecord) -> None:
        self.event.set()


async def test_a_change_is_acted_on_once(
    tmp_path: Path,
    start: Start,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = toml(tmp_path)
    running = start(loaded(path))
    looks = asyncio.Semaphore(0)
    stamps = reload._stamps

    def counted(files: Iterable[Path]) -> dict[Path, int]:
        looks.release()
        return stamps(files)

    monkeypatch.setattr(reload, "_stamps", counted)
    async with watching(running):
        write(path, "half = [")
        for _ in range(5):
            await looks.acquire()

    assert len(list(errors(caplog))) == 1


async def test_the_watch_survives_invalid_settings_and_says_so_once(
    tmp_path: Path, start: Start, meta: Meta, caplog: pytest.LogCaptureFixture
) -> None:
    path = toml(tmp_path)
    running = start(loaded(path))
    heard = Heard()
    logging.getLogger("gateway.reload").addHandler(heard)

    async with watching(running):
        write(path, "half = [")
        await heard.event.wait()
        write(path, f'[[site]]\npixels = [{{id = "{FIRST}", access_token = "{NEW}"}}]')
        await running.workers[FIRST].told.wait()
    logging.getLogger("gateway.reload").removeHandler(heard)

    assert len(list(errors(caplog))) == 1
    await running.deliver(FIRST)
    assert meta.seen == {FIRST: [(NEW, None)]}


async def test_the_watch_ends_when_the_gateway_stops(tmp_path: Path, start: Start) -> None:
    running = start(loaded(toml(tmp_path)))
    stopping = asyncio.Event()
    stopping.set()

    async with asyncio.timeout(30):
        await running.reloads.watch(stopping)

    assert running.workers[FIRST].times == 0
