"""From a request to the disk: which site and pixel an event is for, and what is kept of it."""

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Protocol

import pytest

from gateway import config
from gateway.agent import Agents
from gateway.config import Site
from gateway.enrich import Place
from gateway.errors import HitInvalid, StoreBusy
from gateway.hit import Facts, Source
from gateway.ingest import Ingest, Receipt, Refused
from gateway.master import Seal
from gateway.merge import CONVERSIONS
from gateway.outcome import Outcome
from gateway.overload import ITEMS, Backlog
from gateway.stores.sqlite import SqliteStore
from gateway.visit import Visits

pytestmark = pytest.mark.anyio

NOW = 1_764_000_000_000
AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"

# Documentation addresses, and where the GeoIP file of these tests has them.
CALIFORNIA, NEW_YORK, CALABRIA, NOWHERE = (f"203.0.113.{n}" for n in range(1, 5))
PLACES = {
    CALIFORNIA: Place(country="us", region="CA"),
    NEW_YORK: Place(country="us", region="NY"),
    CALABRIA: Place(country="it", region="CA"),
}

# The shop has two pixels and shares 33333 with the blog.
SITES = """
[[site]]
hosts = ["shop.example"]
consent = "off"
default_country = "DE"
pixels = [{id = "11111"}, {id = "33333"}]

[[site]]
hosts = ["blog.example"]
consent = "required"
default_country = "FR"
pixels = [{id = "22222"}, {id = "33333"}]
"""
ONE_PIXEL = 'pixel_id = "11111"'


class Install:
    """One gateway's inner half: a real store, and what it takes in."""

    def __init__(
        self, store: SqliteStore, folder: Path, text: str, environ: Mapping[str, str]
    ) -> None:
        file = folder / "gateway.toml"
        file.write_text(text)
        self.store = store
        self.settings = config.load({"GATEWAY_HOLD_SECONDS": "0", **environ}, file=file)
        self.agents = Agents()
        self.woken = 0
        self.backlog = Backlog(time.monotonic)
        self.ingest = Ingest(
            settings=self.settings,
            visits=Visits(Seal("_k3vq8", b"k" * 32), lambda _below: 7),
            outbox=store,
            backlog=self.backlog,
            locate=lambda address: PLACES.get(address, Place()),
            agents=self.agents,
            on_stored=self._woken,
        )

    def _woken(self) -> None:
        self.woken += 1

    def site(self, host: str) -> Site:
        (found,) = (site for site in self.settings.sites if host in site.hosts)
        return found

    async def page(
        self, site: Site, url: str, event_id: str = "e-1", address: str = NOWHERE, **hit: object
    ) -> Receipt:
        """One page view, sent by the page's script."""
        one = {"name": "PageView", "id": event_id, "url": url}
        facts = Facts(
            source=Source.PAGE, now_ms=NOW, host="www.shop.example", agent=AGENT, address=address
        )
        return await self.ingest.accept(json.dumps({"events": [one], **hit}).encode(), facts, site)

    async def backend(self, *events: object, source: Source = Source.BACKEND) -> Receipt:
        facts = Facts(source=source, now_ms=NOW)
        return await self.ingest.accept(json.dumps(events).encode(), facts, None)

    async def bodies(self, pixel: str) -> list[dict[str, object]]:
        """What waits for a pixel, as Meta will get it."""
        claimed = await self.store.claim(
            pixel, now_ms=NOW, lease_ms=NOW + 1, limit=1000, max_bytes=10**6
        )
        return [json.loads(delivery.body) for delivery in claimed]

    async def ids(self, pixel: str) -> list[object]:
        return [body["event_id"] for body in await self.bodies(pixel)]

    async def ledger(self) -> dict[str, dict[str, int]]:
        """Every pixel's account, without its zeros."""
        lines = await self.store.ledger()
        assert all(line.adds_up for line in lines)
        return {
            line.pixel: {
                name: count
                for name, count in (
                    ("accepted", line.accepted),
                    ("pending", line.pending),
                    *line.dropped.items(),
                )
                if count
            }
            for line in lines
        }


class Maker(Protocol):
    """Makes installs that share one store."""

    def __call__(self, text: str, **environ: str) -> Install: ...


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Maker]:
    store = await SqliteStore.open(tmp_path / "gateway.db", wait_s=0)
    made: list[Install] = []

    def new(text: str, **environ: str) -> Install:
        made.append(Install(store, tmp_path, text, environ))
        return made[-1]

    yield new
    for install in made:
        install.agents.close()
    await store.close()


