"""The browser's ids. Every bug of Meta's own builders has a row here that shows we do not have it."""

import re
from urllib.parse import urlencode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway import cookies, master, urls
from gateway.cookies import BrowserIds, Handed, Jar, Page, Scope
from gateway.master import Landing, Master, Seal

NOW = 1_764_000_000_000
DAY = 86_400_000
THEN = NOW - DAY
SCOPE = Scope("example.com", 1)
SEAL = Seal("_k3vq8", b"k" * 32)
EMPTY = Jar()


def draw(below: int) -> int:
    assert below >= 2**31  # fewer, and two visitors of one millisecond meet
    return 1_234_567_890


def minted(created_ms: int = NOW, index: int = 1) -> str:
    """The `_fbp` this install makes at a time."""
    return f"fb.{index}.{created_ms}.{master.mint(created_ms, draw, SEAL.key)}"


def read(*pairs: tuple[str, str], scope: Scope = SCOPE, now_ms: int = NOW) -> Jar:
    return cookies.read(pairs, scope, SEAL, now_ms)


def resolve(
    jar: Jar = EMPTY,
    *pages: str | Page,
    referrers: tuple[str, ...] = (),
    scope: Scope = SCOPE,
    now_ms: int = NOW,
    handed: Handed | None = None,
) -> BrowserIds:
    seen = [Page(url=p, viewed_ms=now_ms) if isinstance(p, str) else p for p in pages]
    seen += [Page(url="", referrer=r) for r in referrers]
    return cookies.resolve(jar, seen, scope, SEAL, now_ms, draw, handed=handed)


def fbp_payload(value: str) -> str | None:
    found = read(("_fbp", value)).fbps
    return found[0].payload if found else None


def fbc_payload(value: str) -> str | None:
    found = read(("_fbc", value)).fbcs
    return found[0].payload if found else None


# --- the format ------------------------------------------------------------------------------

# Appendices of Meta's builders 1.3.x: Python, Node, client; and the six older codes.
APPENDICES = ["AQIAAQMC", "AQICAQMC", "AQIDAQMC", "AQQCAQMC", "AQYCAQMB"]
APPENDICES += ["AQ", "Ag", "Aw", "BA", "BQ", "Bg"]


@pytest.mark.parametrize("appendix", APPENDICES)
@pytest.mark.parametrize("times", [1, 2, 3])
def test_an_appendix_is_accepted_repeated_and_kept(appendix: str, times: int) -> None:
    # The client builder 1.3.1 appends once more for each domain level a browser rejects, and a
    # reader that knows four parts only mints a new `_fbp` on every request.
    tail = f".{appendix}" * times
    fbp, fbc = f"fb.1.{THEN}.123{tail}", f"fb.1.{THEN}.IwAR0{tail}"

    jar = read(("_fbp", fbp), ("_fbc", fbc))

    assert [i.payload for i in (*jar.fbps, *jar.fbcs)] == ["123", "IwAR0"]
    ids = resolve(jar, "https://example.com/?fbclid=IwAR0")
    assert (ids.fbp, ids.fbc) == (fbp, fbc)


@pytest.mark.parametrize("appendix", APPENDICES)
def test_no_appendix_is_forged(appendix: str) -> None:
    ids = resolve(EMPTY, "https://example.com/?fbclid=IwAR0")

    assert ids.fbp == minted()
    assert ids.fbc == f"fb.1.{NOW}.IwAR0"
    assert not ids.fbp.endswith(appendix)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(f"fb.1.{THEN}.1", id="one digit"),
        pytest.param(f"fb.1.{THEN}.{'9' * 20}", id="20 digits"),
        pytest.param(f"fb.0.{THEN}.1", id="index of an address"),
        pytest.param(f"fb.9.{THEN}.1", id="index 9"),
        pytest.param(f"fb.1.{NOW + DAY}.1", id="a browser a day ahead"),
        pytest.param("fb.1.1262304000000.1", id="2010"),
        pytest.param(f"fb%2E1%2E{THEN}%2E1", id="percent-encoded"),
        pytest.param(f'"fb.1.{THEN}.1"', id="quoted"),
    ],
)
def test_a_well_formed_fbp_is_kept(value: str) -> None:
    assert fbp_payload(value) is not None
    assert cookies.fbp_of(value, NOW)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("", id="empty"),
        pytest.param("fb", id="prefix alone"),
        pytest.param(f"fb.1.{THEN}", id="three parts"),
        pytest.param(f"fb.1.{THEN}.", id="empty payload"),
        pytest.param(f"fb.1.{THEN}..AQICAQMC", id="empty payload with an appendix"),
        pytest.param(f"fb.1.{THEN}.AQ", id="an appendix for a payload"),
        pytest.param(f"xb.1.{THEN}.1", id="wrong prefix"),
        pytest.param(f"FB.1.{THEN}.1", id="upper-case prefix"),
        pytest.param(f"fb..{THEN}.1", id="no index"),
        pytest.param(f"fb.12.{THEN}.1", id="two-digit index"),
        pytest.param(f"fb.x.{THEN}.1", id="index is no digit"),
        pytest.param(f"fb.².{THEN}.1", id="index is a superscript"),
        pytest.param(f"fb.1.{THEN // 1000}.1", id="seconds"),
        pytest.param(f"fb.1.{THEN}000.1", id="microseconds"),
        pytest.param(f"fb.1.{NOW + DAY + 1}.1", id="future"),
        pytest.param("fb.1.1262303999999.1", id="before 2010"),
        pytest.param("fb.1.0000000000000.1", id="time zero"),
        pytest.param(f"fb.1.{THEN}.12a", id="letters in an fbp"),
        pytest.param(f"fb.1.{THEN}.{'9' * 21}", id="21 digits"),
        pytest.param(f"fb.1.{THEN}.-1", id="negative"),
        pytest.param(f"fb.1.{THEN}.1.ZZ", id="unknown two-letter appendix"),
        pytest.param(f"fb.1.{THEN}.1.ABCDEFGH", id="eight letters of no format version"),
        pytest.param(f"fb.1.{THEN}.1.AQ.1", id="something after the appendix"),
        pytest.param(f"fb.1.{THEN}.%D9%A1%D9%A2", id="digits of another script"),
        pytest.param(f"fb.1.{THEN}.1\r\nSet-Cookie: a=b", id="CR LF"),
        pytest.param(f"fb.1.{THEN}.1%0d%0aSet-Cookie: a=b", id="encoded CR LF"),
        pytest.param(f"fb.1.{THEN}.1%0a", id="encoded trailing LF"),
        pytest.param(f"fb.1.{THEN}.1.AQICAQMC%0a", id="encoded trailing LF after an appendix"),
        pytest.param(f"fb.1.{THEN}.1; Domain=evil.example", id="semicolon"),
        pytest.param(f"fb.1.{THEN}.1%3B", id="encoded semicolon"),
        pytest.param(f"fb.1.{THEN}.1\x00", id="NUL"),
        pytest.param("€" * 50, id="unicode"),
    ],
)
def test_a_malformed_fbp_is_no_fbp_and_a_new_one_is_minted(value: str) -> None:
    assert fbp_payload(value) is None
    assert not cookies.fbp_of(value, NOW)
    assert resolve(read(("_fbp", value))).fbp == minted()


