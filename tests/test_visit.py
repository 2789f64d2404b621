"""Several tabs on one cookie jar: whatever order requests and answers come in, one `_fbp` stays."""

import random
from dataclasses import dataclass, field, replace
from functools import cache

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway import config, master
from gateway.config import Site
from gateway.hit import NO_EXTRAS, Consent, Facts, HandOver, Hit, Sent, Source
from gateway.master import Master, Seal
from gateway.visit import Visits

NOW = 1_764_000_000_000
DAY = 86_400_000
SEAL = Seal("_k3vq8", b"k" * 32)


@cache
def site(policy: str = "opt-out") -> Site:
    return config.load({"GATEWAY_CONSENT": policy}).sites[0]


def facts(cookies: dict[str, str], now_ms: int, page: str = "", **more: bool) -> Facts:
    return Facts(
        source=Source.PAGE,
        now_ms=now_ms,
        host="www.example.com",
        cookies=tuple(cookies.items()),
        referer=page,
        **more,  # type: ignore[arg-type]
    )


def seen(page: str, now_ms: int, name: str = "PageView") -> Sent:
    return Sent(
        index=0, name=name, id="1", time_ms=now_ms, url=page, user={}, data={}, extras=NO_EXTRAS
    )


def view(page: str, now_ms: int, name: str = "PageView", consent: Consent | None = None) -> Hit:
    return Hit(events=(seen(page, now_ms, name),), consent=consent)


def apply(jar: dict[str, str], lines: tuple[str, ...]) -> None:
    for line in lines:
        name, _, value = line.partition(";")[0].partition("=")
        jar[name] = value
        if "Max-Age=0" in line:
            del jar[name]


@dataclass
class Browser:
    """One cookie jar, several tabs, and answers that arrive when the test says."""

    visits: Visits
    pages: list[str]
    jar: dict[str, str] = field(default_factory=dict)
    policy: str = "opt-out"
    now_ms: int = NOW
    under_way: list[tuple[int, str, tuple[str, ...]]] = field(default_factory=list)
    ready: set[int] = field(default_factory=set)
    asked: set[int] = field(default_factory=set)

    def ask_script(self, tab: int) -> None:
        self.now_ms += 7
        known = self.visits.meet(facts(self.jar, self.now_ms, self.pages[tab]), site(self.policy))
        self.under_way.append((tab, "script", self.visits.greeting(known)))
        self.asked.add(tab)

    def hit(self, tab: int, name: str = "PageView", consent: Consent | None = None) -> str:
        """Send one; the `_fbp` Meta is told."""
        self.now_ms += 7
        hit = view(self.pages[tab], self.now_ms, name, consent)
        known = self.visits.meet(facts(self.jar, self.now_ms), site(self.policy), hit)
        self.under_way.append((tab, "hit", self.visits.answer(known)))
        return known.ids.fbp

    def deliver(self, which: int) -> None:
        tab, kind, lines = self.under_way.pop(which % len(self.under_way))
        apply(self.jar, lines)
        if kind == "script":
            self.ready.add(tab)

    @property
    def scripts_are_in(self) -> bool:
        return len(self.ready) == len(self.pages)


def mint(created_ms: int, drawn: int) -> str:
    return f"fb.1.{created_ms}.{master.mint(created_ms, lambda _below: drawn, SEAL.key)}"


def sealed(fbp: str) -> str:
    kept = Master(fbp=fbp, fbc=None, first_seen_ms=NOW - DAY, landing=None)
    return master.seal(kept, SEAL.key)


OURS, ELSE, THEIRS = mint(NOW - DAY, 1), mint(NOW - DAY, 2), f"fb.1.{NOW - DAY}.99"
BEFORE = {
    "nothing": {},
    "theirs alone": {"_fbp": THEIRS},
    "ours without a master": {"_fbp": OURS},
    "a master alone": {SEAL.name: sealed(OURS)},
    "both": {"_fbp": OURS, SEAL.name: sealed(OURS)},
    "replaced by somebody": {"_fbp": THEIRS, SEAL.name: sealed(OURS)},
    "two tabs' of ours": {"_fbp": OURS, SEAL.name: sealed(ELSE)},
    "rubbish": {"_fbp": "x", SEAL.name: "y"},
}
TABS = st.lists(
    st.sampled_from(
        [
            "https://www.example.com/",
            "https://www.example.com/a?utm_source=ig&fbclid=A",
            "https://www.example.com/b?utm_source=tv",
            "https://www.example.com/c?fbclid=B",
        ]
    ),
    min_size=1,
    max_size=6,
)
STEPS = st.lists(
    st.tuples(st.sampled_from(["ask", "hit", "lead", "deliver"]), st.integers(0, 50)), max_size=60
)


