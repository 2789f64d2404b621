"""From what was sent to what is stored. `Ingest.accept` is the list of everything that happens to a hit."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from gateway import (
    consent,
    enrich,
    event,
    merge,
    metrics,
    overload,
    privacy,
    urls,
    validate,
    wire,
)
from gateway.agent import UNREAD, Agent, Agents
from gateway.config import Pixel, Settings, Site
from gateway.enrich import Place
from gateway.errors import GatewayError
from gateway.event import Event
from gateway.hit import Facts, Hit, Misfit, Sent, Source
from gateway.merge import CONVERSIONS, Side
from gateway.outcome import UNRECORDED, WAITING, Outcome
from gateway.overload import Backlog, Load
from gateway.stores import Drop, Entry, Half, Joined, Note, Outbox
from gateway.validate import Problem
from gateway.visit import Visit, Visits

# The part of custom_data the event log shows: about money and campaigns, not about people.
_SHOWN = frozenset({"value", "currency", "num_items", "content_type", *urls.UTM_KEYS})


SLICE = 20
"""events of one request judged before everybody else has a turn: some 5 ms"""

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


class Refused(GatewayError):
    """One event of a request that is taken whole or not at all: nothing was stored."""

    def __init__(self, judged: Judged) -> None:
        super().__init__(str(judged.problem))
        self.judged = judged


class Ingest:
    """Accepts hits for every site of the install."""

    def __init__(
        self,
        *,
        settings: Settings,
        visits: Visits,
        outbox: Outbox,
        backlog: Backlog,
        locate: Callable[[str], Place],
        agents: Agents,
        on_stored: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._visits = visits
        self._outbox = outbox
        self._backlog = backlog
        self._locate = locate
        self._agents = agents
        self._on_stored = on_stored

    async def accept(self, body: bytes, facts: Facts, site: Site | None) -> Receipt:
        """Judge, complete and durably store everything a request carries.

        `site`: the page's; a backend's events name their pixel, or there is only one. When this
        returns, every event that was not refused is on disk. Raises HitInvalid when the body cannot
        be read, StoreError when nothing could be stored, StoreBusy when too much waits already, and
        Refused when one event spoils a request that is all or nothing.
        """
        self._backlog.admit(Load.FULL)  # before anything else, as this has to be cheap
        sent = wire.parse(body, facts)
        if not overload.is_vital(sent, facts.source):
            self._backlog.admit(Load.HIGH)
        visit = self._visits.meet(facts, site, sent) if site else None
        agent = await self._agents.read(facts.agent) if facts.source is Source.PAGE else UNREAD
        fates = await self._judge_all(sent, facts, visit, agent)
        if facts.source is Source.GRAPH:
            _refuse_whole(fates)
        entries = [entry for fate in fates for entry in fate.entries]
        drops = [drop for fate in fates for drop in fate.drops]
        size = sum(len(entry.body) for entry in entries)
        with self._backlog.holding(len(entries) + len(drops), size):
            stored = await self._outbox.put(entries, drops, facts.now_ms, join)
        self._on_stored()
        answers = iter(stored)
        judged = tuple(fate.judged(answers) for fate in fates)
        for one in judged:
            metrics.EVENTS.labels(facts.source, one.outcome).inc()
        set_cookies = self._visits.answer(visit) if visit else ()
        return Receipt(judged=judged, set_cookies=set_cookies)

    async def _judge_all(
        self, sent: Hit, facts: Facts, visit: Visit | None, agent: Agent
    ) -> "list[_Fate]":
        fates = []
        for number, one in enumerate(sent.events, 1):
            fates.append(self._judge(one, facts, visit, agent))
            if number % SLICE == 0:
                await asyncio.sleep(0)
        return fates

    def _judge(
        self, sent: Sent | Misfit, facts: Facts, visit: Visit | None, agent: Agent
    ) -> "_Fate":
        """One event: either complete and ready for the disk, or dropped for a named reason."""
        found = self._pages(sent, visit.site) if visit else self._named(sent, facts)
        site, pixels = found or (self._settings.sites[0], self._settings.pixels[:1])
        if isinstance(sent, Misfit):
            unread = Problem(sent.field, sent.error, "")
            return _dropped(sent, pixels, Outcome.INVALID, facts, unread)
        said = visit.said if visit else sent.consent
        if refused := consent.refuses(said, facts, site.consent):
            return _dropped(sent, pixels, refused, facts)
        if found is None:
            return _dropped(sent, pixels, Outcome.INVALID, facts, _OTHER_PIXEL)
        if not _is_ours(sent, facts, site):
            return _dropped(sent, pixels, Outcome.FOREIGN_HOST, facts, _FOREIGN)
        if facts.source is Source.PAGE:
            if agent.bot or enrich.looks_automated(facts.agent):
                return _dropped(sent, pixels, Outcome.BOT, facts, _BOT)
            allowed = self._settings.browser_events
            if allowed is not None and sent.name not in allowed:
                return _dropped(sent, pixels, Outcome.INVALID, facts, _NOT_FOR_BROWSERS)
        visitor = enrich.visitor_of(sent, facts, visit.ids if visit else None, self._locate)
        built = event.build(
            sent,
            visitor,
            facts.now_ms,
            site.default_country,
            alternates=self._settings.hash_alternates,
            limited=self._limited(visitor.place),
        )
        if problem := validate.wrong(built.event, facts.now_ms):
            return _dropped(sent, pixels, problem.outcome, facts, problem)
        return self._kept(sent, built, pixels, facts, agent)

    def _kept(
        self,
        sent: Sent,
        built: event.Built,
        pixels: Sequence[Pixel],
        facts: Facts,
        agent: Agent,
    ) -> "_Fate":
        """An entry for each pixel; a conversion waits for its other half, which may bring what this one lacks."""
        ready = built.event
        missing = validate.missing(ready)
        deadline_ms = event.deadline_ms(ready, facts.now_ms, browser_has_it=sent.browser_has_it)
        hold_ms = int(self._settings.hold_seconds * 1000)
        has_halves = hold_ms > 0 and ready.event_name in CONVERSIONS
        left_ms = deadline_ms - facts.now_ms
        wait_ms = merge.wait_ms(whole=not missing, hold_ms=hold_ms, left_ms=left_ms)
        if missing and not (has_halves and wait_ms and self._may_be_completed(sent, facts)):
            return _dropped(sent, pixels, Outcome.INVALID, facts, missing)
        lacks = _lacks(missing)
        note = _note_of(ready, facts.source, agent.readable, built.warnings)
        body = event.encode(ready)
        entries = (
            Entry(
                pixel=pixel.lane,
                key=event.key(pixel.lane, ready),
                body=body,
                due_ms=facts.now_ms + (wait_ms if has_halves else 0),
                deadline_ms=deadline_ms,
                note=note,
                side=_side_of(facts.source) if has_halves else "",
                lacks=lacks,
                # What the pixel delivered without its value is not all of it.
                suppress=sent.browser_has_it and self._suppresses and not missing,
            )
            for pixel in pixels
        )
        return _Fate(sent=sent, entries=tuple(entries))

    def _may_be_completed(self, sent: Sent, facts: Facts) -> bool:
        """Whether a copy may come that has what this one lacks; clients of Graph's API are answered as Graph would."""
        if facts.source is Source.PAGE:
            return True
        allowed = self._settings.browser_events
        pages_may = allowed is None or sent.name in allowed
        return facts.source is Source.BACKEND and sent.shares_id and pages_may

    @property
    def _suppresses(self) -> bool:
        return self._settings.browser_duplicates == "suppress"

    def _pages(self, sent: Sent | Misfit, site: Site) -> tuple[Site, tuple[Pixel, ...]] | None:
        """The pixels of a page's event: all of the site's, unless the page named one."""
        named = sent.extras.pixel_id if isinstance(sent, Sent) else None
        if named is None or (self._settings.sandbox and len(site.pixels) == 1):
            return site, site.pixels
        return (site, found) if (found := _by_id(site.pixels, named)) else None

    def _named(self, sent: Sent | Misfit, facts: Facts) -> tuple[Site, tuple[Pixel, ...]] | None:
        """The site and pixel a backend's event is for: the pixel it names, or the only one.

        Of several sites that share the pixel it is the page's. A sandbox with one pixel takes
        whatever is named: nothing of it reaches Meta.
        """
        named = sent.extras.pixel_id if isinstance(sent, Sent) else None
        pixels = self._settings.pixels
        if len(pixels) == 1 and (named is None or self._settings.sandbox):
            named = pixels[0].id
        owners = [
            (site, found)
            for site in self._settings.sites
            if (found := _by_id(site.pixels, str(named)))
        ]
        for owner in owners:
            if isinstance(sent, Sent) and _is_ours(sent, facts, owner[0]):
                return owner
        return owners[0] if owners else None

    def _limited(self, place: Place) -> tuple[int, int] | None:
        return privacy.limited_data_use(
            place.country, place.region, self._settings.limited_data_use
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fate:
    """What is to be stored of one event, for each of its pixels: an entry, or a drop."""

    sent: Sent | Misfit
    entries: tuple[Entry, ...] = ()
    drops: tuple[Drop, ...] = ()
    problem: Problem | None = None

    def judged(self, stored: Iterator[Outcome]) -> Judged:
        """The judgement, with what the store answered for each entry."""
        answers = [next(stored) for _ in self.entries] or [drop.outcome for drop in self.drops]
        # New to one pixel is new, whatever the others have already.
        new = [answer for answer in answers if answer in WAITING]
        outcome = (new or answers)[0]
        warnings = self.entries[0].note.warnings if self.entries else ()
        if outcome is Outcome.HELD and self.entries[0].lacks:
            warnings = (*warnings, self.entries[0].lacks)
        return Judged(
            index=self.sent.index,
            event_id=self.sent.id,
            outcome=outcome,
            problem=self.problem,
            warnings=warnings,
        )


def _note_of(ready: Event, source: str, agent: str, warnings: tuple[str, ...]) -> Note:
    return Note(
        event_name=ready.event_name,
        event_id=ready.event_id,
        source=source,
        host=urls.host_of(ready.event_source_url),
        keys=ready.user_data.keys(),
        custom={
            name: value
            for name, value in ready.custom_data.items()
            if name in _SHOWN and isinstance(value, str | int | float)
        },
        agent=agent,
        warnings=warnings,
    )


def _side_of(source: Source) -> Side:
    return Side.BACKEND if source in (Source.BACKEND, Source.GRAPH) else Side.BROWSER


def join(held: Half, new: Half) -> Joined | None:
    """What the store merges a held copy with the next one by. See `merge`."""
    first, second = event.decode(held.body), event.decode(new.body)
    lacked, lacks = validate.missing(first), validate.missing(second)
    same_side = held.side == new.side
    if same_side and lacked and not lacks:  # a correction
        together = merge.union(second, Side(new.side), first, Side(held.side))
    else:
        together = merge.union(first, Side(held.side), second, Side(new.side))
    left = validate.missing(together)
    if left and not (lacked and lacks):  # one of them can go without the other
        together = merge.limited_as(second if lacked else first, together)
        left = validate.missing(together)
    if same_side and not merge.adds(together, first):
        return None
    warnings = [*held.note.warnings, *new.note.warnings]
    valued = [c for c in (first.custom_data, second.custom_data) if "value" in c]
    if valued and "value" not in together.custom_data and not any("currency" in c for c in valued):
        warnings.append("custom_data.value: left out, as no copy names its currency")
    return Joined(
        body=event.encode(together),
        note=_note_of(
            together,
            held.note.source,
            held.note.agent or new.note.agent,
            tuple(dict.fromkeys(warnings)),
        ),
        # Two copies that lacked something and together do not have waited for each other.
        complete=not left and (not same_side or bool(lacked and lacks)),
        lacks=_lacks(left),
    )


def _lacks(missing: Problem | None) -> str:
    return f"{missing}; left to another copy of the event" if missing else ""


def _dropped(
    sent: Sent | Misfit,
    pixels: Sequence[Pixel],
    outcome: Outcome,
    facts: Facts,
    problem: Problem | None = None,
) -> _Fate:
    note = None
    if outcome not in UNRECORDED:
        safe_id = "" if "@" in sent.id else sent.id
        safe_name = "" if "@" in sent.name else sent.name
        note = Note(event_name=safe_name, event_id=safe_id, source=facts.source)
    reason = str(problem) if problem else ""
    drops = (Drop(pixel=p.lane, outcome=outcome, note=note, reason=reason) for p in pixels)
    return _Fate(sent=sent, drops=tuple(drops), problem=problem)


def _by_id(pixels: Sequence[Pixel], named: str | int) -> tuple[Pixel, ...]:
    return tuple(pixel for pixel in pixels if pixel.id == str(named))


def _refuse_whole(fates: Sequence[_Fate]) -> None:
    """Raise for the first event that Graph would refuse the whole request for."""
    for fate in fates:
        if fate.problem:
            raise Refused(fate.judged(iter(())))


def _is_ours(sent: Sent, facts: Facts, site: Site) -> bool:
    if not site.hosts:
        return True
    named = [h for h in (urls.host_of(sent.url), facts.origin) if h]
    return all(any(h == own or h.endswith("." + own) for own in site.hosts) for h in named)