@pytest.mark.parametrize(
    ("payload", "bare"),
    [
        pytest.param("IwAR0abc-DEF_xyz", "IwAR0abc-DEF_xyz", id="an fbclid"),
        pytest.param("IwAR0_aem_AbC-1", "IwAR0_aem_AbC-1", id="with a further parameter"),
        pytest.param("a.b.c", "a.b.c", id="with dots"),
        pytest.param("a.b.AQYCAQMB", "a.b", id="with dots and an appendix"),
        pytest.param("abcAQYCAQMB", "abcAQYCAQMB", id="ends like an appendix without a dot"),
        pytest.param("abc~def", "abc~def", id="tilde"),
        pytest.param("x" * 500, "x" * 500, id="500 characters"),
        pytest.param("Iw%41R", "IwAR", id="percent-encoded by fbevents.js"),
    ],
)
def test_a_well_formed_fbc(payload: str, bare: str) -> None:
    assert fbc_payload(f"fb.1.{THEN}.{payload}") == bare
    assert cookies.fbc_of(f"fb.1.{THEN}.{payload}", NOW)


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param("", id="empty"),
        pytest.param(".AQICAQMC", id="empty, as Meta's Python builder makes it"),
        pytest.param(".XX", id="empty with an unknown appendix"),
        pytest.param(".", id="a dot"),
        pytest.param("x" * 501, id="501 characters"),
        pytest.param("a b", id="space"),
        pytest.param("a%20b", id="encoded space"),
        pytest.param("a%2525", id="encoded twice"),
        pytest.param("é", id="a letter beyond ASCII"),
        pytest.param("a,b", id="two values joined, as Meta's Node builder does"),
        pytest.param("a\r\nX-Injected: 1", id="CR LF"),
        pytest.param("a%0d%0aX-Injected: 1", id="encoded CR LF"),
        pytest.param("a; HttpOnly", id="semicolon"),
        pytest.param('a"b', id="quote"),
    ],
)
def test_a_malformed_fbc_is_ignored(payload: str) -> None:
    value = f"fb.1.{THEN}.{payload}"

    assert fbc_payload(value) is None
    assert not cookies.fbc_of(value, NOW)
    assert resolve(read(("_fbc", value)), "https://example.com/").fbc is None


# --- several cookies of one name -------------------------------------------------------------


@pytest.mark.parametrize("ours_first", [True, False])
def test_of_two_fbp_the_one_on_our_level_counts(*, ours_first: bool) -> None:
    ours, other = f"fb.1.{THEN}.1", f"fb.2.{THEN}.2"
    values = [ours, other] if ours_first else [other, ours]

    assert resolve(read(*(("_fbp", v) for v in values))).fbp == ours


def test_an_fbp_of_another_level_is_kept_when_it_is_the_only_one() -> None:
    assert resolve(read(("_fbp", f"fb.2.{THEN}.2"))).fbp == f"fb.2.{THEN}.2"


def test_an_invalid_fbp_does_not_hide_a_valid_one() -> None:
    jar = read(("_fbp", "rubbish"), ("_fbp", f"fb.1.{THEN}.7"))

    assert resolve(jar).fbp == f"fb.1.{THEN}.7"


def test_an_old_fbp_is_kept() -> None:
    old = f"fb.1.{NOW - 700 * DAY}.7"

    assert resolve(read(("_fbp", old))).fbp == old


@pytest.mark.parametrize("newest_first", [True, False])
def test_of_several_fbc_the_newest_click_counts(*, newest_first: bool) -> None:
    clicks = [f"fb.1.{NOW - n * DAY}.click{n}" for n in (1, 5, 30)]
    values = clicks if newest_first else clicks[::-1]

    assert resolve(read(*(("_fbc", v) for v in values))).fbc == clicks[0]


