"""What goes to Meta: one event, complete, normalised and hashed. `build`, `validate`, `key`, `encode`.

Sources of the rules: Meta's Conversions API pages, "Server Event Parameters", "Customer Information
Parameters" and "Custom Data Parameters". Meta rejects a whole request for one bad event, so whatever
it would reject is refused here, one event at a time.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from gateway import normalise, privacy
from gateway.enrich import Place, Visitor
from gateway.hit import Sent
from gateway.normalise import Field, Locale
from gateway.outcome import Outcome

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
FUTURE_MS = 60_000
"""how far ahead a clock may be; such an event is stamped with the time it came"""

ACTION_SOURCES = frozenset(
    {"email", "website", "app", "phone_call", "chat", "physical_store", "system_generated"}
    | {"business_messaging", "other"}
)
STANDARD_EVENTS = (
    "AddPaymentInfo", "AddToCart", "AddToWishlist", "CompleteRegistration", "Contact",
    "CustomizeProduct", "Donate", "FindLocation", "InitiateCheckout", "Lead", "PageView",
    "Purchase", "Schedule", "Search", "StartTrial", "SubmitApplication", "Subscribe", "ViewContent",
)  # fmt: skip
_STANDARD_BY_FOLD = {name.lower(): name for name in STANDARD_EVENTS}


class UserData(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who it was. The lists hold SHA-256 in hex, the rest goes as it is."""

    em: tuple[str, ...] = ()
    ph: tuple[str, ...] = ()
    fn: tuple[str, ...] = ()
    ln: tuple[str, ...] = ()
    ge: tuple[str, ...] = ()
    db: tuple[str, ...] = ()
    ct: tuple[str, ...] = ()
    st: tuple[str, ...] = ()
    zp: tuple[str, ...] = ()
    country: tuple[str, ...] = ()
    external_id: tuple[str, ...] = ()
    f5first: str = ""
    f5last: str = ""
    fi: str = ""
    dobd: str = ""
    dobm: str = ""
    doby: str = ""
    client_ip_address: str = ""
    client_user_agent: str = ""
    fbc: str = ""
    fbp: str = ""
    subscription_id: str = ""
    fb_login_id: str = ""
    lead_id: str = ""
    madid: str = ""
    anon_id: str = ""
    page_id: str = ""
    page_scoped_user_id: str = ""
    ctwa_clid: str = ""
    ig_account_id: str = ""
    ig_sid: str = ""
    instagram_business_account_id: str = ""
    whatsapp_business_account_id: str = ""
    partner_id: str = ""
    partner_name: str = ""
    app_user_id: str = ""

    def keys(self) -> tuple[str, ...]:
        """The names of what is there."""
        return tuple(name for name in self.__struct_fields__ if getattr(self, name))


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One element of `data`, by Meta's names; event_time in Unix seconds."""

    event_name: str
    event_time: int
    event_id: str
    action_source: str
    user_data: UserData
    event_source_url: str = ""
    referrer_url: str = ""
    # Open by definition: a site's own properties stand beside Meta's.
    custom_data: dict[str, object] = {}
    opt_out: bool | None = None
    data_processing_options: list[str] | None = None
    data_processing_options_country: int | None = None
    data_processing_options_state: int | None = None
    customer_segmentation: str | None = None
    original_event_data: dict[str, object] | None = None
    app_data: dict[str, object] | None = None
    messaging_channel: str | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """Why an event goes nowhere: which field, which rule."""

    field: str
    error: str
    outcome: Outcome = Outcome.INVALID

    def __str__(self) -> str:
        return f"{self.field}: {self.error}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """An event and what had to be left out or put right on the way."""

    event: Event
    warnings: tuple[str, ...]


def build(
    sent: Sent, visitor: Visitor, now_ms: int, default_country: str | None, *, alternates: bool
) -> Built:
    """Everything known about an event, in Meta's form.

    `default_country`: ISO alpha-2 for phone numbers, after the event's own country.
    `alternates`: also the hashes of the forms Meta's own libraries use.
    """
    url, url_cleaned = privacy.clean_url(sent.url)
    referrer, referrer_cleaned = privacy.clean_url(sent.referrer)
    extras = sent.extras
    data, removed = privacy.clean_data({**visitor.utm, **sent.data}, "custom_data")
    original, removed2 = privacy.clean_data(extras.original_event_data or {}, "original_event_data")
    app, removed3 = privacy.clean_data(extras.app_data or {}, "app_data")
    user, odd = _user_data(sent, visitor, default_country, alternates=alternates)
    custom, corrected = _custom_data(data)
    name = _STANDARD_BY_FOLD.get(sent.name.lower(), sent.name)
    warnings = [*sent.warnings, *visitor.warnings, *odd, *removed, *removed2, *removed3, *corrected]
    if url_cleaned:
        warnings.append("event_source_url: personal data removed")
    if referrer_cleaned:
        warnings.append("referrer_url: personal data removed")
    if name != sent.name:
        warnings.append(f"event_name: corrected to {name}, which Meta knows")
    time_ms = now_ms if now_ms < sent.time_ms <= now_ms + FUTURE_MS else sent.time_ms
    event = Event(
        event_name=name,
        event_time=time_ms // 1000,
        event_id=sent.id,
        action_source=sent.action_source,
        user_data=user,
        event_source_url=url,
        referrer_url=referrer,
        custom_data=custom,
        opt_out=extras.opt_out,
        data_processing_options=extras.data_processing_options,
        data_processing_options_country=extras.data_processing_options_country,
        data_processing_options_state=extras.data_processing_options_state,
        customer_segmentation=extras.customer_segmentation,
        original_event_data=original or None,
        app_data=app or None,
        messaging_channel=extras.messaging_channel,
    )
    return Built(event=event, warnings=tuple(warnings))


def validate(event: Event, now_ms: int) -> Problem | None:
    """The first of Meta's rules the event breaks, or None."""
    return (
        _identity_problem(event)
        or _time_problem(event, now_ms)
        or _source_problem(event)
        or _money_problem(event)
        or _contents_problem(event)
        or _match_problem(event.user_data)
    )


