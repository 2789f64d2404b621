"""What comes over the wire: the bodies of pages and backends, decoded once into one shape.

`parse` answers a Hit or raises HitInvalid when the body as a whole cannot be read. A single event
that cannot be read becomes a Misfit, so that its neighbours are not lost with it.
"""

import hashlib
import re
from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

from gateway import body, page
from gateway.errors import HitInvalid, HitTooLarge
from gateway.hit import Consent, Extras, Facts, Hit, Misfit, Sent, Source
from gateway.pixeldata import FbPixelData

PAGE_MAX_BYTES = 64 * 1024
BACKEND_MAX_BYTES = 2 * 1024 * 1024
BACKEND_MAX_EVENTS = 1000
GRAPH_MAX_BYTES = 4 * 1024 * 1024
"""1000 events of Meta's SDKs, form-encoded"""

_SECONDS = re.compile(r"[0-9]{1,15}")


def parse(raw: bytes, facts: Facts) -> Hit:
    """Decode a body by who sent it.

    Raises HitInvalid (not JSON, not the shape of a hit or an event) or HitTooLarge.
    """
    match facts.source:
        case Source.PAGE:
            if len(raw) > PAGE_MAX_BYTES:
                raise HitTooLarge("", f"a hit is at most {PAGE_MAX_BYTES} bytes")
            return page.parse(body.decode(raw), facts.now_ms)
        case Source.BACKEND:
            return _parse_backend(raw, facts.now_ms, BACKEND_MAX_BYTES)
        case Source.GRAPH:
            return _parse_backend(raw, facts.now_ms, GRAPH_MAX_BYTES)


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


def _parse_backend(raw: bytes, now_ms: int, max_bytes: int) -> Hit:
    if len(raw) > max_bytes:
        raise HitTooLarge("", f"a request is at most {max_bytes} bytes")
    raws = _backend_list(body.decode(raw))
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
        return body.misfit(index, None, None, HitInvalid("", "expected an object"))
    try:
        event = body.convert(raw, _BackendEvent)
        time_ms = _event_time_ms(event.event_time, now_ms)
        event_id, shares_id, warnings = _backend_id(event, raw)
        body.check_words(event.event_name, event_id, "", "event_name", "event_id")
    except HitInvalid as error:
        return body.misfit(index, raw.get("event_name"), raw.get("event_id"), error)
    known = event.fbPixelData or FbPixelData()
    user, odd = body.user_values(event.user_data or {}, body.FROM_BACKENDS, "user_data")
    from_page, _ = body.user_values(
        _known(known, _FROM_PAGE_USER), body.FROM_BACKENDS, "fbPixelData"
    )
    return Sent(
        index=index,
        name=event.event_name,
        id=event_id,
        time_ms=time_ms,
        action_source=event.action_source or "website",
        url=(event.event_source_url or known.landingPage or "")[: body.TEXT_MAX],
        referrer=(event.referrer_url or known.referrer or "")[: body.TEXT_MAX],
        consent=event.consent,
        user=from_page | user,
        data=_known(known, _FROM_PAGE_DATA) | (event.custom_data or {}),
        extras=event,
        shares_id=shares_id,
        warnings=body.unknown(raw, _BackendEvent) + odd + warnings,
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


def _backend_id(
    event: _BackendEvent, raw: Mapping[str, object]
) -> tuple[str, bool, tuple[str, ...]]:
    """The id the caller chose; else one that a repeat of the same event has again. And whether a page may have it too.

    Without an id and a time two equal events cannot be told from one that was sent twice; they
    are taken for a repeat, because counting a purchase twice costs more than missing a click.
    """
    if event.event_id is not None and event.event_id != "":
        return str(event.event_id), True, ()
    if event.fbPixelData and event.fbPixelData.eventId:
        return event.fbPixelData.eventId, True, ()
    given = (event.custom_data or {}).get("order_id")
    order = "" if isinstance(given, bool) else body.text_of(given)
    if order and event.event_name == "Purchase":
        return f"purchase:{order}", True, ()
    canonical = msgspec.json.encode(raw, order="deterministic")
    made = hashlib.blake2b(canonical, digest_size=16).hexdigest()
    return made, False, ("event_id: missing; equal events within 48 hours count as one",)
