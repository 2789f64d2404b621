"""`gateway check`: whether this install is fit to run, one finding a question.

It changes nothing: what the first start makes is not made here, and a store that a gateway owns is only read. The
test event of `send` goes to Meta by itself and never through the store.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime
from enum import StrEnum
from pathlib import Path

import httpx2
import msgspec

from gateway import event, geo, install, names, sender
from gateway.capi import Fate, Verdict
from gateway.config import Pixel, Settings
from gateway.errors import GatewayError, SettingsError
from gateway.event import Event, UserData
from gateway.install import Install
from gateway.names import Kind
from gateway.sandbox import Sandbox
from gateway.sender import Sender
from gateway.stores import LedgerLine
from gateway.stores.sqlite import banner_of

EVENT_NAME = "GatewayCheck"
"""a name of its own, so that no count of page views or purchases is touched"""
SOON_DAYS = 90

# When Meta takes a version away; None: not announced. Meta, "Graph API Changelog", as of 2026-11.
_EXPIRES = {
    "v19.0": date(2026, 5, 21),
    "v20.0": date(2026, 9, 24),
    "v21.0": date(2027, 1, 21),
    "v22.0": date(2027, 5, 20),
    "v23.0": date(2027, 10, 8),
    "v24.0": date(2028, 2, 18),
    "v25.0": date(2028, 7, 29),
    "v26.0": None,
}


class State(StrEnum):
    """How a question came out."""

    OK = "ok"
    NOTE = "note"
    """works, but an owner should know"""
    WRONG = "wrong"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to one question."""

    about: str
    state: State
    text: str
    do: str = ""


def look(
    settings: Settings, ledger: Callable[[], Sequence[LedgerLine]], now_ms: int
) -> list[Finding]:
    """Everything that can be told without Meta. `ledger`: reads it from the store, raises StoreError."""
    return [
        _settings(settings),
        *_pixels(settings),
        _store(settings, ledger),
        _geoip(settings),
        _graph_version(settings.graph_version, datetime.fromtimestamp(now_ms / 1000, UTC).date()),
        *_names(settings),
    ]


# --- one question each -------------------------------------------------------------------------


def _settings(settings: Settings) -> Finding:
    read = ", ".join(str(file) for file in settings.files)
    return Finding(about="settings", state=State.OK, text=read or "no file; environment, defaults")


def _pixels(settings: Settings) -> Iterator[Finding]:
    for pixel in settings.pixels:
        about = f"pixel {pixel.id}"
        if pixel.sandbox:
            yield Finding(about=about, state=State.NOTE, text="sandbox: nothing reaches Meta")
        elif pixel.access_token is None:
            text, do = "no access token: its events wait", "set FB_ACCESS_TOKEN"
            yield Finding(about=about, state=State.NOTE, text=text, do=do)
        elif pixel.test_event_code:
            text, do = "every event goes to Test events and still counts", "unset test_event_code"
            yield Finding(about=about, state=State.NOTE, text=text, do=do)
        else:
            yield Finding(about=about, state=State.OK, text="has an access token")


def _store(settings: Settings, ledger: Callable[[], Sequence[LedgerLine]]) -> Finding:
    embedded = settings.embedded
    if embedded and not settings.store_path.exists():
        folder = _existing(settings.data_dir)
        if not os.access(folder, os.W_OK | os.X_OK):
            return Finding(about="store", state=State.WRONG, text=f"{folder} cannot be written")
        return Finding(about="store", state=State.NOTE, text="made at the first start")
    try:
        lines = ledger()
    except GatewayError as error:
        return Finding(about="store", state=State.WRONG, text=str(error))
    wrong = [line.pixel for line in lines if not line.adds_up]
    if wrong:
        text, do = f"the ledger of {', '.join(wrong)} does not add up", "see `gateway ledger`"
        return Finding(about="store", state=State.WRONG, text=text, do=do)
    owner = ", a gateway runs on it" if embedded and banner_of(settings.store_path) else ""
    if embedded and not all(
        os.access(p, os.W_OK) for p in (settings.store_path, settings.data_dir)
    ):
        text = f"{settings.store_path} can be read, but not written by this user"
        return Finding(about="store", state=State.WRONG, text=text, do="run as the gateway's user")
    pending, dead = sum(line.pending for line in lines), sum(line.dead for line in lines)
    # The address of a shared store may hold its password.
    store = settings.store_path if embedded else "shared"
    text = f"{store}{owner}: {pending} pending, {dead} dead"
    return Finding(about="store", state=State.NOTE if dead else State.OK, text=text)


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())


