"""The visitor behind an event: which addresses, agents and cookies are believed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import enrich, hit
from gateway.cookies import BrowserIds
from gateway.enrich import Place, Visitor
from gateway.hit import Facts, Sent, Source
from gateway.master import Master

NOW = 1_764_000_000_000
FBP = f"fb.1.{NOW - 1_000}.123"
FBC = f"fb.1.{NOW - 1_000}.IwAR0"
BERLIN = Place(city="Berlin", region="Berlin", postal_code="10115", country="de")


def sent(url: str = "https://example.com/", **user: str) -> Sent:
    return Sent(
        index=0,
        name="Lead",
        id="1",
        time_ms=NOW,
        url=url,
        user={key: (value,) for key, value in user.items()},
        data={},
        extras=hit.NO_EXTRAS,
    )


class Atlas:
    """Places, and which addresses were asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, address: str) -> Place:
        self.asked.append(address)
        return BERLIN if address == "8.8.8.8" else Place()


def told(event: Sent) -> Visitor:
    facts = Facts(source=Source.BACKEND, now_ms=NOW, address="9.9.9.9", agent="the backend's own")
    return enrich.visitor_of(event, facts, None, Atlas())


# --- addresses -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "address"),
    [
        pytest.param("8.8.8.8", "8.8.8.8", id="IPv4"),
        pytest.param(" 8.8.8.8 ", "8.8.8.8", id="spaces around"),
        pytest.param("2001:4860:4860::8888", "2001:4860:4860::8888", id="IPv6 kept"),
        pytest.param("2001:4860:4860:0:0:0:0:8888", "2001:4860:4860::8888", id="IPv6, long form"),
        pytest.param("2001:4860:4860::ABCD", "2001:4860:4860::abcd", id="IPv6, upper case"),
        pytest.param("::ffff:8.8.8.8", "8.8.8.8", id="IPv4 within IPv6"),
        pytest.param("8.8.8.8.AQQCAQMC", "8.8.8.8", id="appendix of 8"),
        pytest.param("8.8.8.8.AQ", "8.8.8.8", id="appendix of 2"),
        pytest.param("8.8.8.8.AQYCAQMB.AQYCAQMB", "8.8.8.8", id="appendix twice"),
        pytest.param("2001:4860:4860::8888.AQQCAQMC", "2001:4860:4860::8888", id="IPv6, appendix"),
        pytest.param("::ffff:8.8.8.8.AQQCAQMC", "8.8.8.8", id="mapped, appendix"),
        pytest.param("", None, id="nothing"),
        pytest.param("unknown", None, id="a word"),
        pytest.param("10.1.2.3", None, id="private 10"),
        pytest.param("172.16.0.1", None, id="private 172"),
        pytest.param("192.168.1.1", None, id="private 192"),
        pytest.param("127.0.0.1", None, id="loopback"),
        pytest.param("169.254.1.1", None, id="link-local"),
        pytest.param("100.64.0.1", None, id="CGNAT, which Meta's builders take for public"),
        pytest.param("0.0.0.0", None, id="unspecified"),
        pytest.param("255.255.255.255", None, id="broadcast"),
        pytest.param("224.0.0.1", None, id="multicast"),
        pytest.param("192.0.2.1", "192.0.2.1", id="documentation"),
        pytest.param("::1", None, id="IPv6 loopback"),
        pytest.param("::", None, id="IPv6 unspecified"),
        pytest.param("fe80::1", None, id="IPv6 link-local"),
        pytest.param("fe80::1%eth0", None, id="IPv6 with a zone"),
        pytest.param("2001:4860:4860::8888%eth0", None, id="public IPv6 with a zone"),
        pytest.param("fd00::1", None, id="IPv6 private"),
        pytest.param("ff02::1", None, id="IPv6 multicast"),
        pytest.param("ff0e::1", None, id="IPv6 multicast, global"),
        pytest.param("::ffff:10.0.0.1", None, id="mapped private"),
        pytest.param("::ffff:127.0.0.1", None, id="mapped loopback"),
        pytest.param("10.0.0.1.AQQCAQMC", None, id="private with an appendix"),
        pytest.param("8.8.8.8:443", None, id="port"),
        pytest.param("[2001:4860:4860::8888]:443", None, id="IPv6 with a port"),
        pytest.param("[2001:4860:4860::8888]", None, id="IPv6 in brackets"),
        pytest.param("8.8.8.8, 1.1.1.1", None, id="an X-Forwarded-For list"),
        pytest.param("8.8.8.8,1.1.1.1", None, id="a list without a space"),
        pytest.param("8.8.8.8.1", None, id="five numbers"),
        pytest.param("8.8.8.8.garbage", None, id="something else appended"),
        pytest.param("8.8.8", None, id="three numbers"),
        pytest.param("008.8.8.8", None, id="leading zeros"),
        pytest.param("0x08080808", None, id="hexadecimal"),
        pytest.param("8.8.8.8\r\nX-Injected: 1", None, id="CR LF"),
    ],
)
def test_public_address(text: str, address: str | None) -> None:
    assert enrich.public_address(text) == address


@given(text=st.text(max_size=40) | st.ip_addresses().map(str))
def test_what_comes_out_of_public_address_goes_in_again(text: str) -> None:
    address = enrich.public_address(text)

    assert address is None or enrich.public_address(address) == address


# --- agents ----------------------------------------------------------------------------------

