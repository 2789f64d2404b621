"""Who a browser's request comes from, and the cookies that go back: the same for the script and a hit."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from gateway import consent, cookies, urls
from gateway.config import Site
from gateway.cookies import BrowserIds, Handed, Jar, Page, Scope
from gateway.hit import Consent, Facts, HandOver, Hit, Sent
from gateway.master import Seal

HANDED_MS = 120_000
"""how long a link to another host of the site keeps its ids"""

NO_HIT = Hit(events=(), silent=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """One request of a browser, and what is known of the browser after it."""

    facts: Facts
    site: Site
    scope: Scope
    jar: Jar
    """as the browser sent it"""
    ids: BrowserIds
    said: Consent | None
    """by the hit; where that cannot speak, by the signed cookie, which a withdrawal deletes"""

    @property
    def may_be_known(self) -> bool:
        """Whether the visitor lets themselves be followed."""
        return consent.refuses(self.said, self.facts, self.site.consent) is None


class Visits:
    """Knows browsers again, for every site of the install."""

    def __init__(self, seal: Seal, draw: Callable[[int], int]) -> None:
        self._seal = seal
        self._draw = draw

    def meet(self, facts: Facts, site: Site, hit: Hit = NO_HIT) -> Visit:
        """Who it is. A request without events tells the page it is for by its Referer."""
        scope = cookies.scope_of(facts.host, site.cookie_domain)
        jar = cookies.read(facts.cookies, scope, self._seal, facts.now_ms)
        events = [one for one in hit.events if isinstance(one, Sent)]
        pages = [_page_of(one, hit) for one in events] or [Page(url=facts.referer)]
        earlier = Consent.GRANTED if jar.master and jar.master.granted else None
        said = earlier if hit.silent else hit.consent
        ids = cookies.resolve(
            _with_told(jar, hit, scope, self._seal, facts.now_ms),
            pages,
            scope,
            self._seal,
            facts.now_ms,
            self._draw,
            handed=_handed(hit.handed, pages, site, facts.now_ms),
            granted=said is Consent.GRANTED,
        )
        return Visit(facts=facts, site=site, scope=scope, jar=jar, ids=ids, said=said)

    def new_id(self) -> str:
        """An event id nobody else has."""
        return f"{self._draw(2**128):032x}"

    def greeting(self, visit: Visit) -> tuple[str, ...]:
        """The Set-Cookie values for a request without events: all of them, for their full time."""
        return self._cookies(visit, None)

    def answer(self, visit: Visit) -> tuple[str, ...]:
        """The Set-Cookie values for a hit: what the browser has not, or has otherwise."""
        return self._cookies(visit, visit.jar)

    def _cookies(self, visit: Visit, had: Jar | None) -> tuple[str, ...]:
        facts, policy, scope, said = visit.facts, visit.site.consent, visit.scope, visit.said
        if consent.withdrawn(said, facts, policy):
            sent = {name for name, _ in facts.cookies}
            if sent & {"_fbp", "_fbc", self._seal.name}:
                return cookies.deletions(scope, self._seal, secure=facts.secure)
            return ()
        if facts.prefetch or not visit.may_be_known:
            return ()
        return cookies.headers(visit.ids, scope, self._seal, secure=facts.secure, had=had)


def _with_told(jar: Jar, hit: Hit, scope: Scope, seal: Seal, now_ms: int) -> Jar:
    """The jar with what the body tells of cookies that are not in it."""
    if not hit.told:
        return jar
    told = cookies.read(hit.told, scope, seal, now_ms)
    has_fbp = jar.fbps or jar.master
    has_fbc = jar.fbcs or (jar.master and jar.master.fbc)
    return replace(
        jar, fbps=jar.fbps if has_fbp else told.fbps, fbcs=jar.fbcs if has_fbc else told.fbcs
    )


def _page_of(sent: Sent, hit: Hit) -> Page:
    return Page(
        url=sent.url,
        referrer=sent.referrer,
        viewed_ms=sent.time_ms if sent.name == "PageView" else None,
        click=hit.click,
    )


def _handed(given: HandOver | None, pages: list[Page], site: Site, now_ms: int) -> Handed | None:
    """The ids of a link that was just followed from another host of the site; else none.

    Without the referrer anybody could hand a visitor the ids of somebody else.
    """
    hosts = [urls.host_of(page.referrer) for page in pages]
    known = any(h == own or h.endswith("." + own) for h in hosts for own in site.cross_domain)
    if given is None or not known or abs(now_ms - given.made_ms) > HANDED_MS:
        return None
    return Handed(
        made_ms=given.made_ms,
        fbp=cookies.fbp_of(given.fbp, now_ms),
        fbc=cookies.fbc_of(given.fbc, now_ms),
    )
