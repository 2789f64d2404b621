"""What Meta would reject, found one event at a time: Graph refuses a whole request for one bad event.

Each rule answers the first thing wrong as a Problem: the field, what is allowed, Graph's subcode where
published answers show one, and Meta's page. A message never holds the value, which may be a person's.
What is wrong stays wrong; what is missing may come with another copy of the event.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from gateway import normalise, privacy
from gateway.event import FUTURE_MS, NUMBERS, Event, deadline_ms
from gateway.outcome import Outcome

_PAGES = "https://developers.facebook.com/docs/marketing-api/conversions-api/"
SERVER_EVENT = _PAGES + "parameters/server-event"
CUSTOMER = _PAGES + "parameters/customer-information-parameters"
CUSTOM_DATA = _PAGES + "parameters/custom-data"
APP_DATA = _PAGES + "parameters/app-data"
MESSAGING = _PAGES + "business-messaging"
BEST_PRACTICES = _PAGES + "best-practices"
DATA_PROCESSING = "https://developers.facebook.com/docs/marketing-apis/data-processing-options"


@dataclass(frozen=True, slots=True)
class Problem:
    """Why an event goes nowhere: which field, which rule, and where Meta says so."""

    field: str
    error: str
    page: str = SERVER_EVENT
    subcode: int | None = None
    """Graph's error_subcode for the same fault"""
    outcome: Outcome = Outcome.INVALID

    def __str__(self) -> str:
        return f"{self.field}: {self.error}" if self.field else self.error


def wrong(event: Event, now_ms: int) -> Problem | None:
    """The first of Meta's rules the event breaks, whatever another copy of it may know; or None."""
    if problem := _time(event, now_ms):
        return problem
    return next(filter(None, (rule(event) for rule in _RULES)), None)


def missing(event: Event) -> Problem | None:
    """The first thing Meta asks for that the event lacks and another copy of it may know; or None."""
    return next(filter(None, (need(event) for need in _NEEDS)), None)


# --- the event itself ------------------------------------------------------------------------

ACTION_SOURCES = (
    "email", "website", "app", "phone_call", "chat", "physical_store", "system_generated",
    "business_messaging", "other",
)  # fmt: skip
_TWINS = ("business", "business_line", "product_area", "medium")
_SEGMENTS = (
    *(f"new_customer_to_{twin}" for twin in _TWINS),
    *(f"existing_customer_to_{twin}" for twin in _TWINS),
    "customer_in_loyalty_program",
)


def _identity(event: Event) -> Problem | None:
    for field, text in (("event_name", event.event_name), ("event_id", event.event_id)):
        if privacy.EMAIL.search(text):
            return Problem(field, "looks like an e-mail address, which Meta forbids there")
    if event.action_source not in ACTION_SOURCES:
        return Problem("action_source", f"expected one of {', '.join(ACTION_SOURCES)}")
    segment = event.customer_segmentation
    if segment is not None and segment not in _SEGMENTS:
        return Problem("customer_segmentation", f"expected one of {', '.join(_SEGMENTS)}")
    return None


def _time(event: Event, now_ms: int) -> Problem | None:
    """Meta, "Using the API": 7 days; "Offline Events": 62. Milliseconds read as the far future."""
    if event.event_time * 1000 > now_ms + FUTURE_MS:
        error = "lies in the future; Unix seconds are expected"
        return Problem("event_time", error, subcode=2804004)
    if now_ms > deadline_ms(event, now_ms, browser_has_it=False):
        days = 62 if event.action_source == "physical_store" else 7
        error = f"older than Meta takes ({days} days)"
        return Problem("event_time", error, subcode=2804003, outcome=Outcome.TOO_OLD)
    return None


def _source(event: Event) -> Problem | None:
    match event.action_source:
        case "website":
            return _website(event)
        case "app":
            return _app(event)
        case "business_messaging":
            return _messaging(event)
    return None


_PAGELESS = Problem("event_source_url", "a website event needs the page's full URL")


def _website(event: Event) -> Problem | None:
    url = event.event_source_url
    return _PAGELESS if url and not _is_web_url(url) else None


