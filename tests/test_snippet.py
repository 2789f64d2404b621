"""The script as it is served, the tag, and the front servers' routes."""

import gzip
import json
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import brotli
import pytest

from gateway import config, snippet
from gateway.config import Site
from gateway.consent import Policy

SLUG = "k3vq8w2mzp"
STATIC = snippet.BUILT.parent
# Names that filter lists hunt for, and our own.
FORBIDDEN = (
    *("ads", "pixel", "fb", "meta", "capi", "track", "collect", "beacon", "analytics", "stat"),
    *("log", "event", "gtm", "tag", "gateway", "px"),
)


@pytest.fixture
def site() -> Site:
    return config.load({}).sites[0]


def rendered(site: Site, slug: str = SLUG, build: str = "full") -> dict[str, object]:
    """The settings the script begins with."""
    text = snippet.render(site, slug, build).text.decode()
    start = text.index('{"path"')
    values, _ = json.JSONDecoder().raw_decode(text[start:])
    assert isinstance(values, dict)
    return values


# A page is silent until somebody agrees, or speaks until somebody objects, or never asks.
POLICIES: dict[Policy, dict[str, object]] = {
    Policy.REQUIRED: {"consent": "wait"},
    Policy.OPT_OUT: {"gpc": True},
    Policy.OFF: {},
}


@pytest.mark.parametrize("policy", list(Policy))
def test_the_settings_are_rendered_in(site: Site, policy: Policy) -> None:
    values = rendered(replace(site, consent=policy))

    assert values == {"path": f"/{SLUG}", "name": "px"} | POLICIES[policy]


def test_what_is_asked_for_is_rendered_in(site: Site) -> None:
    shop = replace(site, cross_domain=("shop.example", "b.example"), consent=Policy.OFF)
    text = snippet.render(shop, SLUG, "full", outbound=True).text.decode()

    assert '"hosts":[".shop.example",".b.example"],"outbound":true}' in text


@pytest.mark.parametrize("build", ["core", "default", "full"])
def test_nothing_is_left_to_render(site: Site, build: str) -> None:
    text = snippet.render(site, SLUG, build).text.decode()

    assert "__SETTINGS__" not in text
    assert text.count(f'"/{SLUG}"') == 1


def test_the_compressed_script_is_the_same_script(site: Site) -> None:
    made = snippet.render(site, SLUG, "full")

    assert gzip.decompress(made.encoded["gzip"]) == made.text
    assert brotli.decompress(made.encoded["br"]) == made.text
    assert len(made.encoded["br"]) < len(made.encoded["gzip"]) < len(made.text)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The snippets as `make build` makes them now."""
    folder = tmp_path_factory.mktemp("built")
    subprocess.run(["node", "build.js", str(folder)], cwd=STATIC, check=True, timeout=60)
    return folder


# What a page loads is a promise: bytes of brotli, by the build.
LARGEST = {"full": 3072, "default": 2600, "core": 1500}


@pytest.mark.parametrize(("build", "largest"), LARGEST.items())
def test_what_is_committed_is_the_build_and_small(fresh: Path, build: str, largest: int) -> None:
    committed = (snippet.BUILT / f"{build}.js").read_bytes()

    assert committed == (fresh / f"{build}.js").read_bytes()
    assert len(brotli.compress(committed)) <= largest


@pytest.mark.parametrize("build", LARGEST)
def test_the_script_needs_nothing_a_strict_policy_forbids(build: str) -> None:
    text = (snippet.BUILT / f"{build}.js").read_text()

    assert not re.findall(
        r"\beval\b|Function\(|innerHTML|outerHTML|document\.write|insertAdj", text
    )


def test_the_etag_follows_the_settings_and_nothing_else(site: Site) -> None:
    made = snippet.render(site, SLUG, "full")

    assert re.fullmatch(r'"[0-9a-f]{16}"', made.etag)
    assert snippet.render(site, SLUG, "full") == made
    other = replace(site, name="x", hosts=("x.example",), pixels=(), default_country="de")
    assert snippet.render(other, SLUG, "full").etag == made.etag
    assert snippet.render(site, "z9xw8v7t", "full").etag != made.etag
    required = replace(site, consent=Policy.REQUIRED)
    assert snippet.render(required, SLUG, "full").etag != made.etag


def test_no_secret_is_rendered() -> None:
    (known,) = config.load(
        {
            "FB_PIXEL_ID": "1234567890123456",
            "FB_ACCESS_TOKEN": "hunter2-token",
            "GATEWAY_API_KEY": "hunter2-key",
            "GATEWAY_ADMIN_PASSWORD": "hunter2-password",
            "FB_TEST_EVENT_CODE": "TESTHUNTER2",
        }
    ).sites

    text = snippet.render(known, SLUG, "full").text

    assert b"hunter2" not in text.lower()
    assert b"1234567890123456" not in text


def test_the_tag_is_one_line_that_names_the_script() -> None:
    tag = snippet.tag("https://www.shop.example", SLUG)

    assert tag == f'<script src="https://www.shop.example/{SLUG}" async></script>'


@pytest.mark.parametrize("word", FORBIDDEN)
def test_no_hunted_word_is_in_the_tag(word: str) -> None:
    assert word not in snippet.tag("", SLUG).lower()


def test_the_tag_has_no_query() -> None:
    assert not {"?", "&", "="} & set(snippet.tag("", SLUG).split('"')[1])


TARGETS = ["nginx", "caddy", "traefik", "cloudflare"]


@pytest.mark.parametrize("target", TARGETS)
def test_a_route_names_slug_and_nothing_to_fill_in(target: str) -> None:
    text = snippet.route(target, SLUG, "10.0.0.5:8000")

    assert SLUG in text
    assert "{slug}" not in text
    assert "{gateway}" not in text
    assert text.count("{") == text.count("}")


@pytest.mark.parametrize("target", ["nginx", "caddy", "traefik"])
def test_a_route_names_the_gateway(target: str) -> None:
    assert "10.0.0.5:8000" in snippet.route(target, SLUG, "10.0.0.5:8000")


@pytest.mark.parametrize(
    ("path", "routed"),
    [
        (f"/{SLUG}", True),
        (f"/{SLUG}/h", True),
        (f"/{SLUG}/me", True),
        (f"/{SLUG}x", False),
        (f"/x/{SLUG}", False),
        ("/", False),
        ("/v1/events", False),
    ],
)
def test_nginx_routes_the_slug_and_what_is_below_it(path: str, *, routed: bool) -> None:
    (pattern,) = re.findall(r"location ~ (\S+) \{", snippet.route("nginx", SLUG, "x:1"))

    assert bool(re.search(pattern, path)) is routed


def test_another_front_server_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        snippet.route("apache", SLUG, "x:1")
