"""What every browser test file shares: Chromium, the shop, Meta's stand-in and gateways with their own sandbox."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e.browser import Site, launch
from e2e.harness import CHROME, Gateway, StandIn, live
from playwright.sync_api import Browser, BrowserContext, Playwright, sync_playwright

from .firefox import Firefox
from .firefox import firefox as open_firefox
from .front import Front
from .lab import Meta
from .webkit import Proxy, Safari, WebKit, screen
from .webkit import webkit as open_webkit


# It has the thread's event loop as long as it is open, so it must not outlive these tests.
@pytest.fixture(scope="package")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as started:
        yield started


@pytest.fixture(scope="package")
def browser(playwright: Playwright) -> Iterator[Browser]:
    opened = launch(playwright)
    yield opened
    opened.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A new visitor."""
    opened = browser.new_context(user_agent=CHROME)
    opened.set_default_timeout(15_000)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with Site() as served:
        yield served


@pytest.fixture(scope="session")
def _meta() -> Iterator[Meta]:
    with Meta() as stand_in:
        yield stand_in


@pytest.fixture
def meta(_meta: Meta) -> Meta:
    """With nothing recorded yet."""
    _meta.fired.clear()
    return _meta


def _gateway(
    tmp_path_factory: pytest.TempPathFactory, policy: str, **more: str
) -> Iterator[Gateway]:
    env = {"GATEWAY_SANDBOX": "true", "GATEWAY_CONSENT": policy, **more}
    with Gateway(tmp_path_factory.mktemp(policy), env) as started:
        yield started.start()


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Consent is opt-out."""
    yield from _gateway(tmp_path_factory, "opt-out")


@pytest.fixture(scope="session")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Consent is required."""
    yield from _gateway(tmp_path_factory, "required")


@pytest.fixture(scope="session")
def outward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Counts links to other sites."""
    yield from _gateway(tmp_path_factory, "opt-out", GATEWAY_OUTBOUND_LINKS="true")


@pytest.fixture(scope="session")
def crossing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Two hosts are one site."""
    hosts = "shop.example,checkout.example"
    yield from _gateway(tmp_path_factory, "opt-out", GATEWAY_CROSS_DOMAIN=hosts)


@pytest.fixture(scope="package")
def _front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    folder = tmp_path_factory.mktemp("front")
    with StandIn(folder / "graph") as graph:
        env = live(graph.start().url, GATEWAY_TRUSTED_PROXIES="127.0.0.1")
        with Gateway(folder, env) as gateway, Front(gateway.start(), graph, folder) as served:
            yield served


@pytest.fixture
def front(_front: Front) -> Front:
    """The shop at its own name, with no page and nothing recorded yet."""
    _front.documents.clear()
    _front.asked.clear()
    _front.before = lambda _path: None
    return _front


@pytest.fixture(scope="package")
def firefox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Firefox]:
    with open_firefox(tmp_path_factory.mktemp("firefox")) as window:
        yield window


@pytest.fixture(scope="package")
def _screen() -> Iterator[str]:
    with screen() as name:
        yield name


@pytest.fixture(scope="package")
def _proxy(_front: Front) -> Iterator[Proxy]:
    with Proxy(_front.port) as proxy:
        yield proxy


@pytest.fixture(scope="package")
def webkit(
    tmp_path_factory: pytest.TempPathFactory, _screen: str, _proxy: Proxy
) -> Iterator[WebKit]:
    with open_webkit(tmp_path_factory.mktemp("webkit"), _screen, _proxy) as window:
        yield window


@pytest.fixture
def safari(tmp_path: Path, _screen: str, _proxy: Proxy) -> Safari:
    """A new visitor."""
    return Safari(tmp_path, _screen, _proxy)
