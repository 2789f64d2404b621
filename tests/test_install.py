"""What belongs to one install: made once, kept private, never made anew."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from gateway import config, install, slugs
from gateway.config import Settings, Site
from gateway.errors import StoreUnwritable
from gateway.secret import Secret

SLUG = re.compile(r"(?=.*[0-9])(?=.*[g-z])[a-z][a-z0-9]{6,13}")
# No name may hold one of these; filter lists hunt for them.
HUNTED = ("fb", "gtm", "pixel", "track", "collect", "capi", "meta", "tag", "log", "stat", "ads")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return config.load({"GATEWAY_STORE": f"sqlite:///{tmp_path}/data/gateway.db"})


def only(settings: Settings) -> Site:
    (site,) = settings.sites
    return site


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_sites_slug_is_the_one_that_is_set_else_by_its_name(settings: Settings) -> None:
    made = install.open_install(settings)
    plain = only(settings)
    shop, blog = (replace(plain, name=name) for name in ("shop.example", "blog.example"))

    assert made.slug_of(replace(shop, slug="k3vq8w2mzp")) == "k3vq8w2mzp"
    assert made.slug_of(shop) == slugs.derived(made.secret.reveal(), "shop.example")
    assert len({made.slug_of(site) for site in (plain, shop, blog)}) == 3
    # What else a site says is none of its path's business.
    assert made.slug_of(replace(shop, hosts=("x.example",), pixels=())) == made.slug_of(shop)


def test_the_first_open_makes_everything_and_announces_what_is_to_be_seen(
    settings: Settings,
) -> None:
    made = install.open_install(settings)

    assert [what for what, _ in made.announced] == ["backend API key", "dashboard password"]
    assert dict(made.announced)["backend API key"] == made.api_key
    assert re.fullmatch(r"gwk_[0-9a-f]{8}_[\w-]{32}", made.api_key)
    assert re.fullmatch(r"[0-9a-f]{64}", made.secret)
    assert made.slug_of(only(settings)) == slugs.derived(made.secret)
    assert re.fullmatch(r"_[a-z][a-z0-9]{4}", made.seal.name)


def test_the_files_are_the_owners_alone(settings: Settings) -> None:
    install.open_install(settings)

    files = {path.name: mode(path) for path in settings.data_dir.iterdir()}
    assert files == {"secret": 0o600, "api_key": 0o600, "admin_password_hash": 0o600}
    assert mode(settings.data_dir) == 0o700


def test_the_second_open_changes_nothing_and_announces_nothing(settings: Settings) -> None:
    first = install.open_install(settings)
    before = {path.name: path.read_bytes() for path in settings.data_dir.iterdir()}

    second = install.open_install(settings)

    assert second == replace(first, announced=())
    assert {path.name: path.read_bytes() for path in settings.data_dir.iterdir()} == before


def test_the_password_is_kept_only_as_a_hash(settings: Settings) -> None:
    made = install.open_install(settings)
    password = dict(made.announced)["dashboard password"]

    kept = b"".join(path.read_bytes() for path in settings.data_dir.iterdir())
    assert password.encode() not in kept
    assert made.admits(password)
    assert not made.admits(password + "x")
    assert not made.admits("")
    assert install.open_install(settings).admits(password)


def test_what_is_set_by_hand_is_used_and_neither_kept_nor_announced(settings: Settings) -> None:
    site = replace(only(settings), slug="k3vq8w2mzp")
    chosen = replace(
        settings, api_key=Secret("own"), admin_password=Secret("pass word"), sites=(site,)
    )

    made = install.open_install(chosen)

    assert (made.api_key, made.slug_of(site), made.announced) == ("own", "k3vq8w2mzp", ())
    assert made.admits("pass word")
    assert not made.admits("other")
    assert [path.name for path in settings.data_dir.iterdir()] == ["secret"]


def test_with_a_set_secret_installs_are_the_same_everywhere(
    settings: Settings, tmp_path: Path
) -> None:
    said = replace(
        settings, secret=Secret("s" * 32), api_key=Secret("own"), admin_password=Secret("pass")
    )
    one = install.open_install(said)
    two = install.open_install(replace(said, store_path=tmp_path / "b" / "gateway.db"))

    assert one == two
    assert one.slug_of(only(settings)) == slugs.derived("s" * 32)
    # Nothing had to be kept, so nothing was: a read-only container can do this.
    assert not settings.data_dir.exists()
    assert not (tmp_path / "b").exists()


def test_two_installs_have_nothing_in_common(settings: Settings, tmp_path: Path) -> None:
    one = install.open_install(settings)
    two = install.open_install(replace(settings, store_path=tmp_path / "other" / "gateway.db"))

    assert one.secret != two.secret
    assert one.slug_of(only(settings)) != two.slug_of(only(settings))
    assert one.seal.name != two.seal.name
    assert one.seal.key != two.seal.key
    assert one.cli_key != two.cli_key
    assert one.api_key != two.api_key


@pytest.mark.parametrize("folder", ["file/data", "file"], ids=["below a file", "a file"])
def test_an_unwritable_data_directory_is_said(
    settings: Settings, tmp_path: Path, folder: str
) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(StoreUnwritable, match="data directory"):
        install.open_install(replace(settings, store_path=tmp_path / folder / "gateway.db"))


@pytest.mark.parametrize("name", ["secret", "api_key", "admin_password_hash"])
def test_a_file_that_cannot_be_read_is_said(settings: Settings, name: str) -> None:
    (settings.data_dir / name).mkdir(parents=True)

    with pytest.raises(StoreUnwritable, match="data directory"):
        install.open_install(settings)


@pytest.mark.parametrize("name", ["secret", "api_key", "admin_password_hash"])
@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe"], ids=["empty", "blank", "no text"])
def test_a_damaged_file_stops_the_start(settings: Settings, name: str, content: bytes) -> None:
    # An empty secret would be everybody's: slug and operator's key would follow from nothing.
    settings.data_dir.mkdir()
    (settings.data_dir / name).write_bytes(content)

    with pytest.raises(StoreUnwritable, match=name):
        install.open_install(settings)


def test_no_repr_shows_a_secret(settings: Settings) -> None:
    made = install.open_install(settings)

    shown = repr(replace(made, announced=()))
    assert made.secret + "" not in shown
    assert made.api_key + "" not in shown
    assert made.cli_key + "" not in shown
    assert repr(made.seal.key) not in shown
