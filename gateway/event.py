"""What goes to Meta: one event, complete, normalised and hashed. `build`, `key`, `encode`.

Sources of the rules: Meta's Conversions API pages, "Server Event Parameters", "Customer Information
Parameters" and "Custom Data Parameters". What Meta would reject is `validate`'s to find.
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

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
FUTURE_MS = 60_000
"""how far ahead a clock may be; such an event is stamped with the time it came"""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """An event and what had to be left out or put right on the way."""

    event: Event
    warnings: tuple[str, ...]


def build(
    sent: Sent,
    visitor: Visitor,
    now_ms: int,
    default_country: str | None,
    *,
    alternates: bool,
    limited: tuple[int, int] | None = None,
) -> Built:
    """Everything known about an event, in Meta's form.

    `default_country`: ISO alpha-2 for phone numbers, after the event's own country.
    `alternates`: also the hashes of the forms Meta's own libraries use. `limited`: country and state
    of Limited Data Use, unless the event says itself how its data may be used.
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
    if limited and extras.data_processing_options is None:
        event, odd = _limited(event, *limited)
        warnings += odd
    return Built(event=event, warnings=tuple(warnings))


def _limited(event: Event, country: int, state: int) -> tuple[Event, list[str]]:
    """The event under Limited Data Use; as it was, with a word, where Meta could not find the state."""
    if (country, state) == (0, 0) and not event.user_data.client_ip_address:
        return event, ["data_processing_options: left out, as there is no address"]
    limited = msgspec.structs.replace(
        event,
        data_processing_options=["LDU"],
        data_processing_options_country=country,
        data_processing_options_state=state,
    )
    return limited, []


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


def decode(body: bytes) -> Event:
    """What `encode` wrote. Raises msgspec.DecodeError for what this version would not have written."""
    return _DECODER.decode(body)


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Event)


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

NUMBERS = ("value", "net_revenue", "predicted_ltv")


def _custom_data(data: Mapping[str, object]) -> tuple[dict[str, object], list[str]]:
    """Meta's types where they can be had without guessing; the rest is validate's to refuse."""
    custom = {name: value for name, value in data.items() if value is not None and value != ""}
    warnings: list[str] = []
    for name in NUMBERS:
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
