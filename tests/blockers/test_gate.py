"""No rule that ad blockers ship today hits what a browser asks of an install: requests, cookies, parameters.

`pytest -s tests/blockers` prints what was asked of whom. AdGuard removes `_fbp` from every site, which the install's
own cookie makes up for; it is the one exception. The gate itself is shown to close by names that are blocked.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pytest

from gateway import config, install

from .cases import HEADERS, HOSTS, PLANTED, Planted, of_install, paths
from .engines import BLOCKERS, EVERY_LIST, Blocker, Kind, Request, text_of
from .pages import Rule, cookie_rules, scriptlets

FBP_RULE = "$cookie=_fbp"

# Rules of our own beside the lists', to see that the engine tells these things apart.
OWN_RULES = """\
/party-1st$~third-party
/party-3rd$third-party
/by-header$script,header=server-timing:/^outcome/
"""
PAGE = "https://www.north-sea-tea.co.uk/"
BY_HEADER = Request("https://www.north-sea-tea.co.uk/by-header", PAGE, Kind.SCRIPT)
PARTIES = {
    Request("https://www.north-sea-tea.co.uk/party-1st", PAGE, Kind.SCRIPT): True,
    Request("https://hits.north-sea-tea.co.uk/party-1st", PAGE, Kind.SCRIPT): True,
    Request("https://hits.north-sea-tea.co.uk/party-3rd", PAGE, Kind.SCRIPT): False,
    Request("https://other-tea.co.uk/party-1st", PAGE, Kind.SCRIPT): False,
    Request("https://other-tea.co.uk/party-3rd", PAGE, Kind.SCRIPT): True,
}


@dataclass(frozen=True, slots=True)
class Found:
    """What one blocker said to everything."""

    blocker: Blocker
    rules: int
    cases: int
    blocked: Mapping[Request, str]
    """of the installs' requests"""
    planted: Mapping[Planted, str]
    parties: Mapping[Request, bool]
    by_header: bool


@pytest.fixture(scope="module")
def table() -> Iterator[list[str]]:
    """Lines to print once everybody was asked."""
    lines = [f"{'engine':14} {'lists':30} {'rules':>7} {'cases':>7} {'blocked':>7}"]
    yield lines
    print("\n" + "\n".join(lines))


@pytest.fixture(scope="module")
def installs() -> list[Request]:
    return [
        one for n, slug in enumerate(paths()) for one in of_install(slug, HOSTS[n % len(HOSTS)])
    ]


@pytest.fixture(scope="module", params=BLOCKERS, ids=lambda blocker: blocker.label)
def found(request: pytest.FixtureRequest, installs: list[Request]) -> Found:
    blocker: Blocker = request.param
    planted = {one.request: one for one in PLANTED}
    asked = [*installs, *planted, *PARTIES, BY_HEADER]
    answer = blocker.ask(asked, HEADERS, OWN_RULES)
    hits = {asked[index]: rule for index, rule in answer.hits.items()}
    return Found(
        blocker=blocker,
        rules=answer.rules,
        cases=len(installs),
        blocked={one: hits[one] for one in installs if one in hits},
        planted={name: hits[one] for one, name in planted.items() if one in hits},
        parties={one: one in hits for one in PARTIES},
        by_header=BY_HEADER in hits,
    )


def test_nothing_an_install_is_asked_for_is_blocked(found: Found, table: list[str]) -> None:
    engine, title = found.blocker.engine, found.blocker.title
    table.append(f"{engine:14} {title:30} {found.rules:7} {found.cases:7} {len(found.blocked):7}")
    assert found.rules > 100_000
    assert found.blocked == {}


def test_names_that_are_blocked_today_are_blocked_here(found: Found, table: list[str]) -> None:
    table += [
        f"  planted {one.kind:14} {one.name:47} {rule[:60]}" for one, rule in found.planted.items()
    ]
    by = found.blocker
    expected = {p for p in PLANTED if by.title in p.blocked_by and by.engine in p.engines}
    assert expected <= set(found.planted)


def test_first_and_third_party_are_told_apart(found: Found) -> None:
    assert found.parties == PARTIES