@pytest.fixture
def install(make: Maker) -> Install:
    return make(SITES)


def order(event_id: str = "o-1", **fields: object) -> dict[str, object]:
    """A purchase a backend tells; of the shop's page unless `fields` say otherwise."""
    return {
        "event_name": "Purchase",
        "event_id": event_id,
        "event_time": NOW // 1000,
        "event_source_url": "https://shop.example/thanks",
        "user_data": {"em": "jo@mail.example", "client_user_agent": AGENT},
        "custom_data": {"value": 9.5, "currency": "EUR"},
        **fields,
    }


def outcomes(receipt: Receipt) -> list[Outcome]:
    return [judged.outcome for judged in receipt.judged]


def fields(receipt: Receipt) -> list[str | None]:
    """What each event was refused for."""
    return [judged.problem.field if judged.problem else None for judged in receipt.judged]


# --- pages -----------------------------------------------------------------------------------


async def test_a_page_hit_is_kept_for_every_pixel_of_its_site(install: Install) -> None:
    receipt = await install.page(install.site("shop.example"), "https://www.shop.example/")

    assert outcomes(receipt) == [Outcome.PENDING]
    assert await install.ledger() == {
        "11111": {"accepted": 1, "pending": 1},
        "33333": {"accepted": 1, "pending": 1},
    }
    first, second = await install.bodies("11111"), await install.bodies("33333")
    assert first == second
    assert first[0]["event_id"] == "e-1"
    assert await install.bodies("22222") == []
    assert install.woken == 1


async def test_duplicates_are_each_pixels_own(install: Install) -> None:
    shop, blog = install.site("shop.example"), install.site("blog.example")
    await install.page(shop, "https://shop.example/")

    again = await install.page(shop, "https://shop.example/")
    elsewhere = await install.page(blog, "https://blog.example/", consent="granted")

    assert outcomes(again) == [Outcome.DUPLICATE]
    # 33333 has it already, 22222 has not: so it is new to somebody.
    assert outcomes(elsewhere) == [Outcome.PENDING]
    assert await install.ledger() == {
        "11111": {"accepted": 2, "pending": 1, "duplicate": 1},
        "22222": {"accepted": 1, "pending": 1},
        "33333": {"accepted": 3, "pending": 1, "duplicate": 2},
    }


async def test_an_event_one_pixel_has_already_is_new_when_another_has_not(
    install: Install,
) -> None:
    view = {"event_name": "PageView", "custom_data": None}
    await install.backend(order("e-1", pixel_id="11111") | view)

    receipt = await install.page(install.site("shop.example"), "https://shop.example/")

    assert outcomes(receipt) == [Outcome.PENDING]
    assert await install.ledger() == {
        "11111": {"accepted": 2, "pending": 1, "duplicate": 1},
        "33333": {"accepted": 1, "pending": 1},
    }


async def test_a_drop_is_counted_for_every_pixel_of_its_site(install: Install) -> None:
    receipt = await install.page(install.site("shop.example"), "https://blog.example/")

    assert (outcomes(receipt), fields(receipt)) == ([Outcome.FOREIGN_HOST], ["url"])
    assert await install.ledger() == {
        "11111": {"accepted": 1, "foreign_host": 1},
        "33333": {"accepted": 1, "foreign_host": 1},
    }


async def test_each_sites_pages_follow_its_own_consent(install: Install) -> None:
    shop, blog = install.site("shop.example"), install.site("blog.example")

    denied = await install.page(shop, "https://shop.example/", "e-1", consent="denied")
    silent = await install.page(blog, "https://blog.example/", "e-2")
    granted = await install.page(blog, "https://blog.example/", "e-3", consent="granted")

    assert outcomes(denied) == [Outcome.PENDING]  # the shop answers for itself
    assert outcomes(silent) == [Outcome.NO_CONSENT]
    assert outcomes(granted) == [Outcome.PENDING]
    assert await install.ids("22222") == ["e-3"]
    assert silent.set_cookies == ()