@pytest.mark.parametrize(
    ("age_ms", "kept"),
    [(90 * DAY - 1, True), (90 * DAY, False), (91 * DAY, False)],
)
def test_a_click_counts_for_90_days(age_ms: int, *, kept: bool) -> None:
    value = f"fb.1.{NOW - age_ms}.old"

    assert resolve(read(("_fbc", value))).fbc == (value if kept else None)
    assert (cookies.fbc_of(value, NOW) is not None) is kept


# --- clicks ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "click",
    [
        pytest.param("IwAR0abc", id="plain"),
        pytest.param("IwAR0_aem_Xyz", id="with underscores"),
        pytest.param("a.b.c", id="with dots, which breaks Meta's segment count"),
        pytest.param("abc.AQ", id="ends like a short appendix"),
        pytest.param("abc.AQICAQMC", id="ends like an appendix"),
        pytest.param("x" * 500, id="500 characters"),
    ],
)
def test_the_same_click_keeps_its_time_over_ten_visits_and_another_is_stamped(click: str) -> None:
    page = f"https://example.com/?fbclid={click}"
    first = resolve(EMPTY, page)
    assert first.fbc is not None
    assert first.fbc.startswith(f"fb.1.{NOW}.")
    held = first
    for visit in range(1, 11):
        assert held.fbc is not None
        later = NOW + visit * 1_000
        jar = read(("_fbp", held.fbp), ("_fbc", held.fbc), now_ms=later)
        held = resolve(jar, page, now_ms=later)
        assert (held.fbp, held.fbc) == (first.fbp, first.fbc)
    last = NOW + DAY

    another = resolve(read(("_fbc", first.fbc)), "https://example.com/?fbclid=Other", now_ms=last)

    assert another.fbc == f"fb.1.{last}.Other"


def test_a_click_with_a_builders_further_parameter_is_the_same_click() -> None:
    held = f"fb.1.{THEN}.IwAR0_aem_Xyz"

    assert resolve(read(("_fbc", held)), "https://example.com/?fbclid=IwAR0").fbc == held


def test_a_click_that_only_begins_alike_is_another() -> None:
    held = f"fb.1.{THEN}.IwAR0abc"

    ids = resolve(read(("_fbc", held)), "https://example.com/?fbclid=IwAR0")

    assert ids.fbc == f"fb.1.{NOW}.IwAR0"


def test_no_click_in_the_url_leaves_the_cookie_and_its_time() -> None:
    held = f"fb.1.{THEN}.IwAR0"

    assert resolve(read(("_fbc", held)), "https://example.com/?utm_source=x").fbc == held


def test_a_click_differs_by_its_case() -> None:
    held = f"fb.1.{THEN}.iwar0"

    assert resolve(read(("_fbc", held)), "https://example.com/?fbclid=IwAR0").fbc == (
        f"fb.1.{NOW}.IwAR0"
    )


@pytest.mark.parametrize(
    ("url", "click"),
    [
        pytest.param("https://x.example/?fbclid=IwAR0AbC", "IwAR0AbC", id="case kept"),
        pytest.param("https://x.example/?fbclid=&fbclid=b", "b", id="first non-empty"),
        pytest.param(
            "https://x.example/?fbclid=a&fbclid=b", "a", id="first of several, not joined"
        ),
        pytest.param("https://x.example/?fbclid=a%2Db", "a-b", id="decoded once"),
        pytest.param("https://x.example/?fbclid=a%252Db", None, id="and only once"),
        pytest.param("https://x.example/?fbclid=", None, id="empty"),
        pytest.param("https://x.example/?fbclid", None, id="without a value"),
        pytest.param("https://x.example/#fbclid=Frag", "Frag", id="fragment"),
        pytest.param("https://x.example/#/route?fbclid=Frag", "Frag", id="query of a fragment"),
        pytest.param("https://x.example/?fbclid=Q#fbclid=F", "Q", id="query before fragment"),
        pytest.param("https://x.example/?a=1&fbclid=Q&b=2", "Q", id="among others"),
        pytest.param("https://x.example/?xfbclid=Q", None, id="another parameter"),
        pytest.param("https://x.example/?FBCLID=Q", None, id="another case of the name"),
        pytest.param("https://x.example/?u=https%3A%2F%2Fy%2F%3Ffbclid%3DQ", None, id="nested"),
        pytest.param(f"https://x.example/?fbclid={'x' * 500}", "x" * 500, id="500 characters"),
        pytest.param(f"https://x.example/?fbclid={'x' * 501}", None, id="501 characters"),
        pytest.param("https://x.example/?fbclid=a%0D%0ASet-Cookie:x", None, id="CR LF"),
        pytest.param("https://x.example/?fbclid=a%0A", None, id="trailing LF"),
        pytest.param("https://x.example/?fbclid=a;b", None, id="semicolon"),
        pytest.param("https://x.example/?fbclid=%00", None, id="NUL"),
        pytest.param(
            "https://x.example/?fbclid=%C3%A9&fbclid=ok", "ok", id="unusable, then usable"
        ),
        pytest.param("https://x.example/?fbclid=abc.AQICAQMC", "abc", id="a URL of Meta's SDK"),
        pytest.param("https://x.example/?fbclid=a.b", "a.b", id="dots"),
        pytest.param("https://x.example/?fbclid=.", None, id="a dot"),
        pytest.param("http://[broken?fbclid=a", None, id="no URL"),
        pytest.param("https://x.example/?" + "a=1&" * 3_000 + "fbclid=a", None, id="a flood"),
        pytest.param("", None, id="nothing"),
    ],
)
def test_fbclid(url: str, click: str | None) -> None:
    assert urls.fbclid(url) == click


