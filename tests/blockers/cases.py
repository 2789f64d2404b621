"""What a browser would ask of two thousand installs, and names that blockers are known to block."""

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from gateway import slugs

from .engines import Kind, Request

INSTALLS = 2_000

# Rules are written for one top-level domain, for a host's shape, for a hyphen.
HOSTS = (
    "www.acmeshop.com",
    "acmeshop.com",
    "shop.acme-store.com",
    "www.north-sea-tea.co.uk",
    "north-sea-tea.co.uk",
    "acme.io",
    "www.acme.xyz",
    "teahouse.shop",
    "www.baeckerei-mueller.de",
    "store.acme.com.au",
)

# What the gateway answers with (`web.public`), plus what a front server adds.
HEADERS = {
    "cache-control": "private, no-cache",
    "content-type": "text/javascript; charset=utf-8",
    "content-encoding": "br",
    "etag": '"0123456789abcdef"',
    "vary": "Accept-Encoding",
    "x-content-type-options": "nosniff",
    "server-timing": "outcome;desc=pending",
    "access-control-allow-origin": "https://www.acmeshop.com",
    "access-control-allow-credentials": "true",
    "access-control-expose-headers": "Server-Timing",
    "timing-allow-origin": "https://www.acmeshop.com",
    "set-cookie": "_fbp=fb.1.1764000000000.1234567890; Path=/; Secure; SameSite=Lax",
}


def paths() -> list[str]:
    """One a secret."""
    return [slugs.derived(hashlib.sha256(b"%d" % n).hexdigest()) for n in range(INSTALLS)]


def of_install(slug: str, host: str) -> Iterator[Request]:
    """Everything a browser asks of one install."""
    site = f"https://{host}"
    opaque = base64.urlsafe_b64encode(hashlib.sha512(slug.encode()).digest()).decode().rstrip("=")
    for path, kind in (
        (f"/{slug}", Kind.SCRIPT),
        (f"/{slug}/h", Kind.XHR),
        (f"/{slug}/h", Kind.PING),
        (f"/{slug}/me", Kind.XHR),
        (f"/{slug}/events", Kind.XHR),
        (f"/{slug}/events", Kind.PING),
        (f"/{slug}.gif?{opaque}", Kind.IMAGE),
    ):
        yield Request(site + path, f"{site}/", kind)
    # The parameter a link between two of the owner's hosts carries, which a rule could strip.
    yield Request(f"{site}/cart?_{slug[:4]}={opaque}", f"{site}/cart", Kind.PAGE)


@dataclass(frozen=True, slots=True)
class Planted:
    """A name a gateway could have been given, and who blocks it today."""

    name: str
    kind: Kind
    blocked_by: tuple[str, ...]
    """the sets of lists, by `engines.Blocker.title`, in which a rule hits it"""
    engines: tuple[str, ...] = ("uBlock Origin", "Ghostery", "Brave")
    """those that know rules of this sort"""

    @property
    def request(self) -> Request:
        """Asked by a page of www.acmeshop.com, of itself unless the name holds a host."""
        page = "https://www.acmeshop.com"
        return Request(self.name if "://" in self.name else page + self.name, page + "/", self.kind)


_EASY = ("default lists", "EasyList, EasyPrivacy, uBlock")
_EVERY = (*_EASY, "AdGuard's lists")
PLANTED = (
    Planted("/fbevents.js", Kind.SCRIPT, _EVERY),
    Planted("/assets/fbevents.js", Kind.SCRIPT, _EVERY),
    Planted("/gtm.js", Kind.SCRIPT, _EASY),
    Planted("/pageview.js", Kind.SCRIPT, _EASY),
    Planted("/api/collect", Kind.XHR, _EASY),
    Planted("/api/collect", Kind.PING, _EASY),
    Planted("/api/events", Kind.PING, _EASY),
    Planted("/hit", Kind.PING, _EVERY),
    Planted("/collect?v=1", Kind.XHR, _EASY),
    Planted("/collect?event=PageView", Kind.IMAGE, _EASY),
    Planted("/s?a=1&ev=PageView&b=2", Kind.XHR, _EASY),
    Planted("/cart?fbclid=IwAR0", Kind.PAGE, _EVERY, ("uBlock Origin",)),
    Planted("/b.gif?x=1", Kind.IMAGE, _EVERY),
    Planted("https://matomo.acmeshop.com/k3vq8w2mzp", Kind.SCRIPT, _EVERY),
    Planted("https://analytics.acmeshop.com/collect", Kind.XHR, _EVERY),
    Planted("https://sgtm.acmeshop.com/k3vq8w2mzp.js?x", Kind.SCRIPT, _EVERY),
    Planted("https://analytics.example.net/k3vq8w2mzp/h", Kind.PING, _EASY),
    Planted("https://connect.facebook.net/en_US/fbevents.js", Kind.SCRIPT, _EVERY),
)

# First labels of a host of its own that a gateway could have been given.
PLANTED_LABELS = (
    "468x60", "ad-server", "ad1", "adblock-detect", "adimages", "adplayer", "ads", "ads1",
    "adserver", "adserving", "adsrv", "adtrack", "adwolf", "aff-ads", "analytics",
    "analytics-beacon", "analytics-cdn", "analytics-sdk", "api-analytics", "banner", "beacon",
    "capi", "capig", "collect", "collector", "countly", "criteo", "data", "elqtrk", "events",
    "events-collector", "eventtracking", "exoclick", "facebookpixel", "fathom", "floatads",
    "google-analytics", "gtm", "gtmserver", "hit", "hit-counter", "hitcounter",
    "insights-collector", "internal-matomo", "load", "log", "logger", "matomo", "meta",
    "metrics", "metrics-collector", "mtracking", "openedlog", "pagepeel", "piwik",
    "piwiktracker", "pixel", "pixelcounter", "pixeltracker", "plausible", "posthog", "prebid",
    "publicidade", "rum", "segment-api", "segment-cdn", "sensorsdata", "server", "sgtm",
    "shinystat", "showcounter", "smartpixel", "snowplow-collector", "ss", "sst", "stape",
    "stat", "statcollector", "statcount", "stats", "statstracker", "tag", "tagging", "tr",
    "track", "trackclick", "tracker", "tracking", "tracking-widget", "trackingtools",
    "trackjs", "trk", "umami", "videoad", "webanalytics",
)  # fmt: skip