@pytest.mark.parametrize(
    ("url", "ours"),
    [
        ("https://shop.example/", True),
        ("https://www.shop.example/", True),
        ("https://SHOP.example:8443/", True),
        ("https://notshop.example/", False),
        ("https://shop.example.evil.test/", False),
        ("https://blog.example/", False),
    ],
)
async def test_a_site_takes_its_hosts_and_what_is_below_them(
    install: Install, url: str, *, ours: bool
) -> None:
    receipt = await install.page(install.site("shop.example"), url)

    assert outcomes(receipt) == [Outcome.PENDING if ours else Outcome.FOREIGN_HOST]


# --- backends --------------------------------------------------------------------------------


async def test_a_backends_event_goes_to_the_pixel_it_names_alone(install: Install) -> None:
    blog = order("o-2", pixel_id=22222, event_source_url="https://blog.example/")

    receipt = await install.backend(order("o-1", pixel_id="11111"), blog)

    assert outcomes(receipt) == [Outcome.PENDING, Outcome.PENDING]
    assert await install.ids("11111") == ["o-1"]
    assert await install.ids("22222") == ["o-2"]
    assert await install.ids("33333") == []


@pytest.mark.parametrize(
    "pixel",
    [{}, {"pixel_id": None}, {"pixel_id": "99999"}, {"pixel_id": 99999}, {"pixel_id": ""}],
    ids=["none", "null", "foreign", "foreign number", "empty"],
)
async def test_a_backends_event_for_no_pixel_of_ours_is_refused(
    install: Install, pixel: dict[str, object]
) -> None:
    receipt = await install.backend(order("o-1", **pixel), order("o-2", pixel_id="11111"))

    assert outcomes(receipt) == [Outcome.INVALID, Outcome.PENDING]
    assert fields(receipt) == ["pixel_id", None]
    assert "99999" not in str(receipt.judged[0].problem)
    assert await install.ids("11111") == ["o-2"]


async def test_with_one_pixel_nobody_has_to_name_it(make: Maker) -> None:
    install = make(ONE_PIXEL)

    receipt = await install.backend(
        order("o-1"), order("o-2", pixel_id="11111"), order("o-3", pixel_id="99999")
    )

    assert outcomes(receipt) == [Outcome.PENDING, Outcome.PENDING, Outcome.INVALID]
    assert fields(receipt)[2] == "pixel_id"
    assert await install.ids("11111") == ["o-1", "o-2"]


SHARED = """
[[site]]
hosts = ["shop.example"]
default_country = "DE"
pixels = [{id = "11111"}]
[[site]]
hosts = ["blog.example"]
default_country = "FR"
pixels = [{id = "11111"}]
"""


async def test_a_page_event_for_one_pixel_goes_to_no_other(install: Install) -> None:
    shop = install.site("shop.example")
    events = [
        {"name": "Lead", "id": "all", "url": "https://shop.example/"},
        {"name": "Lead", "id": "one", "url": "https://shop.example/", "to": "33333"},
        {"name": "Lead", "id": "blog's", "url": "https://shop.example/", "to": 22222},
    ]
    facts = Facts(source=Source.PAGE, now_ms=NOW, host="shop.example", agent=AGENT)

    receipt = await install.ingest.accept(json.dumps({"events": events}).encode(), facts, shop)

    assert fields(receipt) == [None, None, "pixel_id"]
    assert await install.ids("11111") == ["all"]
    assert await install.ids("33333") == ["all", "one"]
    assert await install.ids("22222") == []


async def test_with_one_pixel_for_several_sites_nobody_has_to_name_it(make: Maker) -> None:
    install = make(SHARED)

    receipt = await install.backend(
        order("o-1"), order("o-2", event_source_url="https://blog.example/")
    )

    assert outcomes(receipt) == [Outcome.PENDING, Outcome.PENDING]


async def test_a_sandbox_with_one_pixel_takes_whatever_is_named(make: Maker) -> None:
    install = make("sandbox = true")

    receipt = await install.backend(order("o-1", pixel_id="99999"))

    assert outcomes(receipt) == [Outcome.PENDING]
    (pixel,) = install.settings.pixels
    assert await install.ids(pixel.lane) == ["o-1"]


async def test_a_sandbox_with_several_pixels_takes_its_own_alone(make: Maker) -> None:
    install = make("sandbox = true\n" + SITES)

    receipt = await install.backend(
        order("o-1", pixel_id="99999"), order("o-2", pixel_id="11111"), order("o-3")
    )

    assert outcomes(receipt) == [Outcome.INVALID, Outcome.PENDING, Outcome.INVALID]
    assert await install.ids("sandbox-11111") == ["o-2"]