def key(pixel: str, event: Event) -> bytes:
    """16 bytes that copies of one event share: pixel, event name and event id."""
    text = f"{pixel}\0{event.event_name}\0{event.event_id}"
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def deadline_ms(event: Event, now_ms: int, *, browser_has_it: bool) -> int:
    """When Meta would no longer count it right.

    A copy that comes later than 48 hours after the browser's is a second event to Meta; anything
    older than 7 days (62 for a physical store) makes it reject the whole request.
    """
    days = 62 if event.action_source == "physical_store" else 7
    last = event.event_time * 1000 + days * DAY_MS - HOUR_MS
    return min(last, now_ms + 47 * HOUR_MS) if browser_has_it else last


def encode(event: Event) -> bytes:
    """The bytes Meta gets; batches only join them."""
    return _ENCODER.encode(event)


_ENCODER = msgspec.json.Encoder()


# --- user_data -------------------------------------------------------------------------------

_LISTS = (
    Field.EM, Field.PH, Field.FN, Field.LN, Field.GE, Field.DB,
    Field.CT, Field.ST, Field.ZP, Field.COUNTRY, Field.EXTERNAL_ID,
)  # fmt: skip
_SINGLE = (Field.F5FIRST, Field.F5LAST, Field.FI, Field.DOBD, Field.DOBM, Field.DOBY)
_PLACE = (Field.CT, Field.ST, Field.ZP)
_LEAD_ID = re.compile(r"[0-9]{15,17}")
"""Graph refuses the whole request for any other (2804036)"""
_PLAIN = tuple(
    name
    for name in UserData.__struct_fields__
    if name not in {f.value for f in Field}
    and name not in {"client_ip_address", "client_user_agent", "fbc", "fbp"}
)


def _user_data(
    sent: Sent, visitor: Visitor, default_country: str | None, *, alternates: bool
) -> tuple[UserData, list[str]]:
    own_country = next(
        (c for raw in sent.user.get("country", ()) if (c := normalise.country(raw))), None
    )
    locale = Locale(own_country, default_country or visitor.place.country or None)
    values: dict[str, object] = {
        "client_ip_address": visitor.address or "",
        "client_user_agent": visitor.agent or "",
        "fbp": visitor.fbp or "",
        "fbc": visitor.fbc or "",
    }
    warnings: list[str] = []
    for field in (*_LISTS, *_SINGLE):
        raws = sent.user.get(field.value, ())
        found = _hashes(field, raws, locale, alternates=alternates)
        if found:
            values[field.value] = found if field in _LISTS else found[0]
        elif raws:
            warnings.append(f"user_data.{field.value}: not a usable value, kept out")
    for name in _PLAIN:
        if raw := sent.user.get(name):
            if privacy.EMAIL.search(raw[0]):
                warnings.append(f"user_data.{name}: looks like an e-mail address, kept out")
            elif name == "lead_id" and not _LEAD_ID.fullmatch(raw[0]):
                warnings.append("user_data.lead_id: not a usable value, kept out")
            else:
                values[name] = raw[0]
    _add_place(values, visitor.place, alternates=alternates)
    return msgspec.convert(values, UserData), warnings


def _hashes(
    field: Field, raws: Sequence[str], locale: Locale, *, alternates: bool
) -> tuple[str, ...]:
    found = (normalise.hashes(field, raw, locale, alternates=alternates) for raw in raws)
    return tuple(dict.fromkeys(h for hashes in found for h in hashes))