def test_ublock_would_see_a_rule_about_our_headers(found: Found) -> None:
    assert found.by_header is (found.blocker.engine == "uBlock Origin")


def test_ublocks_engine_is_not_asked_without_public_suffixes() -> None:
    with pytest.raises(AssertionError, match="public suffix list did not load"):
        BLOCKERS[0].ask([BY_HEADER], HEADERS, suffixes="")


# --- what touches a page rather than a request -------------------------------------------------


@pytest.fixture(scope="module")
def rules() -> dict[str, list[Rule]]:
    """By list, those that hold on every site."""
    lines = {name: text_of(name).splitlines() for name in EVERY_LIST}
    return {name: [*cookie_rules(text), *scriptlets(text)] for name, text in lines.items()}


@pytest.fixture(scope="module")
def own_cookies(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The cookies of twenty installs, as each names them."""
    names: list[str] = []
    for number in range(20):
        folder = tmp_path_factory.mktemp("install")
        settings = config.load({"GATEWAY_STORE": f"sqlite:///{folder}/{number}/gateway.db"})
        names += install.open_install(settings).cookies
    return names


def test_no_rule_touches_an_installs_own_cookie(
    rules: dict[str, list[Rule]], own_cookies: list[str], table: list[str]
) -> None:
    assert len(own_cookies) >= 20
    touched = {r.text for many in rules.values() for r in many if any(map(r.hits, own_cookies))}
    count = sum(map(len, rules.values()))
    table.append(
        f"{'as text':14} {'cookies, scriptlets: every list':30} {count:6} {len(own_cookies):7}"
        f" {len(touched):7}"
    )
    assert count > 100
    assert touched == set()


def test_of_metas_cookies_only_fbp_is_removed_and_only_by_adguard(
    rules: dict[str, list[Rule]],
) -> None:
    touched = {
        (name, cookie, rule.text)
        for name, many in rules.items()
        for rule in many
        for cookie in ("_fbp", "_fbc")
        if rule.hits(cookie)
    }
    assert touched == {("adguard-tracking", "_fbp", FBP_RULE)}


def test_no_scriptlet_of_every_site_names_what_the_snippet_uses(
    rules: dict[str, list[Rule]],
) -> None:
    used = ("px", "fbq", "_fbq", "fetch", "navigator.sendBeacon", "localStorage", "document.cookie")
    assert [r.text for many in rules.values() for r in many if any(map(r.hits, used))] == []


@pytest.mark.parametrize(
    ("line", "name", "hit"),
    [
        ("$cookie=_k3vq8", "_k3vq8", True),
        ("$cookie=_k3vq8;maxAge=60", "_k3vq8", True),
        ("*$cookie=/^_k[0-9]/,third-party", "_k3vq8", True),
        ("$cookie=/^_K/i,domain=~example.com", "_k3vq8", True),
        ("$cookie", "_k3vq8", True),
        ("$cookie=_k3vq", "_k3vq8", False),
        ("$cookie=_k3vq8,domain=example.com", "_k3vq8", False),
        ("||example.com^$cookie=_k3vq8", "_k3vq8", False),
        ("@@$cookie=_k3vq8", "_k3vq8", False),
        ("##+js(trusted-set-cookie, _k3vq8, 1)", "_k3vq8", True),
        ("*##+js(cookie-remover, /^_k/)", "_k3vq8", True),
        ("#%#//scriptlet('remove-cookie', '_k3vq8')", "_k3vq8", True),
        ("~a.com,~b.com#%#//scriptlet(\"remove-cookie\", \"_k3vq8\")", "_k3vq8", True),
        ("example.com##+js(remove-cookie, _k3vq8)", "_k3vq8", False),
        ("! ##+js(remove-cookie, _k3vq8)", "_k3vq8", False),
    ],
)  # fmt: skip
def test_planted_rules_for_cookies_are_read(line: str, name: str, *, hit: bool) -> None:
    read = [*cookie_rules([line]), *scriptlets([line])]
    assert any(rule.hits(name) for rule in read) is hit