async def test_a_backends_pages_are_held_to_the_hosts_of_its_pixels_site(
    install: Install,
) -> None:
    blog = "https://blog.example/"

    receipt = await install.backend(
        order("o-1", pixel_id="11111", event_source_url=blog),
        order("o-2", pixel_id="22222", event_source_url=blog),
        order("o-3", pixel_id="22222"),
    )

    assert outcomes(receipt) == [Outcome.FOREIGN_HOST, Outcome.PENDING, Outcome.FOREIGN_HOST]


async def test_a_shared_pixels_event_is_its_pages_sites(install: Install) -> None:
    phone = {"ph": "0170 1234567", "client_user_agent": AGENT}

    receipt = await install.backend(
        order("o-1", pixel_id="33333", user_data=phone),
        order(
            "o-2",
            pixel_id="33333",
            user_data=phone,
            event_source_url="https://www.blog.example/",
        ),
        order("o-3", pixel_id="33333", event_source_url="https://other.example/"),
    )

    assert outcomes(receipt) == [Outcome.PENDING, Outcome.PENDING, Outcome.FOREIGN_HOST]
    german, french = await install.bodies("33333")
    assert german["user_data"] != french["user_data"]


async def test_a_phone_number_is_read_by_its_sites_country(make: Maker) -> None:
    install = make(SITES + '[[site]]\nhosts = ["x.example"]\npixels = [{id = "44444"}]\n')

    async def phone(pixel: str, host: str, number: str) -> object:
        user = {"ph": number, "client_user_agent": AGENT}
        url = f"https://{host}/"
        await install.backend(
            order("o-1", pixel_id=pixel, user_data=user, event_source_url=url),
            order("o-2", pixel_id=pixel, user_data=user | {"country": "at"}, event_source_url=url),
        )
        return [body["user_data"] for body in await install.bodies(pixel)]

    def hashed(told: object) -> list[object]:
        assert isinstance(told, list)
        return [user["ph"] for user in told]

    german = hashed(await phone("11111", "shop.example", "0170 1234567"))
    french = hashed(await phone("22222", "blog.example", "0170 1234567"))
    international = hashed(await phone("44444", "x.example", "+49 170 1234567"))

    assert german[0] == international[0]
    assert german[0] != french[0]
    assert german[1] == french[1]  # the event's own country goes first


async def test_a_backends_denial_is_not_kept_whatever_the_sites_policy(install: Install) -> None:
    receipt = await install.backend(
        order("o-1", pixel_id="11111", consent="denied"),
        order("o-2", pixel_id="11111"),
        order("o-3", pixel_id="22222", event_source_url="https://blog.example/"),
    )

    assert outcomes(receipt) == [Outcome.NO_CONSENT, Outcome.PENDING, Outcome.PENDING]
    assert await install.ledger() == {
        "11111": {"accepted": 2, "pending": 1, "no_consent": 1},
        "22222": {"accepted": 1, "pending": 1},
    }
    assert [line.note.event_id for line in await install.store.events(limit=9)] == ["o-2", "o-3"]


async def test_one_event_that_cannot_be_read_does_not_take_its_neighbours(
    install: Install,
) -> None:
    receipt = await install.backend({"event_id": "x"}, order("o-2", pixel_id="11111"))

    assert (outcomes(receipt), fields(receipt)) == (
        [Outcome.INVALID, Outcome.PENDING],
        ["event_name", None],
    )


# --- requests taken whole or not at all ------------------------------------------------------

GOOD = order("o-1", pixel_id="11111")


