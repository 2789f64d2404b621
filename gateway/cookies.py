"""The browser's ids: `_fbp` and `_fbc` read, checked, minted and kept, beside the master cookie.

Formats and rules: Meta, "fbp and fbc parameters"; values of Meta's parameter builder carry a fifth
part (an appendix), which is kept as it is and never forged. Nothing here reads a clock or draws
randomness: both are arguments.

Order of truth. `_fbp`: the readable cookie that agrees with the master; else a readable one that
this install made; else the master's; else any valid readable one; else a new one. So a value that
somebody else put in place of ours (a blocker removed it and fbevents.js made its own, or made a
second one on another domain level, or another script wrote one) lasts until our next answer, which
fbevents.js then adopts. `_fbc`: a new click, else the newest of what the cookies say; the same
click keeps its first time, and a click that came before the last is none when an old tab shows it.

Several tabs opened at once. Their scripts are asked for without cookies, so each answer makes an
`_fbp` of its own, and whichever comes last stays. From then on nothing changes `_fbp`: a hit's
answer sets a cookie only where the browser did not send that very value, and a hit goes out after
its script has come, so it always sends an `_fbp` of ours, which is the one that counts. What such
an answer may still bring, late, is a master with a landing and the `_fbp` of its own tab. That is
why a readable `_fbp` of ours goes before the master: the next hit puts the master right instead of
the master turning `_fbp` back. Hits that are first at the same time settle the same way. (`me`, which
a page seldom asks for, counts as a script here.)
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from ipaddress import ip_address
from urllib.parse import unquote

from publicsuffixlist import PublicSuffixList

from gateway import master, privacy, urls
from gateway.master import Landing, Master, Seal

NINETY_DAYS_S = 90 * 86400
NINETY_DAYS_MS = NINETY_DAYS_S * 1000
ON_ITS_WAY_MS = 10_000
"""how long a hit may travel"""
MASTER_S = 400 * 86400
"""what browsers allow at most"""
_DAY_MS = 86_400_000
_YEAR_2010_MS = 1_262_304_000_000

_URL_MAX = 500
"""characters of a landing's URLs; of a longer one the query goes"""

_FBP_PAYLOAD = re.compile(r"[0-9]{1,20}")
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
class Page:
    """A page the visitor was on, as far as a request tells."""

    url: str
    referrer: str = ""
    viewed_ms: int | None = None
    """when it was opened, for a page view"""
    click: str | None = None
    """an in-app browser's click id, which counts like an fbclid of the page"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Handed:
    """The ids another host of the site gave a visitor along."""

    made_ms: int
    """when the link was followed"""
    fbp: BrowserId | None
    fbc: BrowserId | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Jar:
    """What the browser's Cookie header held, read once."""

    fbps: tuple[BrowserId, ...] = ()
    """those on our own domain level first"""
    fbcs: tuple[BrowserId, ...] = ()
    """newest first, 90 days at most"""
    masters: tuple[str, ...] = ()
    """as sent"""
    master: Master | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BrowserIds:
    """What is known of the browser after a request."""

    fbp: str
    fbc: str | None
    utm: Mapping[str, str]
    """of this page, else of the last landing within 90 days"""
    master: Master
    """to be kept"""


def read(pairs: Iterable[tuple[str, str]], scope: Scope, seal: Seal, now_ms: int) -> Jar:
    """Take the valid ones of what was sent; the same name may come several times.

    Of several `_fbp` the one on our own domain level counts first (fbevents.js makes a second one
    when it cannot see the first), of several `_fbc` the newest click.
    """
    pairs = list(pairs)
    fbps = [i for n, v in pairs if n == "_fbp" and (i := fbp_of(v, now_ms))]
    fbcs = [i for n, v in pairs if n == "_fbc" and (i := fbc_of(v, now_ms))]
    masters = tuple(v for n, v in pairs if n == seal.name)
    return Jar(
        fbps=tuple(sorted(fbps, key=lambda i: i.index != scope.index)),
        fbcs=tuple(sorted(fbcs, key=lambda i: -i.created_ms)),
        masters=masters,
        master=next((m for v in masters if (m := master.unseal(v, seal.key))), None),
    )