@pytest.mark.parametrize("before", BEFORE.values(), ids=BEFORE.keys())
@settings(deadline=None)  # the first one loads the Public Suffix List
@given(pages=TABS, steps=STEPS, seed=st.integers(0, 1000))
@example(
    # A hit of the first tab is under way while the second tab's script comes, and is answered last.
    pages=["https://www.example.com/", "https://www.example.com/"],
    steps=[("ask", 0), ("ask", 1), ("deliver", 0), ("hit", 0), ("deliver", 0)],
    seed=1,
)
def test_after_the_last_script_answer_every_hit_carries_one_fbp(
    before: dict[str, str], pages: list[str], steps: list[tuple[str, int]], seed: int
) -> None:
    browser = Browser(Visits(SEAL, random.Random(seed).randrange), pages, dict(before))
    settled = ""
    # What hypothesis chose, then whatever is left to do, so that every tab's script comes.
    rest = [("ask", n) for n in range(len(pages))] + [("deliver", n) for n in range(100)]
    for step, number in [*steps, *rest]:
        tab = number % len(pages)
        if step == "ask" and tab not in browser.asked:
            browser.ask_script(tab)
        elif step in {"hit", "lead"} and tab in browser.ready:
            fbp = browser.hit(tab, "PageView" if step == "hit" else "Lead")
            assert fbp == (settled or fbp)
        elif step == "deliver" and browser.under_way:
            browser.deliver(number)
            if browser.scripts_are_in and not settled:
                settled = browser.jar["_fbp"]
    for tab in range(len(pages)):
        assert browser.hit(tab) == settled
        browser.deliver(0)
    assert browser.jar["_fbp"] == settled


@settings(deadline=None)
@given(order=st.permutations(range(6)), seed=st.integers(0, 1000))
def test_hits_that_are_first_at_once_settle_on_one_fbp(order: list[int], seed: int) -> None:
    # Under `required` the script brings no cookie, so a grant's first hits do.
    pages = [f"https://www.example.com/{n}?fbclid=C{n}" for n in range(6)]
    browser = Browser(Visits(SEAL, random.Random(seed).randrange), pages, policy="required")
    for tab in range(6):
        browser.hit(tab, consent=Consent.GRANTED)
    waiting = list(range(6))
    for tab in order:
        browser.deliver(waiting.index(tab))
        waiting.remove(tab)

    settled = browser.jar["_fbp"]
    for tab in (*range(6), *range(6)):
        assert browser.hit(tab, "Lead", Consent.GRANTED) == settled
        browser.deliver(0)
    assert browser.jar["_fbp"] == settled


def test_tabs_of_different_clicks_come_to_rest() -> None:
    pages = [f"https://www.example.com/?fbclid=C{n}&utm_source={n}" for n in range(3)]
    browser = Browser(Visits(SEAL, random.Random(1).randrange), pages)
    for tab in range(3):
        browser.ask_script(tab)
    for _ in range(3):
        browser.deliver(0)
    for tab in range(3):
        browser.hit(tab)
        browser.deliver(0)
    rested = dict(browser.jar)

    for tab in (0, 1, 2, 2, 1, 0):
        browser.hit(tab, "Lead")
        assert browser.under_way[0][2] == ()
        browser.deliver(0)
    assert browser.jar == rested


# --- which answers carry cookies -------------------------------------------------------------


def visits() -> Visits:
    return Visits(SEAL, random.Random(1).randrange)


def names(lines: tuple[str, ...]) -> list[str]:
    return [line.partition("=")[0] for line in lines]


def test_a_script_answer_refreshes_what_is_there_and_a_hits_answer_does_not() -> None:
    known = visits()
    page = "https://www.example.com/?fbclid=A"
    first = known.meet(facts({}, NOW, page), site())
    jar: dict[str, str] = {}
    apply(jar, known.greeting(first))

    again = known.greeting(known.meet(facts(jar, NOW + 1, page), site()))
    hit = view(page, NOW + 2)
    landed = known.answer(known.meet(facts(jar, NOW + 2), site(), hit))
    apply(jar, landed)
    later = known.answer(known.meet(facts(jar, NOW + 3), site(), view(page, NOW, "Lead")))

    assert names(again) == ["_fbp", "_fbc", SEAL.name]
    assert names(landed) == [SEAL.name]  # the landing
    assert later == ()


@pytest.mark.parametrize("kind", ["prefetch", "gpc"])
def test_nothing_is_set_ahead_of_a_visit_or_against_an_objection(kind: str) -> None:
    known = visits()
    met = known.meet(facts({}, NOW, "https://www.example.com/", **{kind: True}), site())

    assert known.greeting(met) == ()
    assert known.answer(met) == ()


def test_an_objection_deletes_all_three() -> None:
    known = visits()
    jar = {"_fbp": OURS, SEAL.name: sealed(OURS)}

    by_signal = known.greeting(known.meet(facts(jar, NOW, gpc=True), site()))
    denial = Hit(events=(), consent=Consent.DENIED)
    by_word = known.answer(known.meet(facts(jar, NOW), site("required"), denial))

    for lines in (by_signal, by_word):
        assert names(lines) == ["_fbp", "_fbc", SEAL.name]
        assert all("Max-Age=0" in line for line in lines)


