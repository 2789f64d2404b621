"""What pages send: the snippet's hits, and what Meta's own script mirrors by itself."""

import contextlib
import re
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote

import msgspec

from gateway import body
from gateway.errors import HitInvalid, HitTooLarge
from gateway.hit import NO_EXTRAS, Consent, Extras, HandOver, Hit, Misfit, Sent

EVENTS_MAX = 50


class _PageHit(msgspec.Struct, frozen=True):
    events: list[object]
    sent: int | float | None = None
    consent: Consent | None = None
    language: str | None = None
    user: dict[str, object] = {}
    # What Meta's code or another page made of these is no reason to lose the events.
    click: object = None
    limits: object = None
    handed: object = msgspec.field(name="from", default=None)


class _PageEvent(msgspec.Struct, frozen=True):
    name: str
    id: str
    time: int | float | None = None
    url: str = ""
    referrer: str = ""
    data: dict[str, object] | None = None
    pixel: bool = False
    query: str = ""
    """of the request by which the pixel sent it, where that is all the page saw"""
    to: str | int | None = None
    """the only pixel it is for"""


def parse(decoded: object, now_ms: int) -> Hit:
    """A hit of either kind. Raises HitInvalid (not the shape of a hit) or HitTooLarge."""
    if isinstance(decoded, dict) and "event_name" in decoded:
        return _open_bridge(decoded, now_ms)
    page = body.convert(decoded, _PageHit)
    if len(page.events) > EVENTS_MAX:
        raise HitTooLarge("events", f"at most {EVENTS_MAX} events in one hit")
    events = tuple(_page_event(i, raw, page, now_ms) for i, raw in enumerate(page.events))
    return Hit(
        events=events,
        consent=page.consent,
        click=page.click if isinstance(page.click, str) else None,
        handed=_hand_over(page, now_ms),
    )


def _page_event(index: int, raw: object, page: _PageHit, now_ms: int) -> Sent | Misfit:
    if not isinstance(raw, dict):
        return body.misfit(index, None, None, HitInvalid(f"events[{index}]", "expected an object"))
    try:
        event = body.convert(raw, _PageEvent, f"events[{index}]")
        body.check_words(event.name, event.id, f"events[{index}]", "name", "id")
    except HitInvalid as error:
        return body.misfit(index, raw.get("name"), raw.get("id"), error)
    user, odd = body.user_values(page.user, body.MATCHING, "user")
    extras, odd_limits = _limited(page.limits, event.to)
    pixels = _by_the_pixel(event.query)
    return Sent(
        index=index,
        name=event.name,
        id=event.id,
        time_ms=_by_our_clock(pixels.time or event.time, page.sent, now_ms),
        url=(pixels.url or event.url)[: body.TEXT_MAX],
        referrer=event.referrer[: body.TEXT_MAX],
        consent=page.consent,
        user=user,
        data={**pixels.data, **(event.data or {})},
        extras=extras,
        browser_has_it=event.pixel,
        warnings=body.unknown(raw, _PageEvent, f"events[{index}]") + odd + odd_limits,
    )


def _limited(limits: object, pixel: str | int | None) -> tuple[Extras, tuple[str, ...]]:
    """What the page gave `fbq('dataProcessingOptions', …)`: options, country and state.

    Without country and state Meta is left to find them, as fbevents.js leaves it.
    """
    if limits is None:
        return NO_EXTRAS if pixel is None else Extras(pixel_id=pixel), ()
    match limits:
        case [[]] | [[], int(), int()]:
            return Extras(pixel_id=pixel, data_processing_options=[]), ()
        case [["LDU"]]:
            country, state = 0, 0
        case [["LDU"], int(country), int(state)] if _is_place(country, state):
            pass
        case _:
            return Extras(pixel_id=pixel), ("limits: not what fbq takes, kept out",)
    return Extras(
        pixel_id=pixel,
        data_processing_options=["LDU"],
        data_processing_options_country=country,
        data_processing_options_state=state,
    ), ()


def _is_place(country: int, state: int) -> bool:
    """Meta, "Data Processing Options": 0 and 0, or the US and one of its states there."""
    if isinstance(country, bool) or isinstance(state, bool):
        return False
    return (country, state) == (0, 0) or (country == 1 and 1000 <= state <= 1013)


_HAND_OVER = re.compile(r"(\d{13})((?:~_fb[pc]=[^~]*)+)", re.ASCII)


