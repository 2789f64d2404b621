"""The script as it is served, the tag, and the front servers' routes."""

import gzip
import json
import re
from dataclasses import replace

import pytest

from gateway import config, snippet
from gateway.config import Site
from gateway.consent import Policy

SLUG = "k3vq8w2mzp"
# browser.md 3.4: names that filter lists hunt for, and our own.
FORBIDDEN = (
    *("ads", "pixel", "fb", "meta", "capi", "track", "collect", "beacon", "analytics", "stat"),
    *("log", "event", "gtm", "tag", "gateway", "px"),
)


@pytest.fixture
def site() -> Site:
    return config.load({}).sites[0]


def rendered(site: Site, slug: str = SLUG) -> dict[str, object]:
    """What the script is called with."""
    text = snippet.render(site, slug).text.decode()
    (found,) = re.findall(r"\((\{\"[^\n]*?\})\)", text)
    values: dict[str, object] = json.loads(found)
    return values


@pytest.mark.parametrize("policy", list(Policy))
def test_the_settings_are_rendered_in(site: Site, policy: Policy) -> None:
    values = rendered(replace(site, consent=policy))

    assert values["path"] == f"/{SLUG}"
    assert values["consent"] == policy.value
    assert values["name"] == "px"


def test_each_site_is_rendered_with_its_own_path_and_policy(site: Site) -> None:
    shop = rendered(replace(site, consent=Policy.REQUIRED), "k3vq8w2mzp")
    blog = rendered(replace(site, consent=Policy.OFF), "z9xw8v7t")

    assert (shop["path"], shop["consent"]) == ("/k3vq8w2mzp", "required")
    assert (blog["path"], blog["consent"]) == ("/z9xw8v7t", "off")


def test_nothing_is_left_to_render(site: Site) -> None:
    text = snippet.render(site, SLUG).text.decode()

    assert "__SETTINGS__" not in text
    assert text.count(f'"/{SLUG}"') == 1


def test_the_compressed_script_is_the_same_script(site: Site) -> None:
    made = snippet.render(site, SLUG)

    assert gzip.decompress(made.gzipped) == made.text
    assert len(made.gzipped) < len(made.text)


def test_the_etag_follows_the_settings_and_nothing_else(site: Site) -> None:
    made = snippet.render(site, SLUG)

    assert re.fullmatch(r'"[0-9a-f]{16}"', made.etag)
    assert snippet.render(site, SLUG) == made
    other = replace(site, name="x", hosts=("x.example",), pixels=(), default_country="de")
    assert snippet.render(other, SLUG).etag == made.etag
    assert snippet.render(site, "z9xw8v7t").etag != made.etag
    required = replace(site, consent=Policy.REQUIRED)
    assert snippet.render(required, SLUG).etag != made.etag


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

    text = snippet.render(known, SLUG).text

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