def test_under_required_the_script_refreshes_who_agreed_once_and_nobody_else() -> None:
    known = visits()
    required = site("required")
    jar: dict[str, str] = {}
    page = "https://www.example.com/"
    assert known.greeting(known.meet(facts(jar, NOW, page), required)) == ()
    # A master of the time before consent was required is no grant.
    old = {"_fbp": OURS, SEAL.name: sealed(OURS)}
    assert known.greeting(known.meet(facts(old, NOW, page), required)) == ()

    hit = view(page, NOW, consent=Consent.GRANTED)
    apply(jar, known.answer(known.meet(facts(jar, NOW), required, hit)))

    assert names(known.greeting(known.meet(facts(jar, NOW + 1, page), required))) == [
        "_fbp",
        SEAL.name,
    ]


# --- handed over from another host of the site ------------------------------------------------

SHARING = replace(site(), cross_domain=("shop.example.net",))
GIVEN = f"fb.1.{NOW - DAY}.77"


def arrival(referrer: str, age_ms: int = 0) -> Hit:
    sent = replace(seen("https://www.example.com/", NOW), referrer=referrer)
    return Hit(events=(sent,), handed=HandOver(made_ms=NOW - age_ms, fbp=GIVEN, fbc=""))


@pytest.mark.parametrize(
    ("referrer", "age_ms", "taken"),
    [
        ("https://shop.example.net/cart", 0, True),
        ("https://www.shop.example.net/", 120_000, True),
        ("https://shop.example.net/", 120_001, False),
        ("https://shop.example.net/", -120_001, False),
        ("https://notshop.example.net/", 0, False),
        ("https://example.net/", 0, False),
        ("https://evil.example/?https://shop.example.net/", 0, False),
        ("", 0, False),
    ],
)
def test_ids_are_taken_from_a_link_just_followed_from_a_host_of_the_site(
    referrer: str, age_ms: int, *, taken: bool
) -> None:
    known = visits()
    for jar in ({}, BEFORE["rubbish"]):
        met = known.meet(facts(jar, NOW), SHARING, arrival(referrer, age_ms))
        assert (met.ids.fbp == GIVEN) is taken


def test_a_site_without_such_hosts_takes_none() -> None:
    met = visits().meet(facts({}, NOW), site(), arrival("https://shop.example.net/"))

    assert met.ids.fbp != GIVEN


def test_what_the_script_made_on_arrival_gives_way_and_what_was_there_does_not() -> None:
    known = visits()
    from_shop = arrival("https://shop.example.net/", age_ms=500)
    # The hit tells the time of the click, so one that came late makes the click look later than it was.
    for made_ms, expected in ((NOW - 100, GIVEN), (NOW - 3_000, GIVEN), (NOW - 10_501, None)):
        jar: dict[str, str] = {}
        apply(jar, known.greeting(known.meet(facts({}, made_ms), SHARING)))
        own = jar["_fbp"]

        met = known.meet(facts(jar, NOW), SHARING, from_shop)
        apply(jar, known.answer(met))

        assert met.ids.fbp == jar["_fbp"] == (expected or own)
        assert known.meet(facts(jar, NOW + 1), SHARING).ids.fbp == jar["_fbp"]


# --- Meta's own mirror -------------------------------------------------------------------------


def mirrored(*told: tuple[str, str]) -> Hit:
    return replace(view("https://www.example.com/", NOW), silent=True, told=told)


@pytest.mark.parametrize(
    ("jar", "expected"),
    [({}, GIVEN), (BEFORE["both"], OURS), (BEFORE["a master alone"], OURS)],
    ids=["no cookies", "cookies", "a master"],
)
def test_a_body_tells_an_fbp_only_of_a_browser_that_sent_none(
    jar: dict[str, str], expected: str
) -> None:
    met = visits().meet(facts(jar, NOW), site(), mirrored(("_fbp", GIVEN)))

    assert met.ids.fbp == expected


def test_what_a_body_told_is_set_because_the_browser_did_not_send_it() -> None:
    known = visits()
    click = f"fb.1.{NOW}.A"
    met = known.meet(facts({"_fbp": OURS}, NOW), site(), mirrored(("_fbp", GIVEN), ("_fbc", click)))

    assert (met.ids.fbp, met.ids.fbc) == (OURS, click)
    assert names(known.answer(met)) == ["_fbc", SEAL.name]


def test_under_required_metas_mirror_speaks_for_who_agreed_before_alone() -> None:
    known = visits()
    agreed = Master(fbp=OURS, fbc=None, first_seen_ms=NOW, landing=None, granted=True)
    jar = {SEAL.name: master.seal(agreed, SEAL.key)}

    assert known.meet(facts(jar, NOW), site("required"), mirrored()).said is Consent.GRANTED
    for other in ({}, BEFORE["both"]):
        assert known.meet(facts(other, NOW), site("required"), mirrored()).said is None
    # The page's own hits say it each time.
    assert known.meet(facts(jar, NOW), site("required"), view("", NOW)).said is None
