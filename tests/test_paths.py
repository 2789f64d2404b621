"""Which site answers at a path, and what is said of an old one that pages still have."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from gateway import config, install
from gateway.config import Site
from gateway.slugs import GRACE_MS, Slugs
from gateway.web.paths import DAY_MS, Paths
from gateway.web.public import Public

NOW = 1_764_000_000_000


class Clock:
    now_ms = NOW

    def __call__(self) -> int:
        return self.now_ms


class Marked(Public):
    """Routes that only say whose they are."""

    def __init__(self, site: Site, slug: str) -> None:
        self.mark = (site.name, slug)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def paths(tmp_path: Path, clock: Clock) -> Paths:
    settings = config.load({"GATEWAY_STORE": f"sqlite:///{tmp_path}/gateway.db"})
    (site,) = settings.sites
    both = replace(
        settings, sites=(replace(site, name="a.example"), replace(site, name="b.example"))
    )
    return Paths(settings=both, install=install.open_install(both), make=Marked, clock_ms=clock)


def secret_of(tmp_path: Path) -> str:
    return (tmp_path / "secret").read_text().strip()


def whose(paths: Paths, slug: str) -> str | None:
    found = paths.find(slug)
    return found.mark[0] if isinstance(found, Marked) else None


def test_every_site_has_its_path_and_after_a_rotation_its_old_one_for_a_month(
    paths: Paths, clock: Clock, tmp_path: Path
) -> None:
    names, secret = ["a.example", "b.example"], secret_of(tmp_path)
    rotated = Slugs().rotated(secret, names, NOW)
    old = [Slugs().of(secret, name) for name in names]
    new = [rotated.of(secret, name) for name in names]
    assert [whose(paths, slug) for slug in (*old, *new)] == [*names, None, None]

    paths.refresh(rotated)
    assert [whose(paths, slug) for slug in (*old, *new)] == [*names, *names]

    clock.now_ms = NOW + GRACE_MS
    assert [whose(paths, slug) for slug in (*old, *new)] == [None, None, *names]


def test_the_use_of_an_old_path_is_said_once_a_day(
    paths: Paths, clock: Clock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="gateway.web.paths")
    secret = secret_of(tmp_path)
    rotated = Slugs().rotated(secret, ["a.example"], NOW)
    paths.refresh(rotated)
    old, new = Slugs().of(secret, "a.example"), rotated.of(secret, "a.example")

    for moment in (0, 1, DAY_MS - 1, DAY_MS, DAY_MS + 1):
        clock.now_ms = NOW + moment
        paths.find(old)
        paths.find(new)

    said = [(record.message, getattr(record, "days_left", None)) for record in caplog.records]
    assert said == [
        ("a rotated path is still in use", 30),
        ("a rotated path is still in use", 29),
    ]
