"""`fbPixelData` (docs/backend.md): what a page hands to its backend along with a sign-up."""

import re

import msgspec
from babel.numbers import get_territory_currencies

from gateway import enrich, privacy, urls
from gateway.cookies import BrowserIds
from gateway.enrich import Place
from gateway.hit import Facts

_LANGUAGE = re.compile(r"[A-Za-z]{1,8}(-[A-Za-z0-9]{1,8})*")


class FbPixelData(msgspec.Struct, frozen=True):
    """The object, with the keys front ends have always sent; None: not known."""

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


def of(facts: Facts, ids: BrowserIds, place: Place, event_id: str) -> FbPixelData:
    """What a request says of its visitor. The landing is the last one known; before the first page
    view came it is the page that asks."""
    landing = ids.master.landing
    page, referrer = (landing.page, landing.referrer) if landing else ("", "")
    if landing is None or ids.utm != landing.utm:
        page, referrer = privacy.clean_url(facts.referer)[0], ""
    return FbPixelData(
        fbp=ids.fbp,
        fbc=ids.fbc,
        ip=enrich.public_address(facts.address),
        userAgent=facts.agent[: enrich.AGENT_MAX] or None,
        country=place.country.upper() or None,
        city=place.city or None,
        region=place.region or None,
        currency=currency_of(place.country),
        language=language_of(facts.languages),
        referrer=referrer or None,
        landingPage=page or None,
        **{_camel(name): ids.utm.get(name) for name in urls.UTM_KEYS},
        eventId=event_id,
    )


def currency_of(country: str) -> str | None:
    """ISO 4217 code of what is paid with in a country (ISO 3166 alpha-2), by Unicode's tables."""
    return next(iter(get_territory_currencies(country.upper())), None) if country else None


def language_of(header: str) -> str | None:
    """The language an Accept-Language header asks for most: `en-US` (RFC 9110, 12.5.4)."""
    best, best_weight = None, 0.0
    for item in header.split(",")[:20]:
        name, _, parameter = item.partition(";")
        weight = re.fullmatch(r"\s*q=([01](?:\.\d{0,3})?)\s*", parameter)
        value = float(weight[1]) if weight else 1.0
        if value > best_weight and _LANGUAGE.fullmatch(name.strip()):
            best, best_weight = name.strip(), value
    return best


def _camel(name: str) -> str:
    first, _, second = name.partition("_")
    return first + second.capitalize()
