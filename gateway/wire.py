"""What comes over the wire: the bodies of pages and backends, decoded once into one shape.

`parse` answers a Hit or raises HitInvalid when the body as a whole cannot be read. A single event
that cannot be read becomes a Misfit, so that its neighbours are not lost with it.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar
from urllib.parse import parse_qsl

import msgspec

from gateway.errors import HitInvalid, HitTooLarge
from gateway.hit import NO_EXTRAS, Consent, Extras, Facts, Hit, Misfit, Sent, Source

PAGE_MAX_BYTES = 64 * 1024
PAGE_MAX_EVENTS = 50
BACKEND_MAX_BYTES = 2 * 1024 * 1024
BACKEND_MAX_EVENTS = 1000

TEXT_MAX = 2048
"""characters of a URL; longer ones are cut by browsers and logs anyway"""
GRAPH_MAX_BYTES = 4 * 1024 * 1024
"""1000 events of Meta's SDKs, form-encoded"""


def parse(body: bytes, facts: Facts) -> Hit:
    """Decode a body by who sent it.

    Raises HitInvalid (not JSON, not the shape of interface 3.1 or 4) or HitTooLarge.
    """
    match facts.source:
        case Source.PAGE:
            return _parse_page(body, facts.now_ms)
        case Source.BACKEND:
            return _parse_backend(body, facts.now_ms, BACKEND_MAX_BYTES)
        case Source.GRAPH:
            return _parse_backend(body, facts.now_ms, GRAPH_MAX_BYTES)


# --- pages -----------------------------------------------------------------------------------


class _PageHit(msgspec.Struct, frozen=True):
    events: list[object]
    sent: int | float | None = None
    consent: Consent | None = None
    language: str | None = None
    user: dict[str, object] = {}


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


def _parse_page(body: bytes, now_ms: int) -> Hit:
    if len(body) > PAGE_MAX_BYTES:
        raise HitTooLarge("", f"a hit is at most {PAGE_MAX_BYTES} bytes")
    decoded = _decode(body)
    if isinstance(decoded, dict) and "event_name" in decoded:
        return _parse_open_bridge(decoded, now_ms)
    page = _convert(decoded, _PageHit)
    if len(page.events) > PAGE_MAX_EVENTS:
        raise HitTooLarge("events", f"at most {PAGE_MAX_EVENTS} events in one hit")
    events = tuple(_page_event(i, raw, page, now_ms) for i, raw in enumerate(page.events))
    return Hit(events=events, consent=page.consent)


def _page_event(index: int, raw: object, page: _PageHit, now_ms: int) -> Sent | Misfit:
    if not isinstance(raw, dict):
        return _misfit(index, None, None, HitInvalid(f"events[{index}]", "expected an object"))
    try:
        event = _convert(raw, _PageEvent, f"events[{index}]")
        _check_words(event.name, event.id, f"events[{index}]", "name", "id")
    except HitInvalid as error:
        return _misfit(index, raw.get("name"), raw.get("id"), error)
    user, odd = _user(page.user, Source.PAGE, "user")
    pixels = _by_the_pixel(event.query)
    return Sent(
        index=index,
        name=event.name,
        id=event.id,
        time_ms=_by_our_clock(pixels.time or event.time, page.sent, now_ms),
        url=(pixels.url or event.url)[:TEXT_MAX],
        referrer=event.referrer[:TEXT_MAX],
        consent=page.consent,
        user=user,
        data={**pixels.data, **(event.data or {})},
        extras=NO_EXTRAS if event.to is None else Extras(pixel_id=event.to),
        browser_has_it=event.pixel,
        warnings=_unknown(raw, _PageEvent, f"events[{index}]") + odd,
    )


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
    website_context: _Context = _Context()


