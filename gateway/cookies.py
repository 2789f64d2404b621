"""The browser's ids: `_fbp` and `_fbc` read, checked and minted, and the visitor's last landing.

Formats and rules: Meta, "fbp and fbc parameters"; values of Meta's parameter builder carry a fifth
part (an appendix), which is kept as it is and never forged. Nothing here reads a clock or draws
randomness: both are arguments.
"""

import base64
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from ipaddress import ip_address
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit

from publicsuffixlist import PublicSuffixList

NINETY_DAYS_S = 90 * 86400
NINETY_DAYS_MS = NINETY_DAYS_S * 1000
_DAY_MS = 86_400_000
_YEAR_2010_MS = 1_262_304_000_000

UTM_KEYS = ("utm_source", "utm_medium", "utm_campaign", "utm_content", "utm_term")
_UTM_MAX = 200
_PACKED_MAX = 2500

# Meta's parameter builder: 8 base64url characters whose first byte is the format version 1, or one
# of six older 2-character codes. A browser may have collected several.
_APPENDIX = re.compile(r"AQ[A-Za-z0-9_-]{6}|AQ|Ag|Aw|BA|BQ|Bg")
# Its newer form, which Meta's SDKs also put behind the last value of a URL.
_SDK_APPENDIX = re.compile(r"\.AQ[A-Za-z0-9_-]{6}$")
_FBP_PAYLOAD = re.compile(r"[0-9]{1,20}")
_FBC_PAYLOAD = re.compile(r"[A-Za-z0-9_~-][A-Za-z0-9_.~-]{0,499}")
_HOST = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")


@dataclass(frozen=True, slots=True)
class BrowserId:
    """A value of `_fbp` or `_fbc`."""

    text: str
    """exactly as the browser has it"""
    index: int
    created_ms: int
    payload: str
    """without the appendix"""


@dataclass(frozen=True, slots=True)
class Scope:
    """Where a cookie lives."""

    domain: str | None
    """None: this host only"""
    index: int
    """how many dots the domain has; Meta's subdomainIndex"""


@dataclass(frozen=True, slots=True, kw_only=True)
class BrowserIds:
    """What is known of the browser after a request."""

    fbp: str
    fbc: str | None
    utm: Mapping[str, str]
    """of this page, else of the last landing within 90 days"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Jar:
    """What the browser's Cookie header held, read once."""

    fbp: BrowserId | None
    fbc: BrowserId | None
    landing: Mapping[str, str]


def read(pairs: Iterable[tuple[str, str]], scope: Scope, landing_name: str, now_ms: int) -> Jar:
    """Take the valid ones of what was sent; the same name may come several times.

    Of several `_fbp` the one on our own domain level counts (fbevents.js makes a second one when it
    cannot see the first), of several `_fbc` the newest click.
    """
    pairs = list(pairs)
    fbps = [i for n, v in pairs if n == "_fbp" and (i := parse(v, _FBP_PAYLOAD, now_ms))]
    fbcs = [i for n, v in pairs if n == "_fbc" and (i := parse(v, _FBC_PAYLOAD, now_ms))]
    landings = [u for n, v in pairs if n == landing_name and (u := _landing(v))]
    fresh = [i for i in fbcs if i.created_ms > now_ms - NINETY_DAYS_MS]
    return Jar(
        fbp=min(fbps, key=lambda i: i.index != scope.index, default=None),
        fbc=max(fresh, key=lambda i: i.created_ms, default=None),
        landing=landings[0] if landings else {},
    )


def resolve(
    jar: Jar,
    pages: Iterable[str],
    referrers: Iterable[str],
    scope: Scope,
    now_ms: int,
    draw: Callable[[int], int],
) -> BrowserIds:
    """What the browser is to be known by.

    A click id counts from the first page that has one, else from where the visitor came from, if
    that was this site too: another site's click belongs to another advertiser. The same click keeps
    its first time; another click is stamped now. `draw(n)` is a number below n.
    """
    pages = list(pages)
    own = [url for url in referrers if _within(url, scope)]
    click = next((c for url in (*pages, *own) if (c := fbclid(url))), None)
    fbc = jar.fbc.text if jar.fbc else None
    if click and not (jar.fbc and _same_click(jar.fbc.payload, click)):
        fbc = f"fb.{scope.index}.{now_ms}.{click}"
    return BrowserIds(
        fbp=jar.fbp.text if jar.fbp else f"fb.{scope.index}.{now_ms}.{draw(2**53)}",
        fbc=fbc,
        utm=next((found for url in pages if (found := utm(url))), jar.landing),
    )


def valid_fbp(text: str, now_ms: int) -> bool:
    """Whether a value somebody hands us is an `_fbp`."""
    return parse(text, _FBP_PAYLOAD, now_ms) is not None


def valid_fbc(text: str, now_ms: int) -> bool:
    """Whether a value somebody hands us is an `_fbc` of a click that still counts."""
    found = parse(text, _FBC_PAYLOAD, now_ms)
    return found is not None and found.created_ms > now_ms - NINETY_DAYS_MS


