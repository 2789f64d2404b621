"""What the gateway knows of a visitor beyond what was sent: address, place, campaign, browser ids."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address, ip_network

from gateway import cookies, urls
from gateway.cookies import BrowserIds
from gateway.hit import Facts, Sent, Source

AGENT_MAX = 512
"""characters; longer user agents are attacks on parsers"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an address is, as the GeoIP file names it. Empty text: not known."""

    city: str = ""
    region: str = ""
    """the code in the US and Canada, else the name"""
    postal_code: str = ""
    country: str = ""
    """ISO 3166 alpha-2, lower-case"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """The person behind an event, as far as a request tells."""

    address: str | None
    """public address as Meta wants it, IPv6 kept; None when there is none to send"""
    agent: str | None
    fbp: str | None
    fbc: str | None
    utm: dict[str, str]
    place: Place
    warnings: tuple[str, ...] = ()


def visitor_of(
    sent: Sent, facts: Facts, ids: BrowserIds | None, locate: Callable[[str], Place]
) -> Visitor:
    """Who an event is about: a page's request says it itself, a backend tells it in `user_data`."""
    match facts.source:
        case Source.PAGE:
            return Visitor(
                address=public_address(facts.address),
                agent=facts.agent[:AGENT_MAX] or None,
                fbp=ids.fbp if ids else None,
                fbc=ids.fbc if ids else None,
                utm=dict(ids.utm) if ids else {},
                place=locate(facts.address),
            )
        case Source.BACKEND | Source.GRAPH:
            return _told(sent, facts.now_ms, locate)


def _told(sent: Sent, now_ms: int, locate: Callable[[str], Place]) -> Visitor:
    def first(key: str) -> str:
        return sent.user.get(key, ("",))[0]

    fbp, fbc, told_address = first("fbp"), first("fbc"), first("client_ip_address")
    address = public_address(told_address)
    warnings = []
    if fbp and not cookies.fbp_of(fbp, now_ms):
        fbp = ""
        warnings.append("user_data.fbp: malformed, kept out")
    if fbc and not cookies.fbc_of(fbc, now_ms):
        fbc = ""
        warnings.append("user_data.fbc: malformed or older than 90 days, kept out")
    if told_address and not address:
        warnings.append("user_data.client_ip_address: not a public address, kept out")
    return Visitor(
        address=address,
        agent=first("client_user_agent")[:AGENT_MAX] or None,
        fbp=fbp or None,
        fbc=fbc or None,
        utm=urls.utm(sent.url),
        place=locate(address or ""),
        warnings=tuple(warnings),
    )


def public_address(text: str) -> str | None:
    """The address in Meta's form, or None when it is private, reserved or none at all.

    IPv4 inside IPv6 is unwrapped; the appendix of Meta's parameter builder is taken off.
    Documentation ranges pass: no visitor has one, and every example and test does.
    """
    try:
        found = ip_address(urls.without_appendix(text.strip()))
    except ValueError:
        return None
    found = getattr(found, "ipv4_mapped", None) or found
    if getattr(found, "scope_id", None) or found.is_multicast:
        return None
    if not found.is_global and not any(found in network for network in _DOCUMENTATION):
        return None
    return str(found)


_DOCUMENTATION = tuple(
    map(ip_network, ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32"))
)


# Cheap signs first: what these words miss, the parsed user agent finds. HTTP libraries are not
# among them: crawlers run the page's script with a browser's name, and whoever posts hits with curl
# on purpose would only have to change it. Cubot makes phones.
_AUTOMATED = re.compile(
    r"(?<!cu)bot(?:\b|_)|crawl|spider|slurp|facebookexternalhit|facebookcatalog|meta-external|"
    r"lighthouse|pingdom|uptimerobot|statuscake|scrapy|phantomjs|archiver",
    re.IGNORECASE,
)


@lru_cache(maxsize=4096)
def looks_automated(agent: str) -> bool:
    """Whether a user agent says by itself that no person is behind it."""
    return not agent.strip() or _AUTOMATED.search(agent[:AGENT_MAX]) is not None
