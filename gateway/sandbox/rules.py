"""Meta's rules for one server event, written from Meta's pages and from published Graph answers.

`validate` is what Graph refuses with an error, `problems` what it takes with a 200 and then silently
does not use. Deliberately independent of the code that builds our events: it judges that code. Only
the subcodes of published answers are known; a rule without one answers code 100 alone, as Graph does
for a wrong type. A message names the field and what is allowed, never the value.
"""

import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping
from math import isfinite
from urllib.parse import urlsplit

import msgspec
from babel.numbers import list_currencies

Fields = Mapping[str, object]
Check = Callable[[object], bool]
Shape = Mapping[str, tuple[Check, str]]

DAY_S = 86_400
FUTURE_S = 60  # Graph's tolerance is undocumented


class Refusal(msgspec.Struct, frozen=True):
    """Why Graph would refuse an event, and with it the whole request."""

    code: int
    subcode: int | None
    message: str


def _refuse(message: str, subcode: int | None = None) -> Refusal:
    return Refusal(100, subcode, message)


def _text(value: object) -> bool:
    return isinstance(value, str)


def _filled(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: object) -> bool:
    """A JSON number, or the same in a string, which Meta's own examples use too."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return False
    try:
        return isfinite(float(value))
    except (ValueError, OverflowError):
        return False


def _identifier(value: object) -> bool:
    return _filled(value) or _integer(value)


def _mapping(value: object) -> bool:
    return isinstance(value, dict)


def _array(value: object) -> bool:
    return isinstance(value, list)


def _texts(value: object) -> bool:
    return _text(value) or (isinstance(value, list) and all(map(_text, value)))


def _identifiers(value: object) -> bool:
    return isinstance(value, list) and all(map(_identifier, value))


def _name(value: object) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= 50


def _boolean(value: object) -> bool:
    return isinstance(value, bool)


def _one_of(*allowed: str) -> tuple[Check, str]:
    def check(value: object) -> bool:
        return isinstance(value, str) and value in allowed

    return check, f"one of {', '.join(allowed)}"


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


ACTION_SOURCES = _words(
    "email website app phone_call chat physical_store system_generated business_messaging other"
)
_TWINS = _words("business business_line product_area medium")
SEGMENTS = (
    *(f"new_customer_to_{twin}" for twin in _TWINS),
    *(f"existing_customer_to_{twin}" for twin in _TWINS),
    "customer_in_loyalty_program",
)
DELIVERY = _one_of("in_store", "curbside", "home_delivery")

EVENT: Shape = {
    "event_name": (_name, "a string of 1 to 50 characters"),
    "event_time": (_integer, "an integer, Unix time in seconds"),
    "action_source": _one_of(*ACTION_SOURCES),
    "user_data": (_mapping, "an object"),
    "event_source_url": (_text, "a string"),
    "event_id": (_filled, "a non-empty string"),
    "referrer_url": (_text, "a string"),
    "custom_data": (_mapping, "an object"),
    "opt_out": (_boolean, "a boolean"),
    "data_processing_options_country": (_integer, "an integer"),
    "data_processing_options_state": (_integer, "an integer"),
    "customer_segmentation": _one_of(*SEGMENTS),
    "original_event_data": (_mapping, "an object"),
    "attribution_data": (_mapping, "an object"),
    "advanced_measurement_table": (_text, "a string"),
    "app_data": (_mapping, "an object"),
}
REQUIRED = frozenset({"event_name", "event_time", "action_source", "user_data"})
EVENT_KEYS = EVENT.keys() | {"data_processing_options", "messaging_channel"}

HASHED_LISTS = _words("em ph fn ln ge db ct st zp country")
HASHED_LEGACY = _words("f5first f5last fi dobd dobm doby")
USER_TEXTS = _words(
    "client_ip_address client_user_agent fbc fbp madid anon_id ctwa_clid partner_name"
)
USER_IDS = _words(
    "subscription_id fb_login_id page_id page_scoped_user_id ig_account_id ig_sid "
    "whatsapp_business_account_id instagram_business_account_id partner_id app_user_id"
)
USER: Shape = {
    **dict.fromkeys((*HASHED_LISTS, "external_id"), (_texts, "a string or an array of strings")),
    **dict.fromkeys((*HASHED_LEGACY, *USER_TEXTS), (_text, "one string")),
    **dict.fromkeys(USER_IDS, (_identifier, "a string or an integer")),
}
USER_KEYS = USER.keys() | {"lead_id"}

CUSTOM_TEXTS = _words("content_type content_name content_category order_id item_number")
CUSTOM: Shape = {
    "net_revenue": (_number, "a number"),
    "predicted_ltv": (_number, "a number"),
    "content_ids": (_identifiers, "an array of strings"),
    "contents": (_array, "an array of objects"),
    "num_items": (_integer, "an integer"),
    "delivery_category": DELIVERY,
    "search_string": (_text, "a string"),
    **dict.fromkeys(CUSTOM_TEXTS, (_identifier, "a non-empty string")),
}
CONTENT: Shape = {
    "quantity": (_integer, "an integer"),
    "item_price": (_number, "a number"),
    "delivery_category": DELIVERY,
}

# Meta, best practices: an event is refused when all that it has is within one of these sets.
TOO_WEAK = (
    {"ct", "country", "st", "zp", "ge", "client_user_agent"},
    {"db", "client_user_agent"},
    {"fn", "ge"},
    {"ln", "ge"},
)
CURRENCIES = frozenset(list_currencies())
LDU_STATES = range(1000, 1014)
MESSAGING_EVENTS = _words(
    "Purchase LeadSubmitted InitiateCheckout AddToCart ViewContent OrderCreated OrderShipped "
    "OrderDelivered OrderCanceled OrderReturned CartAbandoned QualifiedLead RatingProvided "
    "ReviewProvided"
)
STANDARD_EVENTS = _words(
    "AddPaymentInfo AddToCart AddToWishlist CompleteRegistration Contact CustomizeProduct Donate "
    "FindLocation InitiateCheckout Lead PageView Purchase Schedule Search StartTrial "
    "SubmitApplication Subscribe ViewContent"
)


def validate(event: object, now_s: int) -> Refusal | None:
    """The first rule `event` breaks, or None. `now_s` is Unix time in seconds."""
    if not isinstance(event, dict):
        return _refuse("param data must be an array of event objects.")
    for rule in _RULES:
        refusal = rule(event, now_s)
        if refusal is not None:
            return refusal
    return None


def _nested(fields: Fields, key: str) -> Fields:
    value = fields.get(key)
    return value if isinstance(value, dict) else {}


def _check(
    fields: Fields, shape: Shape, prefix: str = "", required: frozenset[str] = frozenset()
) -> Refusal | None:
    for key, (check, allowed) in shape.items():
        value = fields.get(key)
        if value is None:
            if key in required:
                return _refuse(f"{prefix}{key} is required.")
        elif not check(value):
            return _refuse(f"{prefix}{key} must be {allowed}.")
    return None


def _event_shape(event: Fields, now_s: int) -> Refusal | None:
    return _check(event, EVENT, required=REQUIRED)


def _time(event: Fields, now_s: int) -> Refusal | None:
    """Meta, using the API: 7 days; offline events: 62 days. Milliseconds are the far future."""
    days = 62 if event["action_source"] == "physical_store" else 7
    event_time = event["event_time"]
    assert isinstance(event_time, int)
    if event_time < now_s - days * DAY_S:
        return _refuse(f"event_time must be within the last {days} days.", 2804003)
    if event_time > now_s + FUTURE_S:
        return _refuse("event_time is in the future: send Unix seconds.", 2804004)
    return None


def _source(event: Fields, now_s: int) -> Refusal | None:
    match event["action_source"]:
        case "website":
            if not _is_web_url(event.get("event_source_url")):
                return _refuse("event_source_url must be an http or https URL for website events.")
        case "app":
            return _app(event)
        case "business_messaging":
            return _messaging(event)
    return None


def _is_web_url(value: object) -> bool:
    if not isinstance(value, str):
        return False
    try:
        url = urlsplit(value)
    except ValueError:
        return False
    return url.scheme in {"http", "https"} and bool(url.hostname)


def _app(event: Fields) -> Refusal | None:
    """Meta, app data parameters: 16 values, the version first and the OS version fifth."""
    app, user = _nested(event, "app_data"), _nested(event, "user_data")
    for flag in ("advertiser_tracking_enabled", "application_tracking_enabled"):
        value = app.get(flag)
        if not isinstance(value, int) or value not in (0, 1):
            return _refuse(f"app_data.{flag} must be 0 or 1 for app events.")
    extinfo = app.get("extinfo")
    if (
        not isinstance(extinfo, list)
        or len(extinfo) != 16
        or not all(_text(part) or _number(part) for part in extinfo)
        or extinfo[0] not in ("a2", "i2")
        or extinfo[4] == ""
    ):
        return _refuse("app_data.extinfo must be 16 values: a2 or i2, …, the OS version.", 2804043)
    if not (user.get("madid") or user.get("anon_id")):
        return _refuse("user_data.madid or user_data.anon_id is required for app events.")
    return None


def _messaging(event: Fields) -> Refusal | None:
    """Meta, Conversions API for business messaging. Which subcode belongs to which id is partly guessed."""
    user, channel = _nested(event, "user_data"), event.get("messaging_channel")
    if channel not in ("whatsapp", "messenger", "instagram"):
        return _refuse("messaging_channel must be whatsapp, messenger or instagram.", 2804063)
    if event["event_name"] not in MESSAGING_EVENTS:
        return _refuse("event_name is not one of the business messaging events.", 2804066)
    needed: tuple[tuple[int | None, tuple[str, ...]], ...]
    match channel:
        case "whatsapp":
            needed = (
                (2804116, ("page_id", "whatsapp_business_account_id")),
                (2804087, ("ctwa_clid",)),
            )
        case "messenger":
            needed = ((2804069, ("page_id",)), (None, ("page_scoped_user_id",)))
        case _:
            needed = (
                (2804079, ("ig_account_id", "instagram_business_account_id")),
                (None, ("ig_sid",)),
            )
    for subcode, keys in needed:
        if not any(user.get(key) for key in keys):
            return _refuse(f"user_data.{' or user_data.'.join(keys)} is required.", subcode)
    return None


def _user(event: Fields, now_s: int) -> Refusal | None:
    user = _nested(event, "user_data")
    if (refusal := _check(user, USER, "user_data.")) is not None:
        return refusal
    lead_id = user.get("lead_id")
    if lead_id is not None and not (
        _identifier(lead_id) and re.fullmatch(r"[0-9]{15,17}", str(lead_id))
    ):
        return _refuse("user_data.lead_id must be an integer of 15 to 17 digits.", 2804036)
    present = {key for key in USER_KEYS if _is_present(user.get(key))}
    if any(present <= weak for weak in TOO_WEAK):
        return _refuse("user_data holds too little to match anybody.", 2804050)
    if re.match(r"fb\.[^.]*\.[^.]*\.(\.|$)", str(user.get("fbc", ""))):
        return _refuse("user_data.fbc has no click id.", 2804001)
    return None


def _is_present(value: object) -> bool:
    return any(value) if isinstance(value, list) else bool(value)


def _money(event: Fields, now_s: int) -> Refusal | None:
    purchase = event["event_name"] == "Purchase"
    custom = _nested(event, "custom_data")
    value, currency = custom.get("value"), custom.get("currency")
    if value is None and purchase:
        return _refuse("custom_data.value is required for Purchase.", 2804009)
    if value is not None and not _number(value):
        return _refuse("custom_data.value must be a number.", 2804010 if purchase else None)
    if currency is None and value is not None:
        subcode = 2804010 if purchase else 2804023
        return _refuse("custom_data.currency is required with custom_data.value.", subcode)
    if currency is not None and str(currency).upper() not in CURRENCIES:
        return _refuse("custom_data.currency must be ISO 4217.", 2804010 if purchase else None)
    return None


def _custom(event: Fields, now_s: int) -> Refusal | None:
    custom = _nested(event, "custom_data")
    if (refusal := _check(custom, CUSTOM, "custom_data.")) is not None:
        return refusal
    contents = custom.get("contents")
    for item in contents if isinstance(contents, list) else []:
        if not isinstance(item, dict):
            return _refuse("custom_data.contents must be an array of objects.")
        if not _identifier(item.get("id")):
            return _refuse("custom_data.contents needs an id in every item.", 2804008)
        if (refusal := _check(item, CONTENT, "custom_data.contents.")) is not None:
            return refusal
    return None


def _data_processing(event: Fields, now_s: int) -> Refusal | None:
    """Meta, data processing options: (0, 0) lets Meta geolocate, for which it needs the address."""
    options = event.get("data_processing_options")
    if options is None or options == []:
        return None
    if options != ["LDU"]:
        return _refuse('data_processing_options must be [] or ["LDU"].')
    country = event.get("data_processing_options_country")
    state = event.get("data_processing_options_state")
    if country == 0 and state in (None, 0):
        if _nested(event, "user_data").get("client_ip_address"):
            return None
        return _refuse("LDU with country 0 and state 0 needs user_data.client_ip_address.")
    if country == 1 and state in LDU_STATES:
        return None
    return _refuse("LDU needs country 0 with state 0, or country 1 with state 1000 to 1013.")


_RULES: tuple[Callable[[Fields, int], Refusal | None], ...] = (
    _event_shape,
    _time,
    _source,
    _user,
    _money,
    _custom,
    _data_processing,
)

# What Meta's parameter builder appends to cookies, hashes and addresses, sometimes repeatedly.
_APPENDIX = r"(?:\.(?:[A-Za-z0-9_-]{8}|AQ|Ag|Aw|BA|BQ|Bg))*"
_HASH = re.compile(r"[0-9a-f]{64}" + _APPENDIX)
_HASH_OF_NOTHING = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
_COOKIES = {
    "fbp": re.compile(r"fb\.[0-9]\.([0-9]{13})\.[0-9]{1,20}" + _APPENDIX),
    "fbc": re.compile(r"fb\.[0-9]\.([0-9]{13})\.[A-Za-z0-9_.~-]{1,600}"),
}
_YEAR_2010_S = 1_262_304_000
# Not `is_private`: that also counts the documentation ranges, which tests and demos live in.
_NOT_PUBLIC = [
    ipaddress.ip_network(network)
    for network in _words(
        "0.0.0.0/8 10.0.0.0/8 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.168.0.0/16 "
        "::/127 fc00::/7 fe80::/10"
    )
]


def problems(event: Fields, now_s: int) -> Iterator[tuple[str, str]]:
    """(field, what is wrong) of all that Graph takes from a valid event and then does not use."""
    name, user = event["event_name"], _nested(event, "user_data")
    for key in event.keys() - EVENT_KEYS:
        yield key, "unknown key, ignored"
    for key in user.keys() - USER_KEYS:
        yield f"user_data.{key}", "unknown key, ignored"
    for standard in STANDARD_EVENTS:
        if name != standard and str(name).lower() == standard.lower():
            yield "event_name", f"spelt other than {standard}: a custom event"
    if event["action_source"] == "website" and not user.get("client_user_agent"):
        yield "user_data.client_user_agent", "missing, though required for website events"
    contents = _nested(event, "custom_data").get("contents")
    for item in contents if isinstance(contents, list) else []:
        if item.get("quantity") is None:
            yield "custom_data.contents.quantity", "missing"
    yield from _user_problems(user, now_s)


def _user_problems(user: Fields, now_s: int) -> Iterator[tuple[str, str]]:
    for key in (*HASHED_LISTS, *HASHED_LEGACY):
        for value in _listed(user.get(key)):
            if not _HASH.fullmatch(value):
                yield f"user_data.{key}", "not a lower-case SHA-256: never matches, may be raw"
            elif value.startswith(_HASH_OF_NOTHING):
                yield f"user_data.{key}", "the hash of an empty string"
    if any("@" in value for value in _listed(user.get("external_id"))):
        yield "user_data.external_id", "looks like a raw e-mail address"
    for key, pattern in _COOKIES.items():
        for value in _listed(user.get(key)):
            found = pattern.fullmatch(value)
            if found is None:
                yield f"user_data.{key}", "not of the form fb.<index>.<ms>.<payload>"
            elif not _YEAR_2010_S <= int(found[1]) // 1000 <= now_s + DAY_S:
                yield f"user_data.{key}", "its creation time is not a past time in milliseconds"
    for value in _listed(user.get("client_ip_address")):
        if not _is_public(value):
            yield "user_data.client_ip_address", "not a public IPv4 or IPv6 address"


def _listed(value: object) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [text for text in values if isinstance(text, str) and text]


def _is_public(value: str) -> bool:
    bare = re.sub(r"(?<=[0-9a-fA-F:])" + _APPENDIX + "$", "", value)
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return not any(address in network for network in _NOT_PUBLIC)
