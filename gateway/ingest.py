"""From what was sent to what is stored. `Ingest.accept` is the list of everything that happens to a hit."""

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from gateway import consent, cookies, enrich, event, hit, metrics, validate
from gateway.agent import UNREAD, Agent, Agents
from gateway.config import Pixel, Settings
from gateway.cookies import BrowserIds, Scope
from gateway.enrich import Place
from gateway.hit import Consent, Facts, Hit, Misfit, Sent, Source
from gateway.outcome import UNRECORDED, Outcome
from gateway.stores import Drop, Entry, Note, Outbox
from gateway.validate import Problem

# The part of custom_data the event log shows: about money and campaigns, not about people.
_SHOWN = frozenset({"value", "currency", "num_items", "content_type", *cookies.UTM_KEYS})


_FOREIGN = Problem("url", "not a host of this site", "")
_BOT = Problem("", "a bot by its user agent", "")
_NOT_FOR_BROWSERS = Problem("name", "browser_events keeps this name to the backend", "")
_OTHER_PIXEL = Problem("pixel_id", "not this install's pixel", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What became of one event, for whoever sent it."""

    index: int
    event_id: str
    outcome: Outcome
    problem: Problem | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The answer to a hit: one judgement an event, and the cookies to set."""

    judged: tuple[Judged, ...]
    set_cookies: tuple[str, ...] = ()


class Ingest:
    """Accepts hits for one site."""

    def __init__(
        self,
        *,
        settings: Settings,
        landing_cookie: str,
        outbox: Outbox,
        locate: Callable[[str], Place],
        agents: Agents,
        draw: Callable[[int], int],
        on_stored: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._landing_cookie = landing_cookie
        self._outbox = outbox
        self._locate = locate
        self._agents = agents
        self._draw = draw
        self._on_stored = on_stored

    async def accept(self, body: bytes, facts: Facts) -> Receipt:
        """Judge, complete and durably store everything a request carries.

        When this returns, every event that was not refused is on disk. Raises HitInvalid when the
        body cannot be read and StoreError when nothing could be stored.
        """
        sent = hit.parse(body, facts)
        scope = cookies.scope_of(facts.host, self._settings.cookie_domain)
        ids = self._browser_ids(sent, facts, scope)
        agent = await self._agents.read(facts.agent) if facts.source is Source.PAGE else UNREAD
        fates = [self._judge(one, facts, ids, agent) for one in sent.events]
        entries = [fate for fate in fates if isinstance(fate, _Kept)]
        drops = [fate for fate in fates if isinstance(fate, _Dropped)]
        stored = await self._outbox.put(
            [kept.entry for kept in entries], [dropped.drop for dropped in drops], facts.now_ms
        )
        if entries:
            self._on_stored()
        answers = iter(stored)
        judged = tuple(
            fate.judged(next(answers)) if isinstance(fate, _Kept) else fate.judged()
            for fate in fates
        )
        for one in judged:
            metrics.EVENTS.labels(facts.source, one.outcome).inc()
        return Receipt(judged=judged, set_cookies=self._cookies(sent.consent, ids, facts, scope))

    def greet(self, facts: Facts) -> tuple[str, ...]:
        """The Set-Cookie values for a visitor who only fetched the script."""
        scope = cookies.scope_of(facts.host, self._settings.cookie_domain)
        ids = self._browser_ids(Hit(events=()), facts, scope)
        return self._cookies(None, ids, facts, scope)

    def _judge(
        self, sent: Sent | Misfit, facts: Facts, ids: BrowserIds, agent: Agent
    ) -> "_Kept | _Dropped":
        """One event: either complete and ready for the disk, or dropped for a named reason."""
        if isinstance(sent, Misfit):
            return self._drop(sent, Outcome.INVALID, facts, Problem(sent.field, sent.error, ""))
        if refused := consent.refuses(sent.consent, facts, self._settings.consent):
            return self._drop(sent, refused, facts)
        if not self._is_ours(sent, facts):
            return self._drop(sent, Outcome.FOREIGN_HOST, facts, _FOREIGN)
        if facts.source is Source.PAGE:
            if agent.bot or enrich.looks_automated(facts.agent):
                return self._drop(sent, Outcome.BOT, facts, _BOT)
            allowed = self._settings.browser_events
            if allowed is not None and sent.name not in allowed:
                return self._drop(sent, Outcome.INVALID, facts, _NOT_FOR_BROWSERS)
        elif not _names_pixel(sent, self._settings.pixel):
            return self._drop(sent, Outcome.INVALID, facts, _OTHER_PIXEL)
        visitor = enrich.visitor_of(sent, facts, ids, self._locate)
        built = event.build(
            sent,
            visitor,
            facts.now_ms,
            self._settings.default_country,
            alternates=self._settings.hash_alternates,
        )
        if problem := validate.check(built.event, facts.now_ms):
            return self._drop(sent, problem.outcome, facts, problem)
        return self._keep(sent, built, facts, agent)

    def _keep(self, sent: Sent, built: event.Built, facts: Facts, agent: Agent) -> "_Kept":
        pixel = self._settings.pixel.lane
        ready = built.event
        note = Note(
            event_name=ready.event_name,
            event_id=ready.event_id,
            source=facts.source,
            host=_host_of(ready.event_source_url),
            keys=ready.user_data.keys(),
            custom={
                name: value
                for name, value in ready.custom_data.items()
                if name in _SHOWN and isinstance(value, str | int | float)
            },
            agent=agent.readable,
            warnings=built.warnings,
        )
        entry = Entry(
            pixel=pixel,
            key=event.key(pixel, ready),
            body=event.encode(ready),
            due_ms=facts.now_ms,
            deadline_ms=event.deadline_ms(ready, facts.now_ms, browser_has_it=sent.browser_has_it),
            note=note,
        )
        return _Kept(sent, entry)

    def _drop(
        self, sent: Sent | Misfit, outcome: Outcome, facts: Facts, problem: Problem | None = None
    ) -> "_Dropped":
        note = None
        if outcome not in UNRECORDED:
            safe_id = "" if "@" in sent.id else sent.id
            safe_name = "" if "@" in sent.name else sent.name
            note = Note(event_name=safe_name, event_id=safe_id, source=facts.source)
        reason = str(problem) if problem else ""
        drop = Drop(pixel=self._settings.pixel.lane, outcome=outcome, note=note, reason=reason)
        return _Dropped(sent, drop, problem)

    def _is_ours(self, sent: Sent, facts: Facts) -> bool:
        hosts = self._settings.site_hosts
        if not hosts:
            return True
        named = [h for h in (_host_of(sent.url), facts.origin) if h]
        return all(any(h == own or h.endswith("." + own) for own in hosts) for h in named)

    def _browser_ids(self, sent: Hit, facts: Facts, scope: Scope) -> BrowserIds:
        jar = cookies.read(facts.cookies, scope, self._landing_cookie, facts.now_ms)
        events = [one for one in sent.events if isinstance(one, Sent)]
        # The script's own request tells the page it is for.
        pages = [one.url for one in events] or [facts.referer]
        referrers = [one.referrer for one in events]
        return cookies.resolve(jar, pages, referrers, scope, facts.now_ms, self._draw)

    def _cookies(
        self, said: Consent | None, ids: BrowserIds, facts: Facts, scope: Scope
    ) -> tuple[str, ...]:
        policy = self._settings.consent
        if facts.source is not Source.PAGE:
            return ()
        if consent.withdrawn(said, facts, policy):
            had = {name for name, _ in facts.cookies}
            if had & {"_fbp", "_fbc", self._landing_cookie}:
                return cookies.deletions(scope, self._landing_cookie, secure=facts.secure)
            return ()
        if facts.prefetch or consent.refuses(said, facts, policy):
            return ()
        return cookies.headers(ids, scope, self._landing_cookie, secure=facts.secure)


@dataclass(frozen=True, slots=True)
class _Kept:
    sent: Sent
    entry: Entry

    def judged(self, outcome: Outcome) -> Judged:
        return Judged(
            index=self.sent.index,
            event_id=self.sent.id,
            outcome=outcome,
            warnings=self.entry.note.warnings,
        )


@dataclass(frozen=True, slots=True)
class _Dropped:
    sent: Sent | Misfit
    drop: Drop
    problem: Problem | None

    def judged(self) -> Judged:
        return Judged(
            index=self.sent.index,
            event_id=self.sent.id,
            outcome=self.drop.outcome,
            problem=self.problem,
        )


def _host_of(url: str) -> str:
    """The URL's host; empty when it has none, or is none that can be read."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _names_pixel(sent: Sent, pixel: Pixel) -> bool:
    """Whether an event is for our pixel: it says so, or says nothing. A sandbox takes them all."""
    named = sent.extras.pixel_id
    return named is None or pixel.sandbox or str(named) == pixel.id