def _parse_open_bridge(decoded: dict[str, object], now_ms: int) -> Hit:
    """One event as fbevents.js mirrors it to a Conversions API Gateway.

    Undocumented; the shape is what fbevents.js 2.9.252 sends and what Meta's plugin for WordPress
    reads. Its `fb.fbp` and `fb.clickID` are copies of cookies that came with the request.
    """
    try:
        event = _convert(decoded, _OpenBridge)
        _check_words(event.event_name, event.event_id, "", "event_name", "event_id")
    except HitInvalid as error:
        name, event_id = decoded["event_name"], decoded.get("event_id")
        return Hit(events=(_misfit(0, name, event_id, error),))
    known = {k: v for k, v in (event.matching or {}).items() if k in _MATCHING}
    user, odd = _user(known, Source.PAGE, "fb.advanced_matching")
    sent = Sent(
        index=0,
        name=event.event_name,
        id=event.event_id,
        time_ms=now_ms,
        url=event.website_context.location[:TEXT_MAX],
        referrer=event.website_context.referrer[:TEXT_MAX],
        user=user,
        data={**(event.conversion_value or {}), **(event.custom_data or {})},
        extras=NO_EXTRAS if event.pixel_id is None else Extras(pixel_id=event.pixel_id),
        browser_has_it=True,
        warnings=odd,
    )
    return Hit(events=(sent,))


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


# --- backends --------------------------------------------------------------------------------


class FbPixelData(msgspec.Struct, frozen=True):
    """What a page hands to its backend along with a sign-up (interface 3.2)."""

    fbp: str | None = None
    fbc: str | None = None
    ip: str | None = None
    userAgent: str | None = None
    country: str | None = None
    city: str | None = None
    region: str | None = None
    currency: str | None = None
    language: str | None = None
    referrer: str | None = None
    landingPage: str | None = None
    utmSource: str | None = None
    utmMedium: str | None = None
    utmCampaign: str | None = None
    utmContent: str | None = None
    utmTerm: str | None = None
    eventId: str | None = None


class _BackendEvent(Extras, frozen=True, kw_only=True):
    event_name: str
    event_id: str | int | None = None
    event_time: int | float | str | None = None
    action_source: str | None = None
    event_source_url: str | None = None
    referrer_url: str | None = None
    user_data: dict[str, object] | None = None
    custom_data: dict[str, object] | None = None
    consent: Consent | None = None
    fbPixelData: FbPixelData | None = None


# Readable names of user_data, and Meta's own. What a page sends of a person is advanced matching
# only: address, agent and ids are what its request says, never what its body claims.
_MATCHING = {
    "em": "em", "email": "em",
    "ph": "ph", "phone": "ph",
    "fn": "fn", "first_name": "fn", "firstName": "fn",
    "ln": "ln", "last_name": "ln", "lastName": "ln",
    "ge": "ge", "gender": "ge",
    "db": "db", "date_of_birth": "db", "dateOfBirth": "db",
    "ct": "ct", "city": "ct",
    "st": "st", "state": "st", "region": "st",
    "zp": "zp", "zip": "zp", "postal_code": "zp", "postalCode": "zp",
    "country": "country",
    "external_id": "external_id", "externalId": "external_id",
}  # fmt: skip
_BACKEND_ONLY = {
    "client_ip_address": "client_ip_address", "ip": "client_ip_address",
    "client_user_agent": "client_user_agent", "user_agent": "client_user_agent",
    "userAgent": "client_user_agent",
    **{key: key for key in (
        "fbp", "fbc", "subscription_id", "fb_login_id", "lead_id", "madid", "anon_id",
        "page_id", "page_scoped_user_id", "ctwa_clid", "ig_account_id", "ig_sid",
        "instagram_business_account_id", "whatsapp_business_account_id",
        "partner_id", "partner_name", "app_user_id",
        "f5first", "f5last", "fi", "dobd", "dobm", "doby",
    )},
}  # fmt: skip
_FROM_BACKENDS = _MATCHING | _BACKEND_ONLY
_USER_KEYS = {
    Source.PAGE: _MATCHING,
    Source.BACKEND: _FROM_BACKENDS,
    Source.GRAPH: _FROM_BACKENDS,
}
_VALUES_MAX = 10
"""values of one key; Meta gives no limit, nobody has more e-mails"""