def resolve(
    jar: Jar,
    pages: Sequence[Page],
    scope: Scope,
    seal: Seal,
    now_ms: int,
    draw: Callable[[int], int],
    *,
    handed: Handed | None = None,
    granted: bool = False,
) -> BrowserIds:
    """What the browser is to be known by, and what is to be remembered of it.

    A click id counts from the first page that has one, else from where the visitor came from, if
    that was this site too: another site's click belongs to another advertiser. The same click keeps
    its first time; another click is stamped now. `draw(n)` is a number below n. `granted`: the
    visitor agrees in this request.
    """
    fbp = _fbp(jar, handed, scope, seal, now_ms, draw)
    fbc, clicked = _fbc(jar, handed, pages, scope, now_ms)
    landing = _landing(jar, pages, scope, now_ms, clicked=clicked)
    here = next((found for page in pages if (found := urls.utm(page.url))), None)
    known = jar.master
    kept = Master(
        fbp=f"fb.{fbp.index}.{fbp.created_ms}.{fbp.payload}",
        fbc=fbc,
        first_seen_ms=known.first_seen_ms if known else min(fbp.created_ms, now_ms),
        landing=landing,
        clicks=_clicks(known, fbc),
        granted=granted or bool(known and known.granted),
    )
    utms = here or (landing.utm if landing else {})
    return BrowserIds(fbp=fbp.text, fbc=fbc, utm=utms, master=kept)


def _fbp(
    jar: Jar,
    handed: Handed | None,
    scope: Scope,
    seal: Seal,
    now_ms: int,
    draw: Callable[[int], int],
) -> BrowserId:
    known = fbp_of(jar.master.fbp, now_ms) if jar.master else None
    # One that agrees with the master may carry an appendix, so it goes before it.
    same = (i for i in jar.fbps if known and _core(i) == _core(known))
    ours = (i for i in jar.fbps if master.minted(i.created_ms, i.payload, seal.key))
    own = next(same, None) or next(ours, None) or known or next(iter(jar.fbps), None)
    if handed and handed.fbp and (own is None or _made_here(own, handed, seal)):
        return handed.fbp
    if own:
        return own
    number = master.mint(now_ms, draw, seal.key)
    return BrowserId(f"fb.{scope.index}.{now_ms}.{number}", scope.index, now_ms, number)


def _made_here(own: BrowserId, handed: Handed, seal: Seal) -> bool:
    """Whether the script's answer made it a moment ago, on arrival with what was handed over.

    The time of the click is known by the hit that tells of it, which was on its way for a while.
    """
    moment_ms = handed.made_ms - ON_ITS_WAY_MS
    return own.created_ms >= moment_ms and master.minted(own.created_ms, own.payload, seal.key)


def _fbc(
    jar: Jar, handed: Handed | None, pages: Sequence[Page], scope: Scope, now_ms: int
) -> tuple[str | None, bool]:
    """The click the browser is known by, and whether it is new."""
    readable = next(iter(jar.fbcs), None)
    known = parse(jar.master.fbc, urls.CLICK, now_ms) if jar.master and jar.master.fbc else None
    best = known if known and _counts(known, now_ms) else None
    if readable and not (best and _first_of(best, readable)):
        best = readable
    if handed and handed.fbc and not (best and best.created_ms >= handed.fbc.created_ms):
        best = handed.fbc
    before = jar.master.clicks if jar.master else ()
    held = [i.payload for i in (best, known) if i]
    click = _click(pages, scope)
    if not click or any(_same_click(h, click) for h in held) or master.digest(click) in before:
        return best.text if best else None, False
    return f"fb.{scope.index}.{now_ms}.{click}", True


def _first_of(known: BrowserId, readable: BrowserId) -> bool:
    """Whether the master's click goes before the readable one: the same, seen earlier, or a newer."""
    if known.payload == readable.payload:
        return known.created_ms != readable.created_ms  # equal: the readable may have an appendix
    return known.created_ms > readable.created_ms


def _click(pages: Sequence[Page], scope: Scope) -> str | None:
    own = (page.referrer for page in pages if _within(page.referrer, scope))
    addresses = [*(page.url for page in pages), *own]
    on_pages = (click for url in addresses if (click := urls.fbclid(url)))
    told = (page.click for page in pages if page.click and urls.usable_click(page.click))
    return next(on_pages, None) or next(told, None)


def _clicks(known: Master | None, fbc: str | None) -> tuple[bytes, ...]:
    """The clicks before `fbc`."""
    if known is None or known.fbc is None or known.fbc == fbc:
        return known.clicks if known else ()
    last = urls.without_appendix(known.fbc.split(".", 3)[3])
    return master.earlier(last, known.clicks)


