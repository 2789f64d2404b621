"""The settings: one TOML file, every key overridden from the environment, checked before anything starts.

What can be set is `keys`' to say; here it is read, and sites and pixels are put together.
"""

import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.consent import Policy
from gateway.errors import SettingsError
from gateway.keys import BY_NAME, EMBEDDED, KEYS, PIXEL_KEYS, SITE_KEYS, TOKEN_FILE, Key
from gateway.secret import Secret

SANDBOX_PIXEL = "1000000000000000"
"""the id batches carry when the sandbox runs without a pixel of the owner's"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pixel:
    """Where events go."""

    id: str
    access_token: Secret | None
    test_event_code: str | None
    sandbox: bool

    @property
    def lane(self) -> str:
        """The store's name for it. Sandbox events have their own, so that they never reach Meta."""
        return f"sandbox-{self.id}" if self.sandbox else self.id


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One website: which pages it answers for, and what is done with their events."""

    name: str
    """its first host when there are several sites, else empty; the path is derived from it"""
    hosts: tuple[str, ...]
    pixels: tuple[Pixel, ...]
    slug: str | None
    cookie_domain: str | None
    cross_domain: tuple[str, ...]
    """other hosts of the owner's, with which visitors' ids are shared"""
    consent: Policy
    default_country: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that can be set, in its final form."""

    sites: tuple[Site, ...]
    store: str
    store_path: Path
    """the embedded store's file; with another store its folder still holds the secret"""
    store_max_bytes: int
    secret: Secret | None
    api_key: Secret | None
    admin_password: Secret | None
    browser_events: frozenset[str] | None
    snippet: str
    noscript: bool
    outbound_links: bool
    limited_data_use: str
    hash_alternates: bool
    graph_url: str
    graph_version: str
    rate_per_second: float
    hits_per_address: float
    trusted_proxies: tuple[str, ...]
    geoip_database: Path | None
    hold_seconds: float
    browser_duplicates: str
    host: str
    port: int
    admin_host: str
    admin_port: int
    drain_seconds: float
    log_level: str
    log_format: str | None
    file: Path | None
    """the settings file that was named; None: ./gateway.toml, if it is there"""
    files: tuple[Path, ...]
    """what was read; a change of one may hold a new token"""

    @property
    def embedded(self) -> bool:
        """Whether the store is a file of this process alone."""
        return self.store.startswith(EMBEDDED)

    @property
    def data_dir(self) -> Path:
        """Where the install's secret and the embedded store live."""
        return self.store_path.parent

    @property
    def pixels(self) -> tuple[Pixel, ...]:
        """Every pixel of every site, once."""
        return tuple({pixel.lane: pixel for site in self.sites for pixel in site.pixels}.values())

    @property
    def sandbox(self) -> bool:
        """Whether nothing goes to Meta."""
        return any(pixel.sandbox for pixel in self.pixels)


_OTHER_VARIABLES = frozenset({"GATEWAY_CONFIG"})
_BELONGS = "with several pixels it belongs into [[site]]"


def load(
    environ: Mapping[str, str],
    *,
    file: Path | None = None,
    options: Mapping[str, Any] | None = None,
) -> Settings:
    """Settings from command-line options, over the environment, over the file, over the defaults.

    `file`: else GATEWAY_CONFIG, else ./gateway.toml when it is there. Raises SettingsError.
    """
    files: list[Path] = []
    values = {key.name: key.default for key in KEYS}
    from_file, tables = _from_file(file, environ, files)
    values |= from_file
    values |= _from_environment(environ, files)
    for name, value in (options or {}).items():
        if value is not None:
            values[name] = _read(BY_NAME[name], value, f"--{name.replace('_', '-')}")
    if tables:
        _nothing_of_one_pixel(environ)
        sites = tuple(_site(values, *table) for table in tables)
        _one_owner_each(sites)
    else:
        sites = (_only_site(values),)
    rest = {name: values[name] for name in Settings.__dataclass_fields__ if name in values}
    store = values["store"] if values["store"].startswith(EMBEDDED) else BY_NAME["store"].default
    path = Path(store.removeprefix(EMBEDDED)).expanduser().absolute()
    named = file or (Path(environ["GATEWAY_CONFIG"]) if environ.get("GATEWAY_CONFIG") else None)
    return Settings(sites=sites, store_path=path, file=named, files=tuple(files), **rest)