# What the page knows of the visitor, by Meta's keys. `currency` there is the visitor's country's,
# not the order's, and `language` has no place at Meta.
_FROM_PAGE_USER = {
    "fbp": "fbp",
    "fbc": "fbc",
    "client_ip_address": "ip",
    "client_user_agent": "userAgent",
    "country": "country",
    "ct": "city",
    "st": "region",
}
_FROM_PAGE_DATA = {
    "utm_source": "utmSource",
    "utm_medium": "utmMedium",
    "utm_campaign": "utmCampaign",
    "utm_content": "utmContent",
    "utm_term": "utmTerm",
}


def _parse_backend(body: bytes, now_ms: int, max_bytes: int) -> Hit:
    if len(body) > max_bytes:
        raise HitTooLarge("", f"a request is at most {max_bytes} bytes")
    raws = _backend_list(_decode(body))
    if len(raws) > BACKEND_MAX_EVENTS:
        raise HitTooLarge("events", f"at most {BACKEND_MAX_EVENTS} events in one request")
    return Hit(events=tuple(_backend_event(i, raw, now_ms) for i, raw in enumerate(raws)))


def _backend_list(decoded: object) -> list[object]:
    if isinstance(decoded, dict) and "events" in decoded:
        decoded = decoded["events"]
        if not isinstance(decoded, list):
            raise HitInvalid("events", "expected an array of events")
    raws = decoded if isinstance(decoded, list) else [decoded]
    if not raws:
        raise HitInvalid("events", "at least one event is needed")
    return raws


def _backend_event(index: int, raw: object, now_ms: int) -> Sent | Misfit:
    if not isinstance(raw, dict):
        return _misfit(index, None, None, HitInvalid("", "expected an object"))
    try:
        event = _convert(raw, _BackendEvent)
        time_ms = _event_time_ms(event.event_time, now_ms)
        event_id, warnings = _backend_id(event, raw)
        _check_words(event.event_name, event_id, "", "event_name", "event_id")
    except HitInvalid as error:
        return _misfit(index, raw.get("event_name"), raw.get("event_id"), error)
    page = event.fbPixelData or FbPixelData()
    user, odd = _user(event.user_data or {}, Source.BACKEND, "user_data")
    from_page, _ = _user(_known(page, _FROM_PAGE_USER), Source.BACKEND, "fbPixelData")
    return Sent(
        index=index,
        name=event.event_name,
        id=event_id,
        time_ms=time_ms,
        action_source=event.action_source or "website",
        url=(event.event_source_url or page.landingPage or "")[:TEXT_MAX],
        referrer=(event.referrer_url or page.referrer or "")[:TEXT_MAX],
        consent=event.consent,
        user=from_page | user,
        data=_known(page, _FROM_PAGE_DATA) | (event.custom_data or {}),
        extras=event,
        warnings=_unknown(raw, _BackendEvent) + odd + warnings,
    )


def _known(page: FbPixelData, names: Mapping[str, str]) -> dict[str, object]:
    return {meta: value for meta, name in names.items() if (value := getattr(page, name))}


def _event_time_ms(value: float | str | None, now_ms: int) -> int:
    """Unix seconds (Meta's form) or ISO 8601; absent means now."""
    if value is None:
        return now_ms
    if isinstance(value, str):
        if _SECONDS.fullmatch(value):
            return int(value) * 1000
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            raise HitInvalid("event_time", "expected Unix seconds or ISO 8601") from None
        return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
    try:
        return int(value * 1000)
    except OverflowError:
        raise HitInvalid("event_time", "expected Unix seconds or ISO 8601") from None


def _backend_id(event: _BackendEvent, raw: Mapping[str, object]) -> tuple[str, tuple[str, ...]]:
    """The id the caller chose; else one that a repeat of the same event has again.

    Without an id and a time two equal events cannot be told from one that was sent twice; they
    are taken for a repeat, because counting a purchase twice costs more than missing a click.
    """
    if event.event_id is not None and event.event_id != "":
        return str(event.event_id), ()
    if event.fbPixelData and event.fbPixelData.eventId:
        return event.fbPixelData.eventId, ()
    given = (event.custom_data or {}).get("order_id")
    order = "" if isinstance(given, bool) else _text(given)
    if order and event.event_name == "Purchase":
        return f"purchase:{order}", ()
    canonical = msgspec.json.encode(raw, order="deterministic")
    made = hashlib.blake2b(canonical, digest_size=16).hexdigest()
    return made, ("event_id: missing; equal events within 48 hours count as one",)