def test_an_empty_fbclid_makes_no_fbc() -> None:
    assert resolve(EMPTY, "https://example.com/?fbclid=").fbc is None


def test_the_first_page_with_a_click_counts_and_pages_go_before_referrers() -> None:
    pages = (
        "https://example.com/",
        "https://example.com/?fbclid=A",
        "https://example.com/?fbclid=B",
    )

    assert resolve(EMPTY, *pages, referrers=("https://example.com/?fbclid=R",)).fbc == (
        f"fb.1.{NOW}.A"
    )


@pytest.mark.parametrize(
    ("referrer", "counts"),
    [
        pytest.param("https://example.com/?fbclid=R", True, id="this site"),
        pytest.param("https://www.example.com/?fbclid=R", True, id="a host of this site"),
        pytest.param("https://WWW.EXAMPLE.COM/?fbclid=R", True, id="upper case"),
        pytest.param("https://www.example.com:8443/?fbclid=R", True, id="a port"),
        pytest.param("https://other.example/?fbclid=R", False, id="another site"),
        pytest.param("https://notexample.com/?fbclid=R", False, id="a name that ends alike"),
        pytest.param("https://example.com.evil.example/?fbclid=R", False, id="begins alike"),
        pytest.param("https://example.com@evil.example/?fbclid=R", False, id="credentials"),
        pytest.param("https://l.facebook.com/l.php?fbclid=R", False, id="Facebook itself"),
        pytest.param("http://[broken?fbclid=R", False, id="a malformed one must not raise"),
        pytest.param("", False, id="none"),
    ],
)
def test_a_referrers_click_counts_only_from_this_site(referrer: str, *, counts: bool) -> None:
    ids = resolve(EMPTY, "https://example.com/", referrers=(referrer,))

    assert ids.fbc == (f"fb.1.{NOW}.R" if counts else None)


# --- where a cookie lives --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "scope"),
    [
        ("example.com", Scope("example.com", 1)),
        ("www.example.com", Scope("example.com", 1)),
        ("a.b.c.example.com", Scope("example.com", 1)),
        # Meta's builders drop the first label: example.co.uk becomes co.uk, which browsers refuse.
        ("example.co.uk", Scope("example.co.uk", 2)),
        ("shop.example.co.uk", Scope("example.co.uk", 2)),
        ("foo.vercel.app", Scope("foo.vercel.app", 2)),
        ("www.foo.vercel.app", Scope("foo.vercel.app", 2)),
        ("user.github.io", Scope("user.github.io", 2)),
        ("vercel.app", Scope(None, 1)),
        ("co.uk", Scope(None, 1)),
        ("com", Scope(None, 0)),
        ("127.0.0.1", Scope(None, 0)),
        ("10.20.30.40", Scope(None, 0)),
        ("::1", Scope(None, 0)),
        ("[::1]", Scope(None, 0)),
        ("2001:db8::1", Scope(None, 0)),
        ("localhost", Scope(None, 0)),
        ("xn--bcher-kva.example", Scope("xn--bcher-kva.example", 1)),
        ("www.xn--bcher-kva.de", Scope("xn--bcher-kva.de", 1)),
        ("www.example.com.", Scope("example.com", 1)),
        ("WWW.Example.COM", Scope("example.com", 1)),
        ("a.unknown-tld", Scope("a.unknown-tld", 1)),
        ("", Scope(None, 0)),
    ],
)
def test_scope_of(host: str, scope: Scope) -> None:
    assert cookies.scope_of(host) == scope


@pytest.mark.parametrize(
    "host",
    [
        "example.com; HttpOnly",
        "example.com\r\nX-Injected: 1",
        "evil;.example.com",
        "a b.example.com",
        "a\x00.com",
        "example.com:8080",
        "例え.テスト",
        "example.com,other.com",
        "..",
        "example..com",
    ],
)
def test_a_host_that_is_none_gets_no_domain(host: str) -> None:
    assert cookies.scope_of(host).domain is None


@pytest.mark.parametrize(
    ("host", "configured", "scope"),
    [
        ("www.example.com", "www.example.com", Scope("www.example.com", 2)),
        ("a.www.example.com", "www.example.com", Scope("www.example.com", 2)),
        ("WWW.EXAMPLE.COM.", "example.com", Scope("example.com", 1)),
        ("foo.vercel.app", "foo.vercel.app", Scope("foo.vercel.app", 2)),
        ("www.other.com", "example.com", Scope("other.com", 1)),
        ("notexample.com", "example.com", Scope("notexample.com", 1)),
        ("127.0.0.1", "example.com", Scope(None, 0)),
        ("127.0.0.1", "127.0.0.1", Scope(None, 0)),
        ("localhost", "localhost", Scope(None, 0)),
    ],
)
def test_a_configured_domain_counts_for_hosts_within_it(
    host: str, configured: str, scope: Scope
) -> None:
    assert cookies.scope_of(host, configured) == scope


def test_one_hosts_scope_is_not_the_next_ones() -> None:
    # A reused instance of Meta's Python builder keeps the first host's domain.
    assert cookies.scope_of("www.example.com").domain == "example.com"
    assert cookies.scope_of("www.other.org").domain == "other.org"