def _add_place(values: dict[str, object], place: Place, *, alternates: bool) -> None:
    """The GeoIP place, unless the event tells its own: half of each would be a third place."""
    where = Locale(place.country or None)
    told = any(field.value in values for field in _PLACE)
    texts = {Field.CT: place.city, Field.ST: place.region, Field.ZP: place.postal_code}
    for field, text in texts.items():
        if text and not told:
            found = _hashes(field, [text], where, alternates=alternates)
            if found:
                values[field.value] = found
    if place.country and "country" not in values:
        values["country"] = _hashes(Field.COUNTRY, [place.country], where, alternates=alternates)


# --- custom_data -----------------------------------------------------------------------------

_NUMBERS = ("value", "net_revenue", "predicted_ltv")


def _custom_data(data: Mapping[str, object]) -> tuple[dict[str, object], list[str]]:
    """Meta's types where they can be had without guessing; the rest is validate's to refuse."""
    custom = {name: value for name, value in data.items() if value is not None and value != ""}
    warnings: list[str] = []
    for name in _NUMBERS:
        if isinstance(raw := custom.get(name), str) and (number := _number(raw)) is not None:
            custom[name] = number
    if isinstance(raw := custom.get("currency"), str) and (code := normalise.currency(raw)):
        custom["currency"] = code
    if isinstance(raw := custom.get("num_items"), str) and re.fullmatch(r"\s*[0-9]{1,9}\s*", raw):
        custom["num_items"] = int(raw)
    if isinstance(raw := custom.get("content_ids"), str | int) and not isinstance(raw, bool):
        custom["content_ids"] = [str(raw)]
        warnings.append("custom_data.content_ids: made a list of one")
    return custom, warnings


def _number(text: str) -> float | None:
    """`9.5` and `1299`; a comma could be a thousand or a decimal, so it is no number."""
    return float(text) if re.fullmatch(r"\s*-?\d{1,15}(\.\d{1,6})?\s*", text) else None


# --- what Meta would refuse ------------------------------------------------------------------


def _identity_problem(event: Event) -> Problem | None:
    for field, text in (("event_name", event.event_name), ("event_id", event.event_id)):
        if privacy.EMAIL.search(text):
            return Problem(field, "looks like an e-mail address, which Meta forbids there")
    return None


def _time_problem(event: Event, now_ms: int) -> Problem | None:
    if event.event_time * 1000 > now_ms + FUTURE_MS:
        return Problem("event_time", "lies in the future; Unix seconds are expected")
    if event.event_time * 1000 < now_ms - (63 * DAY_MS) or now_ms > deadline_ms(
        event, now_ms, browser_has_it=False
    ):
        return Problem("event_time", "older than Meta takes (7 days)", Outcome.TOO_OLD)
    return None


def _source_problem(event: Event) -> Problem | None:
    if event.action_source not in ACTION_SOURCES:
        return Problem("action_source", f"expected one of {', '.join(sorted(ACTION_SOURCES))}")
    if event.action_source == "website":
        if not event.event_source_url.startswith(("https://", "http://")):
            return Problem("event_source_url", "a website event needs the page's full URL")
        if not event.user_data.client_user_agent:
            return Problem(
                "user_data.client_user_agent", "a website event needs the visitor's user agent"
            )
    return None


def _money_problem(event: Event) -> Problem | None:
    custom = event.custom_data
    for name in _NUMBERS:
        value = custom.get(name, 0)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return Problem(f"custom_data.{name}", "expected a number")
        if value != value or abs(value) > 1e12:
            return Problem(f"custom_data.{name}", "not an amount of money")
    currency = custom.get("currency")
    if currency is not None and not (
        isinstance(currency, str) and normalise.currency(currency) == currency
    ):
        return Problem("custom_data.currency", "expected an ISO 4217 code, such as EUR")
    if event.event_name == "Purchase" and "value" not in custom:
        return Problem("custom_data.value", "a Purchase needs a value")
    if currency is None and (event.event_name == "Purchase" or "value" in custom):
        return Problem("custom_data.currency", "a value needs its currency, an ISO 4217 code")
    return None


def _contents_problem(event: Event) -> Problem | None:
    """Meta, "Custom Data Parameters": an item without its id is refused (2804008)."""
    contents = event.custom_data.get("contents", [])
    items = contents if isinstance(contents, list) else [None]
    ids = [item.get("id") if isinstance(item, dict) else None for item in items]
    if all(isinstance(i, str | int) and not isinstance(i, bool) and i != "" for i in ids):
        return None
    return Problem("custom_data.contents", "expected a list of objects, each with an id")


# Meta, "Best practices": an event with nothing but one of these sets is rejected (2804050).
_TOO_LITTLE = (
    frozenset({"ct", "country", "st", "zp", "ge", "client_user_agent"}),
    frozenset({"db", "client_user_agent"}),
    frozenset({"fn", "ge"}),
    frozenset({"ln", "ge"}),
)


def _match_problem(user: UserData) -> Problem | None:
    if any(frozenset(user.keys()) <= few for few in _TOO_LITTLE):
        return Problem(
            "user_data", "too little to match anybody: add em, ph, fbp, fbc or external_id"
        )
    return None
