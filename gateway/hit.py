"""What was sent, unjudged, and what its request says by itself: the shapes of the first stage."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import msgspec


class Source(StrEnum):
    """Who sent it."""

    PAGE = "page"
    BACKEND = "backend"
    GRAPH = "graph"
    """a backend that believes it talks to Meta"""


class Consent(StrEnum):
    """What the visitor said. Nothing said is None."""

    GRANTED = "granted"
    DENIED = "denied"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the HTTP request says by itself: never taken from a body.

    For a backend's request `address`, `agent` and the cookies are the backend's own, so unused.
    """

    source: Source
    now_ms: int
    host: str = ""
    secure: bool = False
    address: str = ""
    agent: str = ""
    cookies: tuple[tuple[str, str], ...] = ()
    gpc: bool = False
    """the visitor's browser sent Sec-GPC: 1"""
    origin: str | None = None
    """host of the page by the Origin header"""
    referer: str = ""
    languages: str = ""
    """the Accept-Language header"""
    prefetch: bool = False
    """fetched ahead of a visit that may never come"""


class Extras(msgspec.Struct, frozen=True, kw_only=True):
    """Event-level fields of Meta's that only a backend sets; they pass through as given."""

    opt_out: bool | None = None
    data_processing_options: list[str] | None = None
    data_processing_options_country: int | None = None
    data_processing_options_state: int | None = None
    customer_segmentation: str | None = None
    original_event_data: dict[str, object] | None = None
    app_data: dict[str, object] | None = None
    messaging_channel: str | None = None
    pixel_id: str | int | None = None


NO_EXTRAS = Extras()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One event as it was sent. Times are Unix milliseconds by the gateway's clock."""

    index: int
    name: str
    id: str
    time_ms: int
    action_source: str = "website"
    url: str = ""
    referrer: str = ""
    consent: Consent | None = None
    user: Mapping[str, tuple[str, ...]]
    """values by Meta's keys, raw or hashed"""
    data: Mapping[str, object]
    extras: Extras
    browser_has_it: bool = False
    """the browser pixel was handed the same event with the same id"""
    shares_id: bool = True
    """another copy can have the same id, as it was not made of this one"""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Misfit:
    """One event that cannot be read: which field, and what is allowed there."""

    index: int
    name: str
    id: str
    field: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOver:
    """The ids another host of the site put into a link, as it wrote them; by the gateway's clock."""

    made_ms: int
    fbp: str
    fbc: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """Everything one request carried."""

    events: tuple[Sent | Misfit, ...]
    consent: Consent | None = None
    """said for the whole hit, also when it carries no event: a grant or a withdrawal"""
    silent: bool = False
    """who sent it cannot say whether the visitor agrees"""
    click: str | None = None
    """an in-app browser's click id"""
    handed: HandOver | None = None
    told: tuple[tuple[str, str], ...] = ()
    """names and values of cookies, for a browser that sent none of that name"""