@pytest.mark.parametrize(
    ("bad", "field", "outcome"),
    [
        pytest.param({"event_id": "x"}, "event_name", Outcome.INVALID, id="unreadable"),
        pytest.param("no event", "", Outcome.INVALID, id="no object"),
        pytest.param(order(pixel_id="99999"), "pixel_id", Outcome.INVALID, id="foreign pixel"),
        pytest.param(order(), "pixel_id", Outcome.INVALID, id="no pixel"),
        pytest.param(
            order(pixel_id="11111", custom_data={"value": 1}),
            "custom_data.currency",
            Outcome.INVALID,
            id="no currency",
        ),
        pytest.param(
            order(pixel_id="11111", event_time=NOW // 1000 - 8 * 86_400),
            "event_time",
            Outcome.TOO_OLD,
            id="too old",
        ),
        pytest.param(
            order(pixel_id="11111", event_source_url="https://other.example/"),
            "url",
            Outcome.FOREIGN_HOST,
            id="foreign host",
        ),
    ],
)
@pytest.mark.parametrize("first", [True, False], ids=["first", "last"])
async def test_one_bad_event_refuses_graphs_request_whole(
    install: Install, bad: object, field: str, outcome: Outcome, *, first: bool
) -> None:
    await install.backend(order("before", pixel_id="11111"))
    ledger, woken = await install.ledger(), install.woken
    events = [bad, GOOD] if first else [GOOD, bad]

    with pytest.raises(Refused) as raised:
        await install.backend(*events, source=Source.GRAPH)

    judged = raised.value.judged
    assert judged.index == events.index(bad)
    assert judged.outcome is outcome
    assert judged.problem is not None
    assert judged.problem.field == field
    assert await install.ledger() == ledger
    assert len(await install.store.events(limit=9)) == 1
    assert install.woken == woken
    # Nor is its id taken: the request can be repeated once it is mended.
    assert outcomes(await install.backend(GOOD, source=Source.GRAPH)) == [Outcome.PENDING]


async def test_graphs_request_that_cannot_be_read_leaves_nothing(install: Install) -> None:
    facts = Facts(source=Source.GRAPH, now_ms=NOW)

    with pytest.raises(HitInvalid):
        await install.ingest.accept(b"no JSON", facts, None)

    assert await install.ledger() == {}


async def test_graphs_request_is_on_disk_when_it_is_answered(
    install: Install, tmp_path: Path
) -> None:
    other = order("o-2", pixel_id="22222", event_source_url="https://blog.example/")

    receipt = await install.backend(GOOD, other, source=Source.GRAPH)

    assert outcomes(receipt) == [Outcome.PENDING, Outcome.PENDING]
    assert receipt.set_cookies == ()
    assert install.woken == 1
    await install.store.close()
    again = await SqliteStore.open(tmp_path / "gateway.db", wait_s=0)
    lines = await again.ledger()
    await again.close()
    assert [(line.pixel, line.pending) for line in lines] == [("11111", 1), ("22222", 1)]


async def test_what_is_no_fault_does_not_refuse_graphs_request(install: Install) -> None:
    denied = order("o-2", pixel_id="11111", consent="denied")

    receipt = await install.backend(GOOD, GOOD, denied, source=Source.GRAPH)

    assert outcomes(receipt) == [Outcome.PENDING, Outcome.DUPLICATE, Outcome.NO_CONSENT]


# --- Limited Data Use ------------------------------------------------------------------------


def limits(body: dict[str, object]) -> tuple[object, object, object]:
    options = body.get("data_processing_options")
    country = body.get("data_processing_options_country")
    return options, country, body.get("data_processing_options_state")


UNLIMITED = (None, None, None)
LEFT_TO_META = (["LDU"], 0, 0)
OF_CALIFORNIA = (["LDU"], 1, 1000)


@pytest.mark.parametrize(
    ("policy", "address", "expected"),
    [
        ("off", CALIFORNIA, UNLIMITED),
        ("states", CALIFORNIA, OF_CALIFORNIA),
        ("states", NEW_YORK, UNLIMITED),
        ("states", CALABRIA, UNLIMITED),
        ("states", NOWHERE, UNLIMITED),
        ("always", CALIFORNIA, OF_CALIFORNIA),
        ("always", NEW_YORK, LEFT_TO_META),
        ("always", CALABRIA, LEFT_TO_META),
        ("always", NOWHERE, LEFT_TO_META),
    ],
)
async def test_a_visitor_is_limited_by_where_the_address_is(
    make: Maker, policy: str, address: str, expected: tuple[object, object, object]
) -> None:
    install = make(f'limited_data_use = "{policy}"\n{ONE_PIXEL}')
    (site,) = install.settings.sites
    user = {"em": "jo@mail.example", "client_user_agent": AGENT, "client_ip_address": address}

    page = await install.page(site, "https://x.example/", address=address)
    backend = await install.backend(order(user_data=user))

    assert outcomes(page) == outcomes(backend) == [Outcome.PENDING]
    assert [limits(body) for body in await install.bodies("11111")] == [expected, expected]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"data_processing_options": []}, ([], None, None)),
        (
            {
                "data_processing_options": ["LDU"],
                "data_processing_options_country": 1,
                "data_processing_options_state": 1001,
            },
            (["LDU"], 1, 1001),
        ),
        ({"data_processing_options": None}, OF_CALIFORNIA),
    ],
    ids=["explicitly not", "another state", "null says nothing"],
)
@pytest.mark.parametrize("policy", ["states", "always"])
@pytest.mark.parametrize("source", [Source.BACKEND, Source.GRAPH])
async def test_what_an_event_says_of_its_processing_stays(
    make: Maker,
    policy: str,
    source: Source,
    said: dict[str, object],
    expected: tuple[object, object, object],
) -> None:
    install = make(f'limited_data_use = "{policy}"\n{ONE_PIXEL}')
    user = {"em": "jo@mail.example", "client_user_agent": AGENT, "client_ip_address": CALIFORNIA}

    await install.backend(order(user_data=user) | said, source=source)

    (body,) = await install.bodies("11111")
    assert limits(body) == expected


