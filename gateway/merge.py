"""The union of two copies of one event: a browser's and a backend's half, or two copies of one of them.

Each side wins where it knows better: the backend about money, goods and the person, the browser about itself and its
page. Values that only mean something together (an amount and its currency, a town and its postcode) come from one copy.
What is stricter about the use of data wins, whoever said it, and the earliest time stays.
"""

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from gateway.event import NUMBERS, Event, UserData

CONVERSIONS = frozenset(
    {"Lead", "CompleteRegistration", "InitiateCheckout", "AddPaymentInfo", "Purchase", "Subscribe"}
    | {"StartTrial", "SubmitApplication", "Schedule", "Contact", "Donate"}
)
"""the events that wait for their other half"""
PATIENCE_MS = 600_000
"""how long a half waits that Meta would not take without the other: a visitor may take minutes to be back from paying"""


class Side(StrEnum):
    """Who told of an event."""

    BROWSER = "browser"
    BACKEND = "backend"


_BROWSERS_USER = ("client_ip_address", "client_user_agent", "fbc", "fbp")
_BROWSERS_EVENT = ("action_source", "event_source_url", "referrer_url")
_PLACE = ("ct", "st", "zp")
_MONEY = ("currency", *NUMBERS)
_GOODS = ("contents", "content_ids", "num_items")
_OPTIONS = (
    "data_processing_options",
    "data_processing_options_country",
    "data_processing_options_state",
)
_STRICTER = ("event_time", "opt_out", *_OPTIONS)


def wait_ms(*, whole: bool, hold_ms: int, left_ms: int) -> int:
    """How long a copy waits for its other half; not at all when its time at Meta, `left_ms`, would run out.

    `whole`: Meta would take it as it is.
    """
    longest_ms = hold_ms if whole else max(hold_ms, PATIENCE_MS)
    return longest_ms if left_ms > 2 * longest_ms else 0


def union(first: Event, first_side: Side, second: Event, second_side: Side) -> Event:
    """Everything two copies of one event know, in the shape of one.

    Two halves give the same whichever came first. Of two copies from one side the first one wins, and the second
    fills in what is missing there.
    """
    if first_side is second_side:
        user = _user(first.user_data, second.user_data, first.user_data, several=True)
        return _event(first, second, first, user)
    backend, browser = (first, second) if first_side is Side.BACKEND else (second, first)
    user = _user(backend.user_data, browser.user_data, browser.user_data, several=False)
    return _event(backend, browser, browser, user)


def limited_as(event: Event, other: Event) -> Event:
    """An event with what the other says of the use of its data, and the address that may take."""
    said = {name: getattr(other, name) for name in ("opt_out", *_OPTIONS)}
    address = event.user_data.client_ip_address or other.user_data.client_ip_address
    user = msgspec.structs.replace(event.user_data, client_ip_address=address)
    return msgspec.structs.replace(event, user_data=user, **said)


def adds(event: Event, held: Event) -> bool:
    """Whether an event says more than the held one. Its time does not count: a repeat's differs by the network's."""
    return msgspec.structs.replace(event, event_time=held.event_time) != held


def _event(winner: Event, other: Event, page: Event, user: UserData) -> Event:
    """`page`: the copy whose page it is."""
    values = {
        name: getattr(winner, name) or getattr(other, name)
        for name in Event.__struct_fields__
        if name not in _STRICTER
    }
    values |= {name: getattr(page, name) or values[name] for name in _BROWSERS_EVENT}
    return msgspec.structs.replace(
        winner,
        **values
        | _options(winner, other)
        | {
            "event_time": min(winner.event_time, other.event_time),
            "opt_out": _either(winner.opt_out, other.opt_out),
            "user_data": user,
            "custom_data": _custom(
                winner.custom_data, other.custom_data, priced=winner.event_name == "Purchase"
            ),
        },
    )


def _user(winner: UserData, other: UserData, page: UserData, *, several: bool) -> UserData:
    """`several`: both copies' values of a list stay, as both are the same person's own."""
    values = {
        name: _both(winner, other, name, several=several) for name in winner.__struct_fields__
    }
    values |= {name: getattr(page, name) or values[name] for name in _BROWSERS_USER}
    told = winner if any(getattr(winner, name) for name in _PLACE) else other
    values |= {name: getattr(told, name) for name in _PLACE}
    return msgspec.convert(values, UserData)


def _both(winner: UserData, other: UserData, name: str, *, several: bool) -> object:
    first, second = getattr(winner, name), getattr(other, name)
    if several and isinstance(first, tuple):
        return tuple(dict.fromkeys((*first, *second)))
    return first or second


def _custom(
    winner: Mapping[str, object], other: Mapping[str, object], *, priced: bool
) -> dict[str, object]:
    """`priced`: the event is none without a value."""
    together = dict(winner)
    for name, value in other.items():
        if not (name in _GOODS and any(n in winner for n in _GOODS)):
            together.setdefault(name, value)
    rest = {name: value for name, value in together.items() if name not in _MONEY}
    return rest | _money(winner, other, priced=priced)


def _money(
    winner: Mapping[str, object], other: Mapping[str, object], *, priced: bool
) -> dict[str, object]:
    """The amounts of both copies where they are in one currency, else those of one copy.

    A value without its currency says nothing: it gives way to the other copy's, or to none where the event needs none.
    """
    first, second = ({n: copy[n] for n in _MONEY if n in copy} for copy in (winner, other))
    if _is_short(first, priced=priced) and not _is_short(second, priced=priced):
        first, second = second, first
    currencies = {copy["currency"] for copy in (first, second) if "currency" in copy}
    together = second | first if len(currencies) < 2 else first
    if not (priced or currencies or ("value" in first and "value" in second)):
        together.pop("value", None)
    return together


def _is_short(money: Mapping[str, object], *, priced: bool) -> bool:
    """Whether there is no amount, or one that Meta would not take."""
    if not any(name in money for name in NUMBERS):
        return True
    return ("value" in money or priced) and not ("value" in money and "currency" in money)


def _either(first: bool | None, second: bool | None) -> bool | None:
    return first or second if second is not None else first


def _options(winner: Event, other: Event) -> dict[str, object]:
    """Limited Data Use as the copy says that limits it; the three fields belong together."""
    limits = [copy for copy in (winner, other) if copy.data_processing_options]
    says = [copy for copy in (winner, other) if copy.data_processing_options is not None]
    said = (limits or says or [winner])[0]
    return {name: getattr(said, name) for name in _OPTIONS}
