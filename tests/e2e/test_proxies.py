"""Whose address counts: the socket's, unless a trusted proxy says otherwise; then the right-most it cannot vouch for."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from .harness import CHROME, Gateway, StandIn, call, live, page_event, wait_until

LONDON, GOOGLE, KYIV = "81.2.69.160", "8.8.8.8", "2a02:ed00::5"
CITIES = {"London": "london", "Berlin": "berlin", "Kyiv": "kyiv", "Mountain View": "mountainview"}
HASHED = {hashlib.sha256(word.encode()).hexdigest(): city for city, word in CITIES.items()}

# X-Forwarded-For lines, and the address and city Meta is told. 127.0.0.1 is in Berlin, but no
# address Meta could use.
IGNORED: dict[str, list[str]] = {
    "none": [],
    "one": [LONDON],
    "as-if-proxied": [f"{LONDON}, 127.0.0.1"],
    "ipv6": [KYIV],
    "rubbish": ["rubbish"],
}
BELIEVED: dict[str, tuple[list[str], str | None, str | None]] = {
    "none": ([], None, "Berlin"),
    "one": ([LONDON], LONDON, "London"),
    "forged-by-the-visitor": ([f"{GOOGLE}, {LONDON}"], LONDON, "London"),
    "through-two-proxies": ([f"{LONDON}, 10.1.2.3"], LONDON, "London"),
    "forged-and-through-three": ([f"{GOOGLE}, {LONDON}, 10.1.2.3, 127.0.0.1"], LONDON, "London"),
    "only-proxies": (["127.0.0.1, 127.0.0.1"], None, "Berlin"),
    "ipv6": ([KYIV], KYIV, "Kyiv"),
    "ipv6-through-two": ([f"{KYIV}, 10.1.2.3"], KYIV, "Kyiv"),
    "ipv6-written-long": (["2A02:ED00:0:0:0:0:0:5"], KYIV, "Kyiv"),
    "with-a-port": ([f"{LONDON}:4711"], LONDON, "London"),
    "ipv6-with-a-port": ([f"[{KYIV}]:4711"], KYIV, "Kyiv"),
    "ipv4-in-ipv6": ([f"::ffff:{LONDON}"], LONDON, "London"),
    "private-and-not-trusted": ([f"{GOOGLE}, 192.168.1.5"], None, None),
    "rubbish": (["rubbish"], None, None),
    "rubbish-last": ([f"{LONDON}, rubbish"], None, None),
    "two-lines": ([GOOGLE, LONDON], LONDON, "London"),
    "empty": ([""], None, "Berlin"),
}


@dataclass(frozen=True, slots=True)
class Seen:
    """What came of one hit."""

    address: str | None
    city: str | None
    cookies: list[str]


def post(
    gateway: Gateway, event_id: str, forwarded: Sequence[str], proto: str = "", url: str = ""
) -> list[str]:
    """The cookies set on the answer to a hit with these forwarded headers."""
    headers = [("User-Agent", CHROME), *(("X-Forwarded-For", line) for line in forwarded)]
    headers += [("X-Forwarded-Proto", proto)] if proto else []
    body = {"events": [page_event(event_id)]}
    answer = call("POST", f"{url or gateway.script_url}/h", json=body, headers=headers)
    assert answer.status_code == 204
    return answer.headers.get_list("set-cookie")


def seen(graph: StandIn, cookies: dict[str, list[str]]) -> dict[str, Seen]:
    """What Meta was told of the hits with these ids."""
    wait_until(lambda: cookies.keys() <= {e.event_id for e in graph.received()})
    found = {}
    for event in graph.received():
        if event.event_id in cookies:
            address, hashes = event.user_data.get("client_ip_address"), event.user_data.get("ct")
            assert not isinstance(address, list)
            city = HASHED[hashes[0]] if hashes else None
            found[event.event_id] = Seen(address, city, cookies[event.event_id])
    return found


@pytest.fixture(scope="module")
def ignored(
    tmp_path_factory: pytest.TempPathFactory, stand_in: StandIn, city_file: Path
) -> Iterator[dict[str, Seen]]:
    """Hits on a gateway that trusts nobody."""
    env = live(stand_in.url, GATEWAY_GEOIP_DATABASE=str(city_file))
    with Gateway(tmp_path_factory.mktemp("aloof"), env) as gateway:
        gateway.start()
        sent = {
            f"ignored-{n}": post(gateway, f"ignored-{n}", f, "https") for n, f in IGNORED.items()
        }
        yield seen(stand_in, sent)


@pytest.fixture(scope="module")
def trusting(
    tmp_path_factory: pytest.TempPathFactory, stand_in: StandIn, city_file: Path
) -> Iterator[Gateway]:
    """A gateway behind two proxies: one on this machine, one in 10.0.0.0/8."""
    env = live(
        stand_in.url,
        GATEWAY_GEOIP_DATABASE=str(city_file),
        GATEWAY_TRUSTED_PROXIES="127.0.0.1, 10.0.0.0/8",
    )
    with Gateway(tmp_path_factory.mktemp("trusting"), env) as gateway:
        yield gateway.start()


@pytest.fixture(scope="module")
def believed(trusting: Gateway, stand_in: StandIn) -> dict[str, Seen]:
    """Hits on the gateway that trusts its proxies."""
    sent = {n: post(trusting, f"believed-{n}", lines) for n, (lines, _, _) in BELIEVED.items()}
    return seen(stand_in, {f"believed-{n}": cookies for n, cookies in sent.items()})


@pytest.mark.parametrize("name", IGNORED)
def test_nobody_s_header_counts_when_no_proxy_is_trusted(
    ignored: dict[str, Seen], name: str
) -> None:
    found = ignored[f"ignored-{name}"]
    assert (found.address, found.city) == (None, "Berlin")
    assert found.cookies
    assert not any("secure" in cookie.lower() for cookie in found.cookies)


@pytest.mark.parametrize("name", BELIEVED)
def test_behind_a_trusted_proxy_the_right_most_untrusted_address_counts(
    believed: dict[str, Seen], name: str
) -> None:
    found = believed[f"believed-{name}"]
    assert (found.address, found.city) == BELIEVED[name][1:]


@pytest.mark.parametrize(("proto", "secure"), [("https", True), ("http", False), ("", False)])
def test_cookies_are_secure_when_a_trusted_proxy_speaks_https(
    trusting: Gateway, proto: str, *, secure: bool
) -> None:
    headers = {"X-Forwarded-Proto": proto, "User-Agent": CHROME}
    script = call("GET", trusting.script_url, headers=headers).headers.get_list("set-cookie")
    for cookies in (script, post(trusting, f"secure-{proto}", [LONDON], proto)):
        assert cookies
        assert all(("; Secure" in cookie) == secure for cookie in cookies)


def test_a_proxy_on_ipv4_is_trusted_by_a_gateway_that_listens_on_ipv6_too(
    tmp_path: Path, stand_in: StandIn, city_file: Path
) -> None:
    env = live(
        stand_in.url,
        GATEWAY_GEOIP_DATABASE=str(city_file),
        GATEWAY_TRUSTED_PROXIES="127.0.0.1",
        GATEWAY_HOST="::",
    )
    with Gateway(tmp_path, env) as gateway:
        gateway.start()
        port = gateway.url.rpartition(":")[2]
        sent = {}
        for name, lines in (("direct", []), ("proxied", [LONDON])):
            url = f"http://127.0.0.1:{port}/{gateway.slug}"
            sent[f"dual-{name}"] = post(gateway, f"dual-{name}", lines, url=url)
        found = seen(stand_in, sent)
    assert (found["dual-direct"].address, found["dual-direct"].city) == (None, "Berlin")
    assert (found["dual-proxied"].address, found["dual-proxied"].city) == (LONDON, "London")