@pytest.mark.parametrize(
    ("told", "expected"),
    [([["LDU"], 1, 1001], (["LDU"], 1, 1001)), ([[]], ([], None, None)), ("?", OF_CALIFORNIA)],
    ids=["another state", "explicitly not", "rubbish says nothing"],
)
async def test_what_a_page_told_fbq_of_data_processing_stays(
    make: Maker, told: object, expected: tuple[object, object, object]
) -> None:
    install = make(f'limited_data_use = "states"\n{ONE_PIXEL}')
    (site,) = install.settings.sites

    await install.page(site, "https://x.example/", address=CALIFORNIA, limits=told)

    (body,) = await install.bodies("11111")
    assert limits(body) == expected


async def test_a_value_the_page_hashed_is_sent_as_it_is_and_equals_the_raw_one(make: Maker) -> None:
    install = make(ONE_PIXEL)
    (site,) = install.settings.sites
    hashed = hashlib.sha256(b"jo@mail.example").hexdigest()

    for event_id, email in (("e-1", hashed), ("e-2", "Jo@Mail.example ")):
        await install.page(site, "https://x.example/", event_id, user={"em": email})

    users = [body["user_data"] for body in await install.bodies("11111")]
    assert [u["em"][0] for u in users if isinstance(u, dict)] == [hashed, hashed]


# --- too much to do --------------------------------------------------------------------------


async def test_a_full_backlog_refuses_all_unread_and_a_high_one_what_matters_least(
    make: Maker,
) -> None:
    install = make(ONE_PIXEL)
    (site,) = install.settings.sites
    purchase = order("p")
    with install.backlog.holding(ITEMS, 0):
        with pytest.raises(StoreBusy):
            await install.ingest.accept(b"no JSON", Facts(source=Source.PAGE, now_ms=NOW), site)
        with pytest.raises(StoreBusy):
            await install.backend(purchase)
    with install.backlog.holding(ITEMS - 1, 0):
        with pytest.raises(StoreBusy):
            await install.page(site, "https://shop.example/", "view")
        receipt = await install.backend(purchase)
        assert receipt.judged[0].outcome is Outcome.PENDING
    assert await install.ids("11111") == ["p"]
    await install.page(site, "https://shop.example/", "view")
    assert await install.ids("11111") == ["view"]


async def test_a_backend_s_thousand_events_do_not_keep_a_visitor_waiting(make: Maker) -> None:
    install = make(ONE_PIXEL)
    (site,) = install.settings.sites
    many = [order(f"many-{n}") for n in range(1000)]
    batch = asyncio.create_task(install.backend(*many))
    await asyncio.sleep(0)  # it has begun
    await install.page(site, "https://shop.example/", "view")
    assert not batch.done()
    assert len((await batch).judged) == 1000


# --- waiting for the other half --------------------------------------------------------------

TEN_S = "10"
ONE_SITE = """
[[site]]
hosts = ["shop.example"]
consent = "off"
pixels = [{id = "11111"}]
"""