# --- sites -----------------------------------------------------------------------------------


def _only_site(values: Mapping[str, Any]) -> Site:
    """The site the plain keys describe."""
    if values["access_token"] and not values["pixel_id"] and not values["sandbox"]:
        raise SettingsError(
            "FB_PIXEL_ID is missing: an access token is set, but not the pixel it belongs to"
        )
    return _site(values, {}, [{}], "")


def _site(
    values: Mapping[str, Any], own: Mapping[str, Any], pixels: list[dict[str, Any]], name: str
) -> Site:
    values = {**values, **own}
    return Site(
        name=name,
        hosts=values["site_hosts"],
        pixels=tuple(_pixel({**values, **pixel}) for pixel in pixels),
        slug=values["slug"],
        cookie_domain=values["cookie_domain"],
        cross_domain=values["cross_domain"],
        consent=values["consent"],
        default_country=values["default_country"],
    )


def _pixel(values: Mapping[str, Any]) -> Pixel:
    sandbox = values["sandbox"] or not values["pixel_id"]
    return Pixel(
        id=values["pixel_id"] or SANDBOX_PIXEL,
        access_token=Secret("sandbox") if sandbox else values["access_token"],
        test_event_code=values["test_event_code"],
        sandbox=sandbox,
    )


def _one_owner_each(sites: tuple[Site, ...]) -> None:
    """Raises when two sites claim one path, one host, or one pixel with two tokens."""
    for what, claims in (
        ("slug", [site.slug for site in sites if site.slug]),
        ("host", [host for site in sites for host in set(site.hosts)]),
    ):
        for claim in claims:
            if claims.count(claim) > 1:
                raise SettingsError(f"site: two sites have the {what} {claim}")
    if sum(not (site.slug or site.name) for site in sites) > 1:
        raise SettingsError("site.hosts: expected for every site, or two have the same path")
    pixels: dict[str, Pixel] = {}
    for site in sites:
        if not site.pixels:
            raise SettingsError("site.pixels: expected at least one pixel for every site")
        if len({pixel.id for pixel in site.pixels}) < len(site.pixels):
            raise SettingsError("site.pixels: a pixel is there twice")
        for pixel in site.pixels:
            other = pixels.setdefault(pixel.id, pixel)
            if other.access_token != pixel.access_token:
                raise SettingsError(f"site: the pixel {pixel.id} has two access tokens")
            if other.test_event_code != pixel.test_event_code:
                raise SettingsError(f"site: the pixel {pixel.id} has two test event codes")


# --- the file --------------------------------------------------------------------------------

_Table = tuple[dict[str, Any], list[dict[str, Any]], str]
"""a site's own values, its pixels' values, and its name"""


def _from_file(
    file: Path | None, environ: Mapping[str, str], files: list[Path]
) -> tuple[dict[str, Any], list[_Table]]:
    """The plain values, and one table a site where there are several sites or pixels."""
    named = file or (Path(p) if (p := environ.get("GATEWAY_CONFIG")) else None)
    path = named or Path("gateway.toml")
    if named is None and not path.exists():
        return {}, []
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not valid TOML: {error}") from None
    files.append(path.absolute())
    raw_sites = _list_of_tables(table.pop("site", []), f"{path}: site", "[[site]]")
    sites = [_read_site(site, path, files, several=len(raw_sites) > 1) for site in raw_sites]
    values = _read_table(table, {key.name: key.name for key in KEYS}, f"{path}: ", "site")
    if len(sites) == 1 and len(sites[0][1]) <= 1:
        # One site with one pixel is the same as the plain keys, which the environment overrides.
        own, pixels, _ = sites[0]
        return {**values, **own, **(pixels[0] if pixels else {})}, []
    for name in ("pixel_id", "access_token", "test_event_code", "slug", "site_hosts"):
        if sites and name in values:
            raise SettingsError(f"{path}: {name}: {_BELONGS}")
    return values, sites