def _page(event: Event) -> Problem | None:
    if event.action_source != "website":
        return None
    if not event.event_source_url:
        return _PAGELESS
    if not event.user_data.client_user_agent:
        error = "a website event needs the visitor's user agent"
        return Problem("user_data.client_user_agent", error)
    return None


def _is_web_url(text: str) -> bool:
    try:
        url = urlsplit(text)
    except ValueError:
        return False
    return url.scheme in {"http", "https"} and bool(url.hostname)


def _app(event: Event) -> Problem | None:
    app = event.app_data or {}
    for flag in ("advertiser_tracking_enabled", "application_tracking_enabled"):
        if app.get(flag) not in (0, 1):
            return Problem(f"app_data.{flag}", "an app event needs 0 or 1", APP_DATA)
    extinfo = app.get("extinfo")
    if (
        not isinstance(extinfo, list)
        or len(extinfo) != 16
        or not all(isinstance(part, str | int | float) for part in extinfo)
        or extinfo[0] not in ("a2", "i2")
        or extinfo[4] == ""
    ):
        error = "expected 16 values, the first a2 or i2, the fifth the system's version"
        return Problem("app_data.extinfo", error, APP_DATA, 2804043)
    if not (event.user_data.madid or event.user_data.anon_id):
        return Problem("user_data.madid", "an app event needs madid or anon_id", APP_DATA)
    return None


_MESSAGING_EVENTS = frozenset(
    {"Purchase", "LeadSubmitted", "InitiateCheckout", "AddToCart", "ViewContent", "OrderCreated"}
    | {"OrderShipped", "OrderDelivered", "OrderCanceled", "OrderReturned", "CartAbandoned"}
    | {"QualifiedLead", "RatingProvided", "ReviewProvided"}
)
# By channel: at least one key of each group.
_MESSAGING_KEYS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "whatsapp": (("page_id", "whatsapp_business_account_id"), ("ctwa_clid",)),
    "messenger": (("page_id",), ("page_scoped_user_id",)),
    "instagram": (("ig_account_id", "instagram_business_account_id"), ("ig_sid",)),
}


def _messaging(event: Event) -> Problem | None:
    groups = _MESSAGING_KEYS.get(event.messaging_channel or "")
    if groups is None:
        error = f"expected one of {', '.join(_MESSAGING_KEYS)}"
        return Problem("messaging_channel", error, MESSAGING, 2804063)
    if event.event_name not in _MESSAGING_EVENTS:
        error = f"business messaging knows {', '.join(sorted(_MESSAGING_EVENTS))} only"
        return Problem("event_name", error, MESSAGING, 2804066)
    for keys in groups:
        if not set(keys) & set(event.user_data.keys()):
            error = f"{event.messaging_channel} events need {' or '.join(keys)}"
            return Problem(f"user_data.{keys[0]}", error, MESSAGING)
    return None


# --- privacy ---------------------------------------------------------------------------------


def _data_processing(event: Event) -> Problem | None:
    """Limited Data Use."""
    options = event.data_processing_options
    country = event.data_processing_options_country
    state = event.data_processing_options_state
    if not options or _is_to_be_located(event):
        return None
    if options != ["LDU"]:
        return Problem("data_processing_options", 'expected [] or ["LDU"]', DATA_PROCESSING)
    if country == 1 and state in range(1000, 1014):
        return None
    error = "expected country 0 with state 0, or country 1 with a state from 1000 to 1013"
    return Problem("data_processing_options_country", error, DATA_PROCESSING)


def _is_to_be_located(event: Event) -> bool:
    """Whether Meta is to find the state, for which it needs the address."""
    return (
        event.data_processing_options == ["LDU"]
        and event.data_processing_options_country == 0
        and event.data_processing_options_state in (None, 0)
    )


def _address(event: Event) -> Problem | None:
    if not _is_to_be_located(event) or event.user_data.client_ip_address:
        return None
    error = "country 0 and state 0 need user_data.client_ip_address"
    return Problem("data_processing_options_state", error, DATA_PROCESSING)


# --- custom_data -----------------------------------------------------------------------------

Check = Callable[[object], bool]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_id(value: object) -> bool:
    return (isinstance(value, str) and value != "") or _is_integer(value)


def _are_ids(value: object) -> bool:
    return isinstance(value, list) and all(_is_id(item) for item in value)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_delivery(value: object) -> bool:
    return value in ("in_store", "curbside", "home_delivery")


