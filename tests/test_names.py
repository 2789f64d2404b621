"""Names an owner could choose: those that lists hunt are named, those that mean nothing are not."""

import hashlib

import pytest

from gateway import names, slugs
from gateway.names import Kind

HUNTED = [
    (Kind.PATH, "/pixel2024"),
    (Kind.PATH, "/track12"),
    (Kind.PATH, "/hit2map"),
    (Kind.PATH, "/hitmaps2"),
    (Kind.PATH, "/topbanner4"),
    (Kind.PATH, "/fbevents1"),
    (Kind.PATH, "/FBEvents1"),
    (Kind.PATH, "/ads468x60"),
    (Kind.PATH, "/assets/fbevents.js"),
    (Kind.PATH, "/gtm.js"),
    (Kind.PATH, "/api/collect"),
    (Kind.PATH, "/events"),
    (Kind.PATH, "/capi/k3vq8w2mzp"),
    (Kind.PATH, "/k3vq"),
    (Kind.PATH, "/k3vq/k3vq8w2mzp"),
    (Kind.PATH, "/static/3f9a0c77de"),
    (Kind.PATH, "/kvqwmzpt.js?st=AB12CD34"),
    (Kind.PATH, "/k3vq8?id=G-ABC"),
    (Kind.PATH, "/k3vq8w2mzp?a=1&ev=PageView"),
    (Kind.PATH, "/k3vq8w2mzp?event=x"),
    (Kind.PATH, "/k/b.gif?x"),
    (Kind.PATH, "/k3vq8w2mzp12/" + "k3-v" * 25),
    *((Kind.HOST, f"{label}.example.com") for label in ("gtm", "sst", "ss", "metrics", "track", "capi")),
    (Kind.HOST, "METRICS.example.co.uk"),
    (Kind.HOST, "matomo.example.com"),
    (Kind.HOST, "my-ads.shop.example.com"),
    (Kind.HOST, "webanalytics.example.com"),
    (Kind.COOKIE, "_fbp"),
    (Kind.COOKIE, "_ga_ABC123"),
    (Kind.PARAMETER, "fbclid"),
    (Kind.PARAMETER, "_hsmi"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "name"), HUNTED, ids=lambda given: str(given))
def test_what_lists_hunt_is_named_with_what_to_do(kind: Kind, name: str) -> None:
    problem = names.verdict(kind, name)
    assert problem is not None
    assert problem.list
    assert problem.rule
    assert problem.instead


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (Kind.PATH, "/k3vq8w2mzp"),
        (Kind.PATH, "/k3vq8w2mzp/h"),
        (Kind.PATH, "/tea4two"),
        (Kind.PATH, "/deadbeef1x"),
        *((Kind.HOST, f"{label}.example.com") for label in ("www", "shop", "blog", "static", "catalog", "app", "m")),
        # The registrable domain is what it is.
        (Kind.HOST, "metrics.com"),
        (Kind.HOST, "analytics.co.uk"),
        (Kind.HOST, "www.analytics.co.uk"),
        (Kind.HOST, "localhost"),
        (Kind.HOST, "127.0.0.1"),
        (Kind.COOKIE, "_k3vq8"),
        (Kind.COOKIE, "_fbc"),
        (Kind.PARAMETER, "_k3vq"),
        (Kind.PARAMETER, "cid"),
    ],
    ids=lambda given: str(given),
)  # fmt: skip
def test_what_means_nothing_is_free(kind: Kind, name: str) -> None:
    assert names.verdict(kind, name) is None


def test_no_name_an_install_derives_is_called_a_problem() -> None:
    for n in range(5_000):
        slug = slugs.derived(hashlib.sha256(b"%d" % n).hexdigest())
        for kind, name in (
            (Kind.PATH, f"/{slug}"),
            (Kind.PARAMETER, f"_{slug[:4]}"),
            (Kind.COOKIE, f"_{slug[:5]}"),
        ):
            assert names.verdict(kind, name) is None, name


def test_every_rule_says_whose_it_is_and_what_to_do_instead() -> None:
    # Each is reached by a name of the table above, so none stands there for nothing.
    found = {names.verdict(kind, name) for kind, name in HUNTED}
    assert {rule.problem for rule in names._RULES} == found
