"""Where an address is: a City database read through geoip2. No database, no place."""

from collections.abc import Callable
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

import geoip2.database
import geoip2.errors
import maxminddb

from gateway.enrich import Place
from gateway.errors import SettingsError

NOWHERE = Place()
_CACHED = 8192


def open_places(path: Path | None) -> Callable[[str], Place]:
    """A function from an address to its place; an address that is not in the file is nowhere.

    Raises SettingsError when the file cannot be read or is not a City database.
    """
    if path is None:
        return lambda _address: NOWHERE
    try:
        reader = geoip2.database.Reader(path)
    except OSError as error:
        raise SettingsError(f"geoip_database: {path} cannot be read: {error.strerror}") from None
    except (maxminddb.InvalidDatabaseError, ValueError):
        raise SettingsError(f"geoip_database: {path} is not an .mmdb file") from None
    if "City" not in reader.metadata().database_type:
        kind = reader.metadata().database_type
        raise SettingsError(f"geoip_database: {path} is a {kind} file; a City file is needed")

    @lru_cache(_CACHED)
    def locate(address: str) -> Place:
        try:
            found = ip_address(address)
            # A socket that listens on IPv6 too gives IPv4 visitors as ::ffff:a.b.c.d.
            return _place(reader, getattr(found, "ipv4_mapped", None) or found)
        except (ValueError, geoip2.errors.AddressNotFoundError, maxminddb.InvalidDatabaseError):
            # Geo enrichment failing is no reason to lose an event (reliability: fail open).
            return NOWHERE

    return locate


def _place(reader: geoip2.database.Reader, address: IPv4Address | IPv6Address) -> Place:
    found = reader.city(address)
    country = (found.country.iso_code or "").lower()
    region = found.subdivisions.most_specific if found.subdivisions else None
    name = (region.name or "") if region else ""
    code = (region.iso_code or "") if region else ""
    return Place(
        city=found.city.name or "",
        region=(code or name) if country in {"us", "ca"} else name,
        postal_code=found.postal.code or "",
        country=country,
    )