def parse(raw: str, payload: re.Pattern[str], now_ms: int) -> BrowserId | None:
    """`fb.index.created_ms.payload[.appendix…]`, or None for anything else.

    fbevents.js stores `_fbc` percent-encoded. A creation time before 2010 or after tomorrow is
    somebody's mistake (seconds for milliseconds, mostly), so the value is worthless to Meta.
    """
    text = unquote(raw.strip().strip('"'))
    prefix, _, rest = text.partition(".")
    index, _, rest = rest.partition(".")
    created, _, rest = rest.partition(".")
    if prefix != "fb" or not (index.isascii() and index.isdigit() and len(index) == 1):
        return None
    if not (created.isascii() and created.isdigit() and len(created) == 13):
        return None
    if not _YEAR_2010_MS <= int(created) <= now_ms + _DAY_MS:
        return None
    bare = without_appendix(rest)
    if not payload.fullmatch(bare):
        return None
    return BrowserId(text=text, index=int(index), created_ms=int(created), payload=bare)


def without_appendix(text: str) -> str:
    """The value before whatever Meta's parameter builder appended, once or several times."""
    parts = text.split(".")
    while len(parts) > 1 and _APPENDIX.fullmatch(parts[-1]):
        parts.pop()
    return ".".join(parts)


def fbclid(url: str) -> str | None:
    """The first click id of a URL's query or fragment, decoded once, case kept; None if unusable."""
    if "fbclid=" not in url:
        return None
    parts = _split(url)
    for text in (parts.query, parts.fragment.partition("?")[2] or parts.fragment):
        for name, value in _pairs(text):
            if name == "fbclid" and _FBC_PAYLOAD.fullmatch(click := without_appendix(value)):
                return click
    return None


def utm(url: str) -> dict[str, str]:
    """The campaign parameters of a URL, cut to 200 characters each; empty when it has none."""
    if "utm_" not in url:
        return {}
    found: dict[str, str] = {}
    for name, value in _pairs(_split(url).query):
        if name in UTM_KEYS and value.strip() and name not in found:
            found[name] = _SDK_APPENDIX.sub("", value.strip())[:_UTM_MAX]
    return found


def scope_of(host: str, configured: str | None = None) -> Scope:
    """The widest domain a cookie of this host may be set on, by the Public Suffix List.

    An address or a single name (localhost) gets a cookie of its own host, index 0 as Meta's
    builders do. `configured` overrides the list when the host lies within it. What is no host name
    never gets into a header.
    """
    host = host.lower().rstrip(".")
    if "." not in host or _is_address(host) or not _HOST.fullmatch(host):
        return Scope(None, 0)
    if configured and (host == configured or host.endswith("." + configured)):
        return Scope(configured, configured.count("."))
    domain = _suffixes().privatesuffix(host)
    if not domain:
        # The host is a public suffix itself: nothing wider than the host is allowed.
        return Scope(None, host.count("."))
    return Scope(domain, domain.count("."))


def headers(ids: BrowserIds, scope: Scope, landing_name: str, *, secure: bool) -> tuple[str, ...]:
    """The Set-Cookie values that keep `ids` for another 90 days.

    `_fbp` and `_fbc` stay readable for the pixel; the landing is ours alone. They are set again on
    every answer, because Safari cuts what a script rewrites to 7 days.
    """
    lines = [_cookie("_fbp", ids.fbp, scope, NINETY_DAYS_S, secure=secure)]
    if ids.fbc:
        lines.append(_cookie("_fbc", ids.fbc, scope, NINETY_DAYS_S, secure=secure))
    if ids.utm:
        line = _cookie(landing_name, _packed(ids.utm), scope, NINETY_DAYS_S, secure=secure)
        lines.append(line + "; HttpOnly")
    return tuple(lines)


def _packed(campaign: Mapping[str, str]) -> str:
    """The campaign as one cookie value. Browsers drop a cookie above 4096 bytes whole, so the least
    telling parameters go first when another script's letters make it too long."""
    kept = [(name, campaign[name]) for name in UTM_KEYS if name in campaign]
    while len(urlencode(kept)) > _PACKED_MAX:
        kept.pop()
    return base64.urlsafe_b64encode(urlencode(kept).encode()).rstrip(b"=").decode()


def deletions(scope: Scope, landing_name: str, *, secure: bool) -> tuple[str, ...]:
    """The Set-Cookie values that forget the visitor."""
    names = ("_fbp", "_fbc", landing_name)
    return tuple(_cookie(name, "", scope, 0, secure=secure) for name in names)


def _cookie(name: str, value: str, scope: Scope, max_age_s: int, *, secure: bool) -> str:
    domain = f"; Domain={scope.domain}" if scope.domain else ""
    return f"{name}={value}; Path=/; Max-Age={max_age_s}{domain}; SameSite=Lax" + (
        "; Secure" if secure else ""
    )


def _within(url: str, scope: Scope) -> bool:
    host = _split(url).hostname or ""
    return scope.domain is not None and (host == scope.domain or host.endswith("." + scope.domain))


def _same_click(payload: str, click: str) -> bool:
    # The builder may append further parameters to the click id: `_x_value`.
    return payload == click or payload.startswith(click + "_")


def _landing(value: str) -> dict[str, str]:
    try:
        text = base64.urlsafe_b64decode(value + "=" * (-len(value) % 4)).decode()
    except ValueError:
        return {}
    return {name: v[:_UTM_MAX] for name, v in _pairs(text) if name in UTM_KEYS}


def _pairs(query: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(query, max_num_fields=200)
    except ValueError:  # more fields than any campaign has
        return []


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:
        return urlsplit("")


def _is_address(host: str) -> bool:
    try:
        ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


@cache
def _suffixes() -> PublicSuffixList:
    return PublicSuffixList()