# --- both ------------------------------------------------------------------------------------

T = TypeVar("T")

_DECODER = msgspec.json.Decoder()
_FIELD_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,39}")
_SECONDS = re.compile(r"[0-9]{1,15}")
_NESTED_MAX = 64
"""levels of arrays and objects; what comes later walks them by recursion"""


def _decode(body: bytes) -> object:
    """Strict JSON. Raises HitInvalid; a text that nests too deep is not JSON for us either."""
    try:
        decoded: object = _DECODER.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise HitInvalid("", "the body is not valid JSON") from None
    if _nests_deeper(decoded, _NESTED_MAX):
        raise HitInvalid("", f"the body nests deeper than {_NESTED_MAX} levels")
    return decoded


def _nests_deeper(value: object, levels: int) -> bool:
    if isinstance(value, dict):
        inner = list(value.values())
    elif isinstance(value, list):
        inner = value
    else:
        return False
    return levels == 0 or any(_nests_deeper(v, levels - 1) for v in inner)


def _convert(raw: object, shape: type[T], where: str = "") -> T:
    try:
        return msgspec.convert(raw, shape)
    except msgspec.ValidationError as error:
        text, found, path = str(error).rpartition(" - at `$")
        if not found:
            text, path = path, ""
        if text.startswith("Invalid enum value"):  # it quotes the value, which may be anything
            text = f"Expected {' or '.join(Consent)}"
        text = text.replace("`", "")
        field = (where + path.rstrip("`")).lstrip(".")
        if missing := re.search(r"missing required field (\w+)", text):
            field, text = f"{field}.{missing[1]}".lstrip("."), "missing"
        raise HitInvalid(field, text[0].lower() + text[1:]) from None


def _check_words(name: str, event_id: str, where: str, name_field: str, id_field: str) -> None:
    prefix = f"{where}." if where else ""
    if not 1 <= len(name) <= 50 or not name.isprintable():
        raise HitInvalid(prefix + name_field, "expected 1 to 50 printable characters")
    if not 1 <= len(event_id) <= 200 or not event_id.isprintable():
        raise HitInvalid(prefix + id_field, "expected 1 to 200 printable characters")


def _user(
    raw: Mapping[str, object], source: Source, where: str
) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
    """Values by Meta's keys, and a word for each that has no place there."""
    known, user, warnings = _USER_KEYS[source], dict[str, tuple[str, ...]](), []
    for name, value in raw.items():
        key = known.get(name)
        if key is None:
            shown = name if _FIELD_NAME.fullmatch(name) else "(unnamed)"
            warnings.append(f"{where}.{shown}: unknown field, kept out")
            continue
        values = value if isinstance(value, list) else [value]
        texts = tuple(t for v in values[:_VALUES_MAX] if (t := _text(v)))
        if texts:
            user[key] = user.get(key, ()) + texts
        elif value not in (None, "", []):
            warnings.append(f"{where}.{name}: expected text, kept out")
    return user, tuple(warnings[:_VALUES_MAX])


def _text(value: object) -> str | None:
    if isinstance(value, str):
        return value.strip()[:TEXT_MAX] or None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return None


def _misfit(index: int, name: object, event_id: object, error: HitInvalid) -> Misfit:
    def safe(value: object, longest: int) -> str:
        text = value if isinstance(value, str) else ""
        return "".join(c for c in text[:longest] if c.isprintable())

    return Misfit(
        index=index,
        name=safe(name, 50),
        id=safe(event_id, 200),
        field=error.field,
        error=error.error,
    )


def _unknown(
    raw: Mapping[str, object], shape: type[msgspec.Struct], where: str = ""
) -> tuple[str, ...]:
    prefix = f"{where}." if where else ""
    names = sorted(set(raw) - set(shape.__struct_fields__))[:5]
    # A name that does not look like one may be a person's e-mail by mistake.
    safe = (name if _FIELD_NAME.fullmatch(name) else "(unnamed)" for name in names)
    return tuple(f"{prefix}{name}: unknown field, kept out" for name in safe)