@pytest.mark.parametrize(
    ("host", "index"),
    [("example.com", 1), ("www.example.com", 1), ("shop.example.co.uk", 2), ("127.0.0.1", 0)],
)
def test_new_ids_carry_the_level_of_their_domain(host: str, index: int) -> None:
    ids = resolve(EMPTY, f"https://{host}/?fbclid=A", scope=cookies.scope_of(host))

    assert ids.fbp == minted(index=index)
    assert ids.fbc == f"fb.{index}.{NOW}.A"


# --- the master ------------------------------------------------------------------------------

OURS, OTHER_OURS, THEIRS = minted(THEN), minted(THEN + 1), f"fb.1.{NOW}.555"
CLICK = f"fb.1.{THEN}.A"


def mastered(**said: object) -> tuple[str, str]:
    """A master cookie of this install."""
    kept = {"fbp": OURS, "fbc": None, "first_seen_ms": THEN, "landing": None, **said}
    return SEAL.name, master.seal(Master(**kept), SEAL.key)  # type: ignore[arg-type]


def forged() -> tuple[str, str]:
    name, value = mastered()
    return name, ("A" if value[0] != "A" else "B") + value[1:]


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        pytest.param([mastered()], OURS, id="removed: restored"),
        pytest.param([mastered(), ("_fbp", THEIRS)], OURS, id="replaced: the master's"),
        pytest.param([mastered(), ("_fbp", f"fb.2.{NOW}.5")], OURS, id="a second, wrong level"),
        pytest.param([mastered(), ("_fbp", "rubbish")], OURS, id="unreadable: the master's"),
        pytest.param([mastered(), ("_fbp", THEIRS), ("_fbp", OURS)], OURS, id="both: the master's"),
        pytest.param([mastered(), ("_fbp", f"{OURS}.AQ")], f"{OURS}.AQ", id="with an appendix"),
        pytest.param([mastered(), ("_fbp", OTHER_OURS)], OTHER_OURS, id="another tab's of ours"),
        pytest.param([forged(), ("_fbp", THEIRS)], THEIRS, id="forged: the readable one"),
        pytest.param([forged()], minted(), id="forged and alone: as if absent"),
        pytest.param([("_fbp", THEIRS)], THEIRS, id="before there was a master"),
        pytest.param([mastered(fbp=THEIRS), ("_fbp", f"fb.1.{NOW}.6")], THEIRS, id="adopted once"),
        pytest.param([(SEAL.name, ""), mastered()], OURS, id="two masters, one valid"),
    ],
)
def test_order_of_truth_of_fbp(sent: list[tuple[str, str]], expected: str) -> None:
    ids = resolve(read(*sent), "https://example.com/")

    assert ids.fbp == expected
    assert ids.master.fbp == expected.removesuffix(".AQ")


@pytest.mark.parametrize(
    ("readable", "known", "expected"),
    [
        pytest.param(None, CLICK, CLICK, id="removed: restored"),
        pytest.param(f"fb.1.{NOW}.B", CLICK, f"fb.1.{NOW}.B", id="a newer readable one"),
        pytest.param(f"fb.1.{THEN - 1}.B", CLICK, CLICK, id="an older readable one"),
        pytest.param(f"fb.1.{NOW}.A", CLICK, CLICK, id="the same click, stamped again"),
        pytest.param(f"{CLICK}.AQ", CLICK, f"{CLICK}.AQ", id="with an appendix"),
        pytest.param(f"fb.1.{NOW}.B", None, f"fb.1.{NOW}.B", id="the master knows none"),
        pytest.param(None, f"fb.1.{NOW - 91 * DAY}.A", None, id="after 90 days"),
    ],
)
def test_order_of_truth_of_fbc(readable: str | None, known: str | None, expected: str) -> None:
    sent = [mastered(fbc=known), *([("_fbc", readable)] if readable else [])]

    ids = resolve(read(*sent), "https://example.com/")

    assert ids.fbc == expected
    assert ids.master.fbc == expected


def test_a_click_of_an_old_tab_is_not_new_again() -> None:
    first = resolve(EMPTY, "https://example.com/?fbclid=A")
    held = resolve(jar_of(first), "https://example.com/?fbclid=B", now_ms=NOW + 1)
    assert held.fbc == f"fb.1.{NOW + 1}.B"

    for n in range(2, 12):
        held = resolve(jar_of(held), f"https://example.com/?fbclid={'AB'[n % 2]}", now_ms=NOW + n)
        assert held.fbc == f"fb.1.{NOW + 1}.B"


def test_a_click_that_no_longer_counts_is_not_stamped_again() -> None:
    jar = read(mastered(fbc=f"fb.1.{NOW - 91 * DAY}.A"))
    held = resolve(jar, "https://example.com/?fbclid=A")
    assert held.fbc is None

    assert resolve(jar_of(held), "https://example.com/?fbclid=A").fbc is None


@pytest.mark.parametrize(
    ("click", "expected"),
    [("InApp_1", f"fb.1.{NOW}.InApp_1"), ("a;b", None), ("", None), ("x" * 501, None)],
)
def test_an_in_app_click_counts_like_an_fbclid_by_the_same_grammar(
    click: str, expected: str | None
) -> None:
    assert resolve(EMPTY, Page(url="https://example.com/", click=click)).fbc == expected