PEOPLE = [
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/22F76 [FBAN/FBIOS;FBAV/520.0.0.38.101;FBBV/756351453;FBDV/iPhone14,5]",
    "Mozilla/5.0 (Linux; Android 14; SM-S911B; wv) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/142.0.0.0 Mobile Safari/537.36 Instagram 390.0.0.43.81 Android",
    "Mozilla/5.0 (Linux; Android 10; CUBOT_NOTE_20) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Mobile Safari/537.36",
    "Mozilla/5.0 (Linux; Android 11; CUBOT X30) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Mobile Safari/537.36",
]
MACHINES = [
    "",
    "   ",
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm) Chrome/136.0.0.0 Safari/537.36",
    "Mozilla/5.0 (compatible; YandexBot/3.0; +http://yandex.com/bots)",
    "AdsBot-Google (+http://www.google.com/adsbot.html)",
    "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)",
    "meta-externalagent/1.1 (+https://developers.facebook.com/docs/sharing/webmasters/crawler)",
    "facebookcatalog/1.0",
    "Mozilla/5.0 (compatible; Yahoo! Slurp; http://help.yahoo.com/help/us/ysearch/slurp)",
    "Baiduspider+(+http://www.baidu.com/search/spider.htm)",
    "Mozilla/5.0 (Linux; Android 11; moto g power (2022)) AppleWebKit/537.36 Chrome/119.0.0.0 Mobile Safari/537.36 Chrome-Lighthouse",
    "Mozilla/5.0 (compatible; UptimeRobot/2.0; http://www.uptimerobot.com/)",
    "Pingdom.com_bot_version_1.4_(http://www.pingdom.com/)",
    "Scrapy/2.11 (+https://scrapy.org)",
    "Mozilla/5.0 (compatible; archive.org_bot +http://archive.org/details/archive.org_bot)",
    "TelegramBot (like TwitterBot)",
]


@pytest.mark.parametrize("agent", PEOPLE)
def test_people_are_not_taken_for_machines(agent: str) -> None:
    assert not enrich.looks_automated(agent)


@pytest.mark.parametrize("agent", MACHINES)
def test_machines_that_say_so_are_recognised(agent: str) -> None:
    assert enrich.looks_automated(agent)


# --- visitors --------------------------------------------------------------------------------


def test_a_pages_visitor_is_what_the_request_says() -> None:
    claims = sent(client_ip_address="1.1.1.1", client_user_agent="Forged", fbp="fb.1.1.1")
    facts = Facts(source=Source.PAGE, now_ms=NOW, address="8.8.8.8", agent="UA" * 400)
    kept = Master(fbp=FBP, fbc=FBC, first_seen_ms=NOW, landing=None)
    ids = BrowserIds(fbp=FBP, fbc=FBC, utm={"utm_source": "ig"}, master=kept)

    assert enrich.visitor_of(claims, facts, ids, Atlas()) == Visitor(
        address="8.8.8.8",
        agent=("UA" * 400)[: enrich.AGENT_MAX],
        fbp=FBP,
        fbc=FBC,
        utm={"utm_source": "ig"},
        place=BERLIN,
    )


def test_a_page_without_ids_agent_and_public_address_has_none() -> None:
    facts = Facts(source=Source.PAGE, now_ms=NOW, address="10.0.0.1")

    assert enrich.visitor_of(sent(), facts, None, Atlas()) == Visitor(
        address=None, agent=None, fbp=None, fbc=None, utm={}, place=Place()
    )


def test_a_backends_visitor_is_what_it_tells_and_never_its_own_request() -> None:
    event = sent(
        "https://example.com/?utm_source=ig&utm_id=1",
        client_ip_address="8.8.8.8",
        client_user_agent="UA",
        fbp=FBP,
        fbc=FBC,
    )

    assert told(event) == Visitor(
        address="8.8.8.8",
        agent="UA",
        fbp=FBP,
        fbc=FBC,
        utm={"utm_source": "ig"},
        place=BERLIN,
    )
    assert told(sent()) == Visitor(
        address=None, agent=None, fbp=None, fbc=None, utm={}, place=Place()
    )


def test_the_place_is_looked_up_by_the_address_without_its_appendix() -> None:
    assert told(sent(client_ip_address="8.8.8.8.AQQCAQMC")).place == BERLIN


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("fbp", "123"),
        ("fbp", f"fb.1.{NOW // 1000}.123"),
        ("fbp", f"fb.1.{NOW}.abc"),
        ("fbp", f"fb.1.{NOW}.1\r\n.x"),
        ("fbc", "IwAR0"),
        ("fbc", f"fb.1.{NOW}."),
        ("fbc", f"fb.1.{NOW - 91 * 86_400_000}.IwAR0"),
        ("fbc", f"fb.1.{NOW}.{'x' * 501}"),
        ("client_ip_address", "10.0.0.1"),
        ("client_ip_address", "8.8.8.8:80"),
        ("client_ip_address", "8.8.8.8, 1.1.1.1"),
        ("client_ip_address", "victim@example.com"),
    ],
)
def test_what_a_backend_tells_wrong_is_kept_out_and_said(key: str, value: str) -> None:
    visitor = told(sent(**{key: value}))

    assert (visitor.address, visitor.fbp, visitor.fbc) == (None, None, None)
    (warning,) = visitor.warnings
    assert warning.startswith(f"user_data.{key}: ")
    assert value not in warning