def _hand_over(page: _PageHit, now_ms: int) -> HandOver | None:
    """`<Unix ms>~_fbp=…~_fbc=…`, in any order, as it stood in the link; None for anything else."""
    if not isinstance(page.handed, str):
        return None
    found = _HAND_OVER.fullmatch(unquote(page.handed[: body.TEXT_MAX]))
    if not found:
        return None
    made_ms = int(found[1])
    cookies = dict(pair.split("=", 1) for pair in found[2].split("~")[1:])
    if page.sent is not None:
        made_ms = _by_our_clock(made_ms, page.sent, now_ms)
    return HandOver(made_ms=made_ms, fbp=cookies.get("_fbp", ""), fbc=cookies.get("_fbc", ""))


class _Image(msgspec.Struct, frozen=True):
    e: str


def of_image(query: str, url: str, event_id: str) -> bytes:
    """The hit an image stands for where no script runs: a page view of the page that shows it.

    `query`: nothing that matters, or base64url of `{"e": name}`; no blocker can read names there.
    """
    name = "PageView"
    with contextlib.suppress(ValueError, msgspec.DecodeError):
        raw = urlsafe_b64decode(query + "=" * (-len(query) % 4))
        name = msgspec.json.decode(raw, type=_Image).e
    return msgspec.json.encode({"events": [{"name": name, "id": event_id, "url": url}]})


class _Context(msgspec.Struct, frozen=True):
    location: str = ""
    referrer: str = ""


class _OpenBridge(msgspec.Struct, frozen=True):
    event_name: str
    event_id: str
    custom_data: dict[str, object] | None = None
    conversion_value: dict[str, object] | None = None
    matching: dict[str, object] | None = msgspec.field(name="fb.advanced_matching", default=None)
    pixel_id: str | int | None = msgspec.field(name="fb.pixel_id", default=None)
    fbp: object = msgspec.field(name="fb.fbp", default=None)
    click: object = msgspec.field(name="fb.clickID", default=None)
    website_context: _Context = _Context()


def _open_bridge(decoded: dict[str, object], now_ms: int) -> Hit:
    """One event as fbevents.js mirrors it to a Conversions API Gateway.

    Undocumented; the shape is what fbevents.js 2.9.252 sends and what Meta's plugin for WordPress
    reads. Its `fb.fbp` and `fb.clickID` are copies of cookies, so they count only where these did not
    come with the request. It says nothing of consent: fbevents.js waits for that by itself.
    """
    try:
        event = body.convert(decoded, _OpenBridge)
        body.check_words(event.event_name, event.event_id, "", "event_name", "event_id")
    except HitInvalid as error:
        name, event_id = decoded["event_name"], decoded.get("event_id")
        return Hit(events=(body.misfit(0, name, event_id, error),), silent=True)
    known = {k: v for k, v in (event.matching or {}).items() if k in body.MATCHING}
    user, odd = body.user_values(known, body.MATCHING, "fb.advanced_matching")
    sent = Sent(
        index=0,
        name=event.event_name,
        id=event.event_id,
        time_ms=now_ms,
        url=event.website_context.location[: body.TEXT_MAX],
        referrer=event.website_context.referrer[: body.TEXT_MAX],
        user=user,
        data={**(event.conversion_value or {}), **(event.custom_data or {})},
        extras=NO_EXTRAS if event.pixel_id is None else Extras(pixel_id=event.pixel_id),
        browser_has_it=True,
        warnings=odd,
    )
    copies = {"_fbp": event.fbp, "_fbc": event.click}
    told = tuple((name, value) for name, value in copies.items() if isinstance(value, str))
    return Hit(events=(sent,), silent=True, told=told)


@dataclass(frozen=True, slots=True)
class _PixelRequest:
    """What fbevents.js said of an event in the parameters of its own request."""

    url: str
    time: float | None
    data: Mapping[str, object]


def _by_the_pixel(query: str) -> _PixelRequest:
    """`dl` is the page, `ts` Unix milliseconds, `cd[name]` custom data with JSON for lists."""
    try:
        said = dict(parse_qsl(query, max_num_fields=200))
    except ValueError:
        said = {}
    data = {k[3:-1]: _listed(v) for k, v in said.items() if re.fullmatch(r"cd\[.+\]", k)}
    time = said.get("ts", "")
    return _PixelRequest(
        said.get("dl", ""), float(time) if re.fullmatch(r"\d{13}", time, re.ASCII) else None, data
    )


def _listed(text: str) -> object:
    if text.startswith(("[", "{")):
        try:
            return msgspec.json.decode(text)
        except msgspec.DecodeError:
            return text
    return text


def _by_our_clock(time: float | None, sent: float | None, now_ms: int) -> int:
    """The visitor's clock may be wrong; the time that passed on it between event and sending is not."""
    if time is None or sent is None:
        return now_ms
    try:
        return now_ms - max(0, int(sent - time))
    except OverflowError:  # no clock shows such numbers
        return now_ms