def test_an_fbclid_of_the_page_goes_before_the_in_app_click() -> None:
    page = Page(url="https://example.com/?fbclid=Url", click="InApp")

    assert resolve(EMPTY, page).fbc == f"fb.1.{NOW}.Url"


def test_the_first_sight_stays_and_is_an_adopted_ids_own_time() -> None:
    old = f"fb.1.{NOW - 700 * DAY}.7"

    assert resolve(EMPTY).master.first_seen_ms == NOW
    assert resolve(read(("_fbp", old))).master.first_seen_ms == NOW - 700 * DAY
    assert resolve(read(mastered()), now_ms=NOW + DAY).master.first_seen_ms == THEN


def test_a_grant_is_remembered() -> None:
    silent = cookies.resolve(EMPTY, [], SCOPE, SEAL, NOW, draw)
    granted = cookies.resolve(EMPTY, [], SCOPE, SEAL, NOW, draw, granted=True)

    assert (silent.master.granted, granted.master.granted) == (False, True)
    assert resolve(jar_of(granted)).master.granted


# --- handed over -----------------------------------------------------------------------------


def handed(fbp: str = "", fbc: str = "", made_ms: int = NOW) -> Handed:
    return Handed(made_ms=made_ms, fbp=cookies.fbp_of(fbp, NOW), fbc=cookies.fbc_of(fbc, NOW))


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        pytest.param([], THEIRS, id="none of its own: adopted"),
        pytest.param([("_fbp", f"fb.1.{NOW}.6")], f"fb.1.{NOW}.6", id="a readable one of its own"),
        pytest.param([mastered()], OURS, id="a master of its own"),
        pytest.param(
            [mastered(fbp=minted()), ("_fbp", minted())], THEIRS, id="made by our script on arrival"
        ),
    ],
)
def test_a_handed_fbp_is_taken_by_a_browser_without_one(
    sent: list[tuple[str, str]], expected: str
) -> None:
    assert resolve(read(*sent), handed=handed(THEIRS)).fbp == expected


@pytest.mark.parametrize(
    ("own", "given", "expected"),
    [
        (None, CLICK, CLICK),
        (f"fb.1.{NOW}.B", CLICK, f"fb.1.{NOW}.B"),
        (f"fb.1.{THEN - 1}.B", CLICK, CLICK),
    ],
    ids=["none", "a newer one", "an older one"],
)
def test_of_a_handed_click_and_the_browsers_the_newer_counts(
    own: str | None, given: str, expected: str
) -> None:
    jar = read(*([("_fbc", own)] if own else []))

    assert resolve(jar, handed=handed(fbc=given)).fbc == expected


# --- Set-Cookie ------------------------------------------------------------------------------


def headers(
    ids: BrowserIds, scope: Scope = SCOPE, *, secure: bool = True, had: Jar | None = None
) -> tuple[str, ...]:
    return cookies.headers(ids, scope, SEAL, secure=secure, had=had)


def pairs_of(ids: BrowserIds) -> list[tuple[str, str]]:
    """What the browser sends once it has these."""
    named = (line.partition(";")[0].partition("=") for line in headers(ids))
    return [(name, value) for name, _, value in named]


def jar_of(ids: BrowserIds) -> Jar:
    return read(*pairs_of(ids))


IDS = resolve(EMPTY, "https://example.com/?fbclid=A&utm_source=ig")
VALUES_OF_IDS = dict(pairs_of(IDS))


def test_set_cookie_with_https() -> None:
    where = "Domain=example.com; SameSite=Lax; Secure"
    assert headers(IDS) == (
        f"_fbp={IDS.fbp}; Path=/; Max-Age=7776000; {where}",
        f"_fbc={IDS.fbc}; Path=/; Max-Age=7776000; {where}",
        f"{SEAL.name}={VALUES_OF_IDS[SEAL.name]}; Path=/; Max-Age=34560000; {where}; HttpOnly",
    )


def test_set_cookie_without_https_and_without_a_domain() -> None:
    assert headers(IDS, Scope(None, 0), secure=False) == (
        f"_fbp={IDS.fbp}; Path=/; Max-Age=7776000; SameSite=Lax",
        f"_fbc={IDS.fbc}; Path=/; Max-Age=7776000; SameSite=Lax",
        f"{SEAL.name}={VALUES_OF_IDS[SEAL.name]}; Path=/; Max-Age=34560000; SameSite=Lax; HttpOnly",
    )


def test_without_a_click_there_is_no_fbc() -> None:
    names = [line.partition("=")[0] for line in headers(resolve(EMPTY, "https://example.com/"))]

    assert names == ["_fbp", SEAL.name]


@pytest.mark.parametrize(
    ("lost", "replaced"),
    [
        ([], {}),
        (["_fbp"], {}),
        (["_fbc"], {}),
        ([SEAL.name], {}),
        (["_fbp"], {"_fbp": THEIRS}),
        (["_fbc"], {"_fbc": f"fb.1.{NOW}.A%0a"}),
        ([SEAL.name], {SEAL.name: "x"}),
        (["_fbp", "_fbc", SEAL.name], {}),
    ],
)
def test_a_hit_is_given_what_the_browser_has_not(lost: list[str], replaced: dict[str, str]) -> None:
    sent = {**{n: v for n, v in VALUES_OF_IDS.items() if n not in lost}, **replaced}
    had = read(*sent.items())

    ids = resolve(had, "https://example.com/?fbclid=A&utm_source=ig")

    names = [line.partition("=")[0] for line in headers(ids, had=had)]
    assert names == [n for n in ("_fbp", "_fbc", SEAL.name) if n in lost]


