"""What every browser test file shares: Chromium, the shop, Meta's stand-in and gateways with their own sandbox."""

from collections.abc import Iterator

import pytest
from e2e.browser import Site, launch
from e2e.harness import CHROME, Gateway
from playwright.sync_api import Browser, BrowserContext, Playwright, sync_playwright

from .front import Front
from .lab import Meta


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


@pytest.fixture(scope="session")
def _front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    env = {"GATEWAY_SANDBOX": "true", "GATEWAY_TRUSTED_PROXIES": "127.0.0.1"}
    folder = tmp_path_factory.mktemp("front")
    with Gateway(folder / "gateway", env) as gateway, Front(gateway.start(), folder) as served:
        yield served


@pytest.fixture
def front(_front: Front) -> Front:
    """The shop at its own name, with no page and nothing recorded yet."""
    _front.documents.clear()
    _front.asked.clear()
    return _front