async def lead(install: Install, **more: object) -> Outcome:
    """A page's half of o-1, as a Lead."""
    one = {"name": "Lead", "id": "o-1", "url": "https://shop.example/", **more}
    facts = Facts(source=Source.PAGE, now_ms=NOW, host="shop.example", agent=AGENT)
    body = json.dumps({"events": [one]}).encode()
    receipt = await install.ingest.accept(body, facts, install.settings.sites[0])
    return receipt.judged[0].outcome


async def due(install: Install, at_ms: int) -> int:
    """How many events of 11111 are due."""
    claimed = await install.store.claim(
        "11111", now_ms=at_ms, lease_ms=at_ms + 1, limit=9, max_bytes=10**6
    )
    return len(claimed)


@pytest.mark.parametrize("name", sorted(CONVERSIONS))
async def test_a_conversion_is_held_for_as_long_as_is_set(make: Maker, name: str) -> None:
    install = make(ONE_SITE, GATEWAY_HOLD_SECONDS=TEN_S)

    receipt = await install.backend(order(event_name=name))

    assert outcomes(receipt) == [Outcome.HELD]
    assert await due(install, NOW + 9_999) == 0
    assert await due(install, NOW + 10_000) == 1


@pytest.mark.parametrize("name", ["PageView", "AddToCart", "Own"])
async def test_other_events_go_at_once(make: Maker, name: str) -> None:
    install = make(ONE_SITE, GATEWAY_HOLD_SECONDS=TEN_S)

    receipt = await install.backend(order(event_name=name))

    assert outcomes(receipt) == [Outcome.PENDING]
    assert await due(install, NOW) == 1


async def test_an_event_that_is_almost_too_old_does_not_wait(make: Maker) -> None:
    install = make(ONE_SITE, GATEWAY_HOLD_SECONDS="3600")
    hour, last = 3600, NOW // 1000 - 7 * 86_400 + 3600

    receipt = await install.backend(
        order("o-1", event_time=last + 2 * hour), order("o-2", event_time=last + 2 * hour + 1)
    )

    assert outcomes(receipt) == [Outcome.PENDING, Outcome.HELD]


@pytest.mark.parametrize("backend", [Source.BACKEND, Source.GRAPH])
async def test_a_page_and_a_backend_are_two_halves(make: Maker, backend: Source) -> None:
    install = make(ONE_SITE, GATEWAY_HOLD_SECONDS=TEN_S)

    assert await lead(install) is Outcome.HELD
    assert await lead(install) is Outcome.DUPLICATE
    assert await lead(install, data={"currency": "EUR"}) is Outcome.MERGED
    half = order(event_name="Lead", pixel_id="11111")
    assert outcomes(await install.backend(half, source=backend)) == [Outcome.MERGED]

    [body] = await install.bodies("11111")
    assert body["custom_data"] == half["custom_data"]
    assert await lead(install) is Outcome.DUPLICATE


def agentless(**more: object) -> dict[str, object]:
    """A backend's half that leaves the browser to the page."""
    user = {"em": "jo@mail.example"}
    return order() | {"event_name": "Lead", "user_data": user} | more


async def test_a_backends_half_waits_for_the_page_to_say_which_browser_it_was(make: Maker) -> None:
    install = make(ONE_SITE, GATEWAY_HOLD_SECONDS=TEN_S)

    [waits] = (await install.backend(agentless())).judged
    assert waits.outcome is Outcome.HELD
    [warning] = waits.warnings
    assert warning.startswith("user_data.client_user_agent: ")
    [line] = await install.store.events(limit=9)
    assert line.reason == warning
    assert await due(install, NOW + 599_999) == 0
    assert await lead(install) is Outcome.MERGED
    [line, _copy] = await install.store.events(limit=9)
    assert (line.outcome, line.reason) == (Outcome.PENDING, "")

    [body] = await install.bodies("11111")
    known = body["user_data"]
    assert isinstance(known, dict)
    assert known["client_user_agent"] == AGENT
    assert known["em"] == [hashlib.sha256(b"jo@mail.example").hexdigest()]


async def test_a_half_that_is_merged_at_once_is_warned_of_nothing(make: Maker) -> None:
    install = make(ONE_SITE, GATEWAY_HOLD_SECONDS=TEN_S)

    assert await lead(install) is Outcome.HELD
    [merged] = (await install.backend(agentless())).judged

    assert (merged.outcome, merged.warnings) == (Outcome.MERGED, ())