def test_what_fbevents_encodes_is_what_the_browser_has() -> None:
    sent = {**VALUES_OF_IDS, "_fbc": str(IDS.fbc).replace(".", "%2E")}
    had = read(*sent.items())

    assert headers(resolve(had, "https://example.com/"), had=had) == ()


@pytest.mark.parametrize("secure", [True, False])
@pytest.mark.parametrize("scope", [SCOPE, Scope(None, 0)])
def test_deletions_name_all_three_with_the_attributes_they_were_set_with(
    scope: Scope, *, secure: bool
) -> None:
    tail = "; Path=/; Max-Age=0"
    tail += f"; Domain={scope.domain}" if scope.domain else ""
    tail += "; SameSite=Lax" + ("; Secure" if secure else "")

    lines = cookies.deletions(scope, SEAL, secure=secure)

    assert lines == tuple(f"{name}={tail}" for name in ("_fbp", "_fbc", SEAL.name))


@pytest.mark.parametrize(
    ("host", "configured", "index", "domain"),
    [
        ("example.com", None, 1, "example.com"),
        ("www.example.co.uk", None, 2, "example.co.uk"),
        ("x.vercel.app", None, 2, "x.vercel.app"),
        ("shop.myshopify.com", None, 2, "shop.myshopify.com"),
        ("192.0.2.7", None, 0, None),
        ("[::1]", None, 0, None),
        ("localhost", None, 0, None),
        ("www.xn--bcher-kva.example", None, 1, "xn--bcher-kva.example"),
        ("www.shop.example.com", "shop.example.com", 2, "shop.example.com"),
    ],
)
def test_every_kind_of_host_gets_its_cookies(
    host: str, configured: str | None, index: int, domain: str | None
) -> None:
    scope = cookies.scope_of(host, configured)
    ids = resolve(EMPTY, f"https://{host}/?fbclid=A", scope=scope)

    lines = headers(ids, scope)

    assert (ids.fbp, ids.fbc) == (minted(index=index), f"fb.{index}.{NOW}.A")
    where = f"; Domain={domain}; " if domain else "; SameSite"
    assert all(where in line for line in lines)
    assert len(lines) == 3
    had = read(*pairs_of(ids), scope=scope)
    assert headers(resolve(had, scope=scope), scope, had=had) == ()


# --- landings --------------------------------------------------------------------------------


def landing_after(*pages: Page, since: BrowserIds | None = None, now_ms: int = NOW) -> BrowserIds:
    return resolve(jar_of(since) if since else EMPTY, *pages, now_ms=now_ms)


def view(url: str, referrer: str = "", at_ms: int = NOW) -> Page:
    return Page(url=url, referrer=referrer, viewed_ms=at_ms)


FROM_AD = view("https://example.com/a?utm_source=ig", "https://l.instagram.com/")


@pytest.mark.parametrize(
    "utm",
    [
        {"utm_source": "ig", "utm_medium": "paid social", "utm_campaign": "a&b=c;d"},
        {"utm_source": "é€😀", "utm_term": '"quoted", \\'},
        {"utm_content": "x" * 200},
    ],
)
def test_the_master_brings_back_the_campaign_that_was_put_in(utm: dict[str, str]) -> None:
    first = resolve(EMPTY, "https://example.com/?" + urlencode(utm))
    assert dict(first.utm) == utm

    assert resolve(jar_of(first), "https://example.com/cart").utm == utm


def test_a_landing_has_its_page_its_referrer_and_its_campaign() -> None:
    assert landing_after(FROM_AD).master.landing == Landing(
        at_ms=NOW,
        page="https://example.com/a?utm_source=ig",
        referrer="https://l.instagram.com/",
        utm={"utm_source": "ig"},
    )


@pytest.mark.parametrize(
    ("before", "now", "replaced"),
    [
        pytest.param(FROM_AD, view("https://example.com/b?utm_source=tv"), True, id="a campaign"),
        pytest.param(FROM_AD, view("https://example.com/b?fbclid=A"), False, id="a click alone"),
        pytest.param(view("https://example.com/"), view("https://example.com/b?fbclid=A"), True, id="a click, no campaign before"),
        pytest.param(FROM_AD, view("https://example.com/b"), False, id="typed in"),
        pytest.param(view("https://example.com/"), view("https://example.com/b", "https://pay.example/"), False, id="back from a payment page"),
        pytest.param(FROM_AD, view("https://example.com/b?utm_source=tv", at_ms=NOW - 1), False, id="sent late"),
        pytest.param(FROM_AD, Page(url="https://example.com/b?utm_source=tv"), False, id="no page view"),
        pytest.param(None, view("https://example.com/b", "https://www.google.com/"), True, id="the first"),
        pytest.param(None, view("https://example.com/b", "https://example.com/"), False, id="from within"),
    ],
)  # fmt: skip
def test_what_is_a_landing(before: Page | None, now: Page, *, replaced: bool) -> None:
    first = landing_after(before) if before else None
    later = landing_after(
        Page(url=now.url, referrer=now.referrer, viewed_ms=now.viewed_ms and now.viewed_ms + 1),
        since=first,
        now_ms=NOW + 1,
    ).master.landing

    if replaced:
        assert later is not None
        assert later.page == now.url
    else:
        assert later == (first.master.landing if first else None)