def _geoip(settings: Settings) -> Finding:
    if settings.geoip_database is None:
        text, do = "none: events carry no city, region and country", "set geoip_database"
        return Finding(about="geoip", state=State.NOTE, text=text, do=do)
    try:
        geo.open_places(settings.geoip_database)
    except SettingsError as error:
        return Finding(about="geoip", state=State.WRONG, text=str(error))
    return Finding(about="geoip", state=State.OK, text=str(settings.geoip_database))


def _graph_version(version: str, today: date) -> Finding:
    about, do = "graph version", "set graph_version to a newer one"
    if version not in _EXPIRES:
        text = f"{version} is not one this gateway knows"
        return Finding(about=about, state=State.NOTE, text=text)
    end = _EXPIRES[version]
    if end is None or (end - today).days > SOON_DAYS:
        return Finding(about=about, state=State.OK, text=version)
    if end > today:
        text = f"Meta takes {version} away on {end}"
        return Finding(about=about, state=State.NOTE, text=text, do=do)
    text = f"Meta took {version} away on {end}"
    return Finding(about=about, state=State.WRONG, text=text, do=do)


def _names(settings: Settings) -> Iterator[Finding]:
    try:
        own = install.made_install(settings)
    except GatewayError as error:
        yield Finding(about="names", state=State.WRONG, text=str(error))
        return
    free = []
    for kind, name in _all_names(settings, own):
        problem = names.verdict(kind, name)
        if problem is None:
            free.append(name)
            continue
        text = f"{kind} {name} is what {problem.list} hunts: {problem.rule}"
        yield Finding(about="names", state=State.WRONG, text=text, do=problem.instead)
    if free:
        text = f"no known rule of an ad blocker's list hits {', '.join(free)}"
        yield Finding(about="names", state=State.OK, text=text)
    if own is None:
        text = "path and cookie are made at the first start"
        yield Finding(about="names", state=State.NOTE, text=text)


def _all_names(settings: Settings, own: Install | None) -> Iterator[tuple[Kind, str]]:
    for site in settings.sites:
        slug = own.slug_of(site) if own else site.slug
        if slug:
            yield Kind.PATH, f"/{slug}"
            yield Kind.PARAMETER, f"_{slug[:4]}"
        for host in site.hosts:
            yield Kind.HOST, host
    for cookie in own.cookies if own else ():
        yield Kind.COOKIE, cookie


# --- the test event ----------------------------------------------------------------------------


async def send(settings: Settings, now_ms: int) -> list[Finding]:
    """Send one test event to every pixel and tell Meta's answer."""
    body = event.encode(
        Event(
            event_name=EVENT_NAME,
            event_time=now_ms // 1000,
            event_id=f"check-{now_ms}",
            action_source="system_generated",
            user_data=UserData(external_id=(hashlib.sha256(b"gateway check").hexdigest(),)),
        )
    )
    sandbox = Sandbox(clock_ms=lambda: now_ms)
    transport = httpx2.ASGITransport(sandbox.app) if settings.sandbox else None
    async with sender.new_client(transport) as client:
        graph = Sender(client, settings.graph_url, settings.graph_version)
        return [_told(pixel, await graph.send(pixel, [body])) for pixel in settings.pixels]


def _told(pixel: Pixel, verdict: Verdict) -> Finding:
    about = f"test event to {pixel.id}"
    trace = f" (fbtrace_id {verdict.trace})" if verdict.trace else ""
    if verdict.fate is not Fate.DELIVERED:
        return Finding(about=about, state=State.WRONG, text=verdict.reason + trace)
    if pixel.sandbox:
        return Finding(about=about, state=State.OK, text=f"the sandbox took {EVENT_NAME}")
    where = "under Test events" if pixel.test_event_code else "among the events, also for reports"
    text = f"Meta counted {EVENT_NAME}: it shows in Events Manager {where}{trace}"
    if verdict.version_warning:
        text += f"; of the Graph version it says: {verdict.version_warning}"
        return Finding(about=about, state=State.NOTE, text=text)
    return Finding(about=about, state=State.OK, text=text)