async def test_a_pages_purchase_waits_for_the_backend_to_name_its_value(make: Maker) -> None:
    install = make(ONE_SITE, GATEWAY_HOLD_SECONDS=TEN_S)

    assert await lead(install, name="Purchase") is Outcome.HELD
    assert outcomes(await install.backend(order())) == [Outcome.MERGED]

    [body] = await install.bodies("11111")
    assert body["custom_data"] == order()["custom_data"]


@pytest.mark.parametrize(
    ("event", "source", "hold_s"),
    [
        pytest.param(agentless(), Source.BACKEND, "0", id="nothing is held"),
        pytest.param(agentless(event_name="Own"), Source.BACKEND, TEN_S, id="no conversion"),
        pytest.param(agentless(pixel_id="11111"), Source.GRAPH, TEN_S, id="by Graph's API"),
        pytest.param(agentless(action_source="web"), Source.BACKEND, TEN_S, id="wrong as well"),
        pytest.param(agentless(event_id=""), Source.BACKEND, TEN_S, id="no id to share"),
    ],
)
async def test_what_lacks_something_and_cannot_wait_for_it_is_invalid(
    make: Maker, event: dict[str, object], source: Source, hold_s: str
) -> None:
    install = make(ONE_SITE, GATEWAY_HOLD_SECONDS=hold_s)

    if source is Source.GRAPH:
        with pytest.raises(Refused, match="client_user_agent"):
            await install.backend(event, source=source)
    else:
        assert outcomes(await install.backend(event)) == [Outcome.INVALID]


async def test_what_pages_may_not_send_is_not_left_to_them(make: Maker) -> None:
    install = make(ONE_SITE, GATEWAY_HOLD_SECONDS=TEN_S, GATEWAY_BROWSER_EVENTS="PageView,Purchase")

    assert outcomes(await install.backend(agentless())) == [Outcome.INVALID]
    assert outcomes(await install.backend(agentless(event_name="Purchase"))) == [Outcome.HELD]


async def test_what_no_copy_completes_is_invalid_in_the_end_and_not_in_the_way(make: Maker) -> None:
    install = make(ONE_SITE, GATEWAY_HOLD_SECONDS=TEN_S)

    assert outcomes(await install.backend(agentless())) == [Outcome.HELD]
    assert await due(install, NOW + 600_000) == 0
    [line] = await install.store.events(limit=9)
    assert (line.outcome, line.reason) == (
        Outcome.INVALID,
        "user_data.client_user_agent: a website event needs the visitor's user agent; "
        "left to another copy of the event",
    )
    assert await lead(install) is Outcome.HELD
    assert await install.ledger() == {"11111": {"accepted": 2, "invalid": 1, "pending": 1}}


async def test_a_valueless_copy_of_the_pixels_does_not_suppress_the_backends(make: Maker) -> None:
    install = make(ONE_SITE, GATEWAY_HOLD_SECONDS=TEN_S, GATEWAY_BROWSER_DUPLICATES="suppress")

    assert await lead(install, name="Purchase", pixel=True) is Outcome.HELD
    assert outcomes(await install.backend(order())) == [Outcome.MERGED]


async def test_a_wait_that_goes_on_for_one_pixel_is_the_answer(make: Maker) -> None:
    install = make(SITES, GATEWAY_HOLD_SECONDS=TEN_S)
    shop = {"pixel_id": "11111", "event_name": "Lead"}
    await install.backend(order(**shop))

    # Merged for 11111, new and held for 33333.
    assert await lead(install) is Outcome.HELD
    assert await lead(install) is Outcome.DUPLICATE


async def test_what_the_pixel_has_is_forwarded_unless_told_otherwise(make: Maker) -> None:
    install = make(ONE_SITE, GATEWAY_HOLD_SECONDS=TEN_S)

    assert await lead(install, pixel=True) is Outcome.HELD


async def test_what_the_pixel_has_is_suppressed_when_told(make: Maker) -> None:
    install = make(ONE_SITE, GATEWAY_BROWSER_DUPLICATES="suppress")

    assert await lead(install, pixel=True) is Outcome.SUPPRESSED
    assert outcomes(await install.backend(order(event_name="Lead"))) == [Outcome.SUPPRESSED]
    assert await install.ledger() == {"11111": {"accepted": 2, "suppressed": 2}}