def test_a_landing_counts_for_90_days() -> None:
    first = landing_after(FROM_AD)

    assert resolve(jar_of(first), now_ms=NOW + 90 * DAY - 1).utm == {"utm_source": "ig"}
    assert resolve(jar_of(first), now_ms=NOW + 90 * DAY).utm == {}


def test_this_pages_campaign_goes_over_the_last_landing_whole() -> None:
    jar = jar_of(resolve(EMPTY, "https://example.com/?utm_source=old&utm_term=shoes"))

    assert resolve(jar, "https://example.com/?utm_source=new").utm == {"utm_source": "new"}
    assert resolve(jar, "https://example.com/").utm == {"utm_source": "old", "utm_term": "shoes"}


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://example.com/a?email=jo@mail.example&b=1", "https://example.com/a?b=1"),
        ("https://example.com/jo@mail.example", "https://example.com/-"),
        ("https://example.com/a?q=" + "x" * 500, "https://example.com/a"),
        ("https://example.com/" + "x" * 500, ""),
    ],
    ids=["an e-mail", "an e-mail in the path", "a long query", "a long path"],
)
def test_a_landing_keeps_no_personal_data_and_nothing_long(url: str, kept: str) -> None:
    def elsewhere(text: str) -> str:
        return text.replace("//example.com", "//other.example")

    landing = landing_after(view(url, elsewhere(url))).master.landing

    assert landing is not None
    assert (landing.page, landing.referrer) == (kept, elsewhere(kept))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        pytest.param("utm_source=a&utm_source=b", {"utm_source": "a"}, id="the first counts"),
        pytest.param("utm_source=&utm_medium=%20", {}, id="empty ones do not"),
        pytest.param("utm_source=%20a%20", {"utm_source": "a"}, id="trimmed"),
        pytest.param("utm_source=" + "x" * 900, {"utm_source": "x" * 200}, id="cut"),
        pytest.param("utm_id=1&utm_source_platform=x", {}, id="no other utm_"),
        pytest.param("utm_source=ig.AQICAQMC", {"utm_source": "ig"}, id="a URL of Meta's SDK"),
        pytest.param("utm_source=v1.AQ", {"utm_source": "v1.AQ"}, id="a value with a dot"),
    ],
)
def test_utm(query: str, expected: dict[str, str]) -> None:
    assert urls.utm(f"https://example.com/?{query}") == expected


# --- whatever comes --------------------------------------------------------------------------

FBC_OR_FBP = r"fb\.[0-9]\.[0-9]{13}\.[A-Za-z0-9_.~-]{1,560}"
VALUE = rf"(?:_fb[pc]={FBC_OR_FBP}|{SEAL.name}=[A-Za-z0-9_-]+)"
GRAMMAR = re.compile(
    VALUE + r"; Path=/; Max-Age=(?:7776000|34560000)(?:; Domain=[a-z0-9_-]+(?:\.[a-z0-9_-]+)+)?"
    r"; SameSite=Lax(?:; Secure)?(?:; HttpOnly)?"
)
NAMES = st.sampled_from(["_fbp", "_fbc", SEAL.name, "other"])
PAYLOADS = st.text(max_size=30) | st.sampled_from(
    ["1", "%0d%0aX: y", "1;", "%D9%A1", "1.AQICAQMC", "1\r\n", "a%3Bb", "é", "..", "1.AQ.AQ"]
)
VALUES = st.text(max_size=60) | st.builds(
    "fb.{}.{}.{}".format,
    st.sampled_from(["0", "1", "2", "²", "١", "12", ""]),
    st.sampled_from([THEN, NOW, THEN // 1000, "١" * 13, f"{THEN}%0a"]),
    PAYLOADS,
)
HOSTS = st.sampled_from(["www.example.com", "127.0.0.1", "example.com; x", "a\r\nb.com"]) | st.text(
    max_size=20
)
URLS = st.text(max_size=40) | st.builds(
    "https://www.example.com/?fbclid={}&utm_source={}#{}".format, PAYLOADS, PAYLOADS, PAYLOADS
)


@given(
    pairs=st.lists(st.tuples(NAMES, VALUES), max_size=5),
    pages=st.lists(URLS, max_size=2),
    referrers=st.lists(URLS, max_size=2),
    host=HOSTS,
    configured=st.sampled_from([None, "example.com"]),
    secure=st.booleans(),
)
@example(
    pairs=[("_fbp", f"fb.1.{THEN}.%D9%A1")],
    pages=["https://example.com/?utm_source=%F0%9F%98%80"],
    referrers=[],
    host="example.com; HttpOnly",
    configured=None,
    secure=True,
)
def test_whatever_the_browser_sends_every_header_keeps_to_the_grammar(
    pairs: list[tuple[str, str]],
    pages: list[str],
    referrers: list[str],
    host: str,
    configured: str | None,
    *,
    secure: bool,
) -> None:
    scope = cookies.scope_of(host, configured)
    jar = cookies.read(pairs, scope, SEAL, NOW)
    ids = resolve(jar, *pages, referrers=tuple(referrers), scope=scope)

    for line in headers(ids, scope, secure=secure):
        assert GRAMMAR.fullmatch(line), line
        assert len(line) < 4096
    # What we set we take back as it was, and then there is nothing to set.
    again = read(*pairs_of(ids), scope=scope)
    assert again.fbps[0].text == ids.fbp
    assert again.master == ids.master
    assert headers(resolve(again, scope=scope), scope, had=again) == ()