_DELIVERY = "one of in_store, curbside, home_delivery"
_CUSTOM: Mapping[str, tuple[Check, str]] = {
    "content_ids": (_are_ids, "a list of ids"),
    "num_items": (_is_integer, "a whole number"),
    "search_string": (_is_text, "text"),
    "delivery_category": (_is_delivery, _DELIVERY),
    **dict.fromkeys(
        ("content_type", "content_name", "content_category", "order_id", "item_number"),
        (_is_id, "text"),
    ),
}
_CONTENT: Mapping[str, tuple[Check, str]] = {
    "quantity": (_is_integer, "a whole number"),
    "item_price": (_is_number, "a number"),
    "delivery_category": (_is_delivery, _DELIVERY),
}


def _money(event: Event) -> Problem | None:
    custom = event.custom_data
    for name in NUMBERS:
        value = custom.get(name, 0)
        if not (isinstance(value, int | float) and _is_number(value) and abs(value) <= 1e12):
            return Problem(f"custom_data.{name}", "expected an amount, a number", CUSTOM_DATA)
    currency = custom.get("currency")
    if currency is not None and not (
        isinstance(currency, str) and normalise.currency(currency) == currency
    ):
        error = "expected an ISO 4217 code, such as EUR"
        return Problem("custom_data.currency", error, CUSTOM_DATA, _currency_code(event))
    return None


def _price(event: Event) -> Problem | None:
    custom, purchase = event.custom_data, event.event_name == "Purchase"
    if purchase and "value" not in custom:
        return Problem("custom_data.value", "a Purchase needs a value", CUSTOM_DATA, 2804009)
    if custom.get("currency") is None and (purchase or "value" in custom):
        error = "a value needs its currency, an ISO 4217 code"
        return Problem("custom_data.currency", error, CUSTOM_DATA, _currency_code(event))
    return None


def _currency_code(event: Event) -> int:
    return 2804010 if event.event_name == "Purchase" else 2804023


def _custom(event: Event) -> Problem | None:
    for name, (is_right, allowed) in _CUSTOM.items():
        if name in event.custom_data and not is_right(event.custom_data[name]):
            return Problem(f"custom_data.{name}", f"expected {allowed}", CUSTOM_DATA)
    contents = event.custom_data.get("contents", [])
    if not isinstance(contents, list) or not all(isinstance(item, dict) for item in contents):
        return Problem("custom_data.contents", "expected a list of objects", CUSTOM_DATA)
    for item in contents:
        if not _is_id(item.get("id")):
            error = "every item needs an id"
            return Problem("custom_data.contents.id", error, CUSTOM_DATA, 2804008)
        for name, (is_right, allowed) in _CONTENT.items():
            if item.get(name) is not None and not is_right(item[name]):
                return Problem(f"custom_data.contents.{name}", f"expected {allowed}", CUSTOM_DATA)
    return None


# --- user_data -------------------------------------------------------------------------------

_LEAD_ID = re.compile(r"[0-9]{15,17}")
# Meta, "Best practices": an event with nothing but one of these sets is rejected.
_TOO_LITTLE = (
    frozenset({"ct", "country", "st", "zp", "ge", "client_user_agent"}),
    frozenset({"db", "client_user_agent"}),
    frozenset({"fn", "ge"}),
    frozenset({"ln", "ge"}),
)


def _lead_id(event: Event) -> Problem | None:
    lead_id = event.user_data.lead_id
    if lead_id and not _LEAD_ID.fullmatch(lead_id):
        return Problem("user_data.lead_id", "expected 15 to 17 digits", CUSTOMER, 2804036)
    return None


def _match(event: Event) -> Problem | None:
    if any(frozenset(event.user_data.keys()) <= few for few in _TOO_LITTLE):
        error = "too little to match anybody: add em, ph, fbp, fbc or external_id"
        return Problem("user_data", error, BEST_PRACTICES, 2804050)
    return None


Rule = Callable[[Event], Problem | None]
_RULES: tuple[Rule, ...] = (_identity, _source, _data_processing, _money, _custom, _lead_id)
_NEEDS: tuple[Rule, ...] = (_page, _address, _price, _match)
