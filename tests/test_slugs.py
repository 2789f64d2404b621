"""The public paths: what they look like, that they are nobody else's, and what a rotation keeps."""

import re
from pathlib import Path

import pytest

from gateway import keys, slugs
from gateway.errors import StoreUnwritable
from gateway.slugs import GRACE_MS, Retired, Slugs

NOW = 1_764_000_000_000
SECRET = "a" * 64
SLUG = re.compile(r"(?=.*[0-9])(?=.*[g-z])[a-z][a-z0-9]{6,13}")
HUNTED = ("fb", "gtm", "pixel", "track", "collect", "capi", "meta", "tag", "log", "stat", "ads")


def test_two_thousand_slugs_obey_the_rule_and_are_all_different() -> None:
    made = [slugs.derived(f"{n:064x}") for n in range(2_000)]

    for slug in made:
        assert SLUG.fullmatch(slug), slug
        assert keys.slug(slug) == slug
        assert not any(word in slug for word in HUNTED), slug
    assert len(set(made)) == len(made)
    # One length for everybody would be a rule for a filter list.
    assert {len(slug) for slug in made} == set(range(7, 15))


def test_a_secret_has_one_slug() -> None:
    assert slugs.derived("a" * 64) == slugs.derived("a" * 64)


def test_every_site_of_an_install_has_a_slug_of_its_own() -> None:
    names = ["", *(f"shop{n}.example" for n in range(2_000))]

    made = [slugs.derived("a" * 64, name) for name in names]

    assert len(set(made)) == len(names)
    assert all(SLUG.fullmatch(slug) for slug in made)
    assert made == [slugs.derived("a" * 64, name) for name in names]


def test_a_rotation_gives_every_site_another_path_and_keeps_the_old_one_for_a_month() -> None:
    before = Slugs()
    after = before.rotated(SECRET, ["", "shop.example"], NOW)

    assert {after.of(SECRET, ""), after.of(SECRET, "shop.example")}.isdisjoint(
        {before.of(SECRET, ""), before.of(SECRET, "shop.example")}
    )
    assert set(after.retired) == {
        Retired(before.of(SECRET, name), name, NOW + GRACE_MS) for name in ("", "shop.example")
    }


def test_what_is_past_its_time_is_forgotten_at_the_next_rotation() -> None:
    first = Slugs().rotated(SECRET, [""], NOW)
    soon = first.rotated(SECRET, [""], NOW + 1)
    late = first.rotated(SECRET, [""], NOW + GRACE_MS)

    assert [old.slug for old in soon.retired] == [Slugs().of(SECRET, ""), first.of(SECRET, "")]
    assert [old.slug for old in late.retired] == [first.of(SECRET, "")]


def test_a_thousand_generations_are_a_thousand_paths() -> None:
    made = {slugs.derived(SECRET, "", generation) for generation in range(1_000)}

    assert len(made) == 1_000
    assert all(SLUG.fullmatch(slug) for slug in made)


def test_the_file_says_what_was_written_and_is_the_owner_s(tmp_path: Path) -> None:
    made = Slugs().rotated(SECRET, [""], NOW)

    assert slugs.read(tmp_path) == Slugs()
    slugs.write(tmp_path, made)

    assert slugs.read(tmp_path) == made
    assert (tmp_path / slugs.FILE).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", ["", "{", '{"generation": "x"}', "[]"])
def test_a_damaged_file_is_an_error_and_not_the_first_generation(tmp_path: Path, text: str) -> None:
    (tmp_path / slugs.FILE).write_text(text)

    with pytest.raises(StoreUnwritable, match=slugs.FILE):
        slugs.read(tmp_path)