def _landing(
    jar: Jar, pages: Sequence[Page], scope: Scope, now_ms: int, *, clicked: bool
) -> Landing | None:
    """How the visitor came last: a page view with a campaign, or else the first one there is.

    A new click counts as well while no campaign is known. Coming back without either, from a
    payment page or a bookmark, is no landing.
    """
    last = jar.master.landing if jar.master else None
    if last and last.at_ms <= now_ms - NINETY_DAYS_MS:
        last = None
    for page in pages:
        if page.viewed_ms is None or (last and page.viewed_ms <= last.at_ms):
            continue
        here = urls.utm(page.url)
        first = last is None and not _within(page.referrer, scope)
        if here or first or (clicked and not (last and last.utm)):
            at_ms = min(page.viewed_ms, now_ms)
            last = Landing(
                at_ms=at_ms, page=_kept(page.url), referrer=_kept(page.referrer), utm=here
            )
    return last


def _kept(url: str) -> str:
    cleaned, _ = privacy.clean_url(url)
    if len(cleaned) > _URL_MAX:
        cleaned = re.split(r"[?#]", cleaned, maxsplit=1)[0]
    return cleaned if len(cleaned) <= _URL_MAX else ""


def fbp_of(text: str, now_ms: int) -> BrowserId | None:
    """A value somebody hands us, if it is an `_fbp`."""
    return parse(text, _FBP_PAYLOAD, now_ms)


def fbc_of(text: str, now_ms: int) -> BrowserId | None:
    """A value somebody hands us, if it is an `_fbc` of a click that still counts."""
    found = parse(text, urls.CLICK, now_ms)
    return found if found and _counts(found, now_ms) else None


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
    bare = urls.without_appendix(rest)
    if not payload.fullmatch(bare):
        return None
    return BrowserId(text=text, index=int(index), created_ms=int(created), payload=bare)


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


def headers(
    ids: BrowserIds, scope: Scope, seal: Seal, *, secure: bool, had: Jar | None = None
) -> tuple[str, ...]:
    """The Set-Cookie values that keep `ids`: `_fbp` and `_fbc` for 90 days, the master for 400.

    The first two stay readable for the pixel. With `had` only what the browser did not send; without
    it all of them again, because Safari cuts what a script rewrites to 7 days.
    """
    value = master.seal(ids.master, seal.key)
    lines = []
    if had is None or ids.fbp not in {i.text for i in had.fbps}:
        lines.append(_cookie("_fbp", ids.fbp, scope, NINETY_DAYS_S, secure=secure))
    if ids.fbc and (had is None or ids.fbc not in {i.text for i in had.fbcs}):
        lines.append(_cookie("_fbc", ids.fbc, scope, NINETY_DAYS_S, secure=secure))
    if had is None or value not in had.masters:
        line = _cookie(seal.name, value, scope, MASTER_S, secure=secure)
        lines.append(line + "; HttpOnly")
    return tuple(lines)


def deletions(scope: Scope, seal: Seal, *, secure: bool) -> tuple[str, ...]:
    """The Set-Cookie values that forget the visitor."""
    names = ("_fbp", "_fbc", seal.name)
    return tuple(_cookie(name, "", scope, 0, secure=secure) for name in names)


def _cookie(name: str, value: str, scope: Scope, max_age_s: int, *, secure: bool) -> str:
    domain = f"; Domain={scope.domain}" if scope.domain else ""
    return f"{name}={value}; Path=/; Max-Age={max_age_s}{domain}; SameSite=Lax" + (
        "; Secure" if secure else ""
    )


def _within(url: str, scope: Scope) -> bool:
    host = urls.host_of(url)
    return scope.domain is not None and (host == scope.domain or host.endswith("." + scope.domain))


def _counts(click: BrowserId, now_ms: int) -> bool:
    return click.created_ms > now_ms - NINETY_DAYS_MS


def _core(found: BrowserId) -> tuple[int, int, str]:
    return found.index, found.created_ms, found.payload


def _same_click(payload: str, click: str) -> bool:
    # The builder may append further parameters to the click id: `_x_value`.
    return payload == click or payload.startswith(click + "_")


def _is_address(host: str) -> bool:
    try:
        ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


@cache
def _suffixes() -> PublicSuffixList:
    return PublicSuffixList()