def _read_site(site: dict[str, Any], path: Path, files: list[Path], *, several: bool) -> _Table:
    site = dict(site)
    raw_pixels = _list_of_tables(site.pop("pixels", []), f"{path}: site.pixels", "[{id = …}]")
    own = _read_table(site, SITE_KEYS, f"{path}: site.", "pixels")
    pixels = []
    for raw in raw_pixels:
        raw = dict(raw)
        token_file = raw.pop(TOKEN_FILE, None)
        pixel = _read_table(raw, PIXEL_KEYS, f"{path}: site.pixels.", TOKEN_FILE)
        if token_file is not None:
            where = f"{path}: site.pixels.{TOKEN_FILE}"
            pixel["access_token"] = _from_secret_file(
                BY_NAME["access_token"], str(token_file), where, files
            )
        if "pixel_id" not in pixel:
            raise SettingsError(f"{path}: site.pixels.id: expected the pixel's number")
        pixels.append(pixel)
    # The path follows from the name: another pixel of the only site must not change it.
    hosts = own.get("site_hosts") if several else None
    return own, pixels, (hosts or ("",))[0]


def _list_of_tables(given: Any, where: str, shape: str) -> list[dict[str, Any]]:
    if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
        raise SettingsError(f"{where}: expected a list of tables, written {shape}")
    return given


def _read_table(
    table: Mapping[str, Any], names: Mapping[str, str], where: str, beside: str
) -> dict[str, Any]:
    """Values by the names of `KEYS`, from a table with names of its own.

    `beside`: what else may stand there, for the hint at a name that may not.
    """
    values = {}
    for name, value in table.items():
        if name not in names:
            raise SettingsError(f"{where}{name} is not a setting{_near(name, [*names, beside])}")
        values[names[name]] = _read(BY_NAME[names[name]], value, where + name)
    return values


def _from_secret_file(key: Key, name: str, where: str, files: list[Path]) -> Any:
    path = Path(name)
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):  # no text, or a name no file can have
        raise SettingsError(f"{where}: the file cannot be read") from None
    files.append(path.absolute())
    return _read(key, text, where)


# --- the environment -------------------------------------------------------------------------


def _from_environment(environ: Mapping[str, str], secret_files: list[Path]) -> dict[str, Any]:
    known = {v: key for key in KEYS for v in reversed(key.variables)}
    files = {f"{v}_FILE": key for v, key in known.items() if key.secret}
    for variable in environ:
        if (
            variable.startswith("GATEWAY_")
            and variable not in known
            and variable not in files
            and variable not in _OTHER_VARIABLES
        ):
            raise SettingsError(f"{variable} is not a setting{_near(variable, known)}")
    values = {}
    for variable, key in known.items():
        if text := environ.get(variable):
            values[key.name] = _read(key, text, variable)
    for variable, key in files.items():
        if name := environ.get(variable):
            values[key.name] = _from_secret_file(key, name, variable, secret_files)
    return values


def _nothing_of_one_pixel(environ: Mapping[str, str]) -> None:
    """Raises for a variable of one pixel: its token would be every other's that has none."""
    for name in PIXEL_KEYS.values():
        for variable in BY_NAME[name].variables:
            for written in (variable, f"{variable}_FILE"):
                if environ.get(written):
                    raise SettingsError(f"{written}: {_BELONGS}")


def _read(key: Key, value: Any, where: str) -> Any:
    try:
        return key.read(value)
    except ValueError as error:
        # A URL may hold a password, and a token is easily pasted where the pixel belongs.
        hidden = key.secret or key.name == "pixel_id"
        given = "" if hidden else ", not " + re.sub(r"//.*@", "//***@", repr(value))
        raise SettingsError(f"{where}: expected {error}{given}") from None


def _near(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean {close[0]}?" if close else ""


def from_process(file: Path | None = None, options: Mapping[str, Any] | None = None) -> Settings:
    """Settings of this process. Raises SettingsError."""
    return load(os.environ, file=file, options=options)
