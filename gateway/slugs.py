"""The public paths of an install: the ones in use, and the ones that pages may still have.

A path is derived from the install's secret and a generation. Rotating counts the generation up and
keeps the old paths for a while, because pages, caches and front servers know them. The file beside
the store is all the state there is; a running gateway looks at it every few seconds.
"""

import hashlib
import hmac
import os
from collections.abc import Iterable
from pathlib import Path

import msgspec

from gateway import keys
from gateway.errors import StoreUnwritable

GRACE_MS = 30 * 24 * 3_600_000
FILE = "slugs.json"

_CONSONANTS = "bcdfghjklmnpqrstvwxz"
_LETTERS = _CONSONANTS + "0123456789"
# Words filter lists hunt for; consonants alone can still spell these.
_HUNTED = ("fb", "gtm", "px", "trk", "tr", "st", "pxl", "ctl")


class Retired(msgspec.Struct, frozen=True):
    """A path that was in use."""

    slug: str
    site: str
    """the site's name"""
    until_ms: int


class Slugs(msgspec.Struct, frozen=True):
    """Which paths the install answers to."""

    generation: int = 0
    retired: tuple[Retired, ...] = ()

    def rotated(self, secret: str, sites: Iterable[str], now_ms: int) -> "Slugs":
        """The next generation for the sites of these names; what they had serves on for 30 days."""
        old = [Retired(self.of(secret, name), name, now_ms + GRACE_MS) for name in sites]
        still = [one for one in self.retired if one.until_ms > now_ms]
        return Slugs(self.generation + 1, (*still, *old))

    def of(self, secret: str, site: str) -> str:
        """The site's path in this generation."""
        return derived(secret, site, self.generation)


def derived(secret: str, site: str = "", generation: int = 0) -> str:
    """A path that looks like nobody's, and like no other install's."""
    later = f"-{generation}" if generation else ""
    for attempt in range(1000):
        purpose = f"{site}{later}-{attempt}"
        length = 7 + mac(secret, f"slug-length-{purpose}")[0] % 8
        name = neutral(secret, f"slug-{purpose}", length)
        try:
            keys.slug(name)
        except ValueError:
            continue
        if not any(word in name for word in _HUNTED):
            return name
    raise AssertionError("one of a thousand names is always free")


def neutral(secret: str, purpose: str, length: int) -> str:
    """A name of consonants and digits that says nothing."""
    digest = mac(secret, purpose)
    first = _CONSONANTS[digest[0] % len(_CONSONANTS)]
    return first + "".join(_LETTERS[b % len(_LETTERS)] for b in digest[1:length])


def mac(secret: str, purpose: str) -> bytes:
    """What follows from the install's secret for one purpose."""
    return hmac.new(secret.encode(), purpose.encode(), hashlib.sha256).digest()


def read(folder: Path) -> Slugs:
    """What the data directory says; the first generation when it says nothing. Raises StoreUnwritable."""
    try:
        return msgspec.json.decode((folder / FILE).read_bytes(), type=Slugs)
    except FileNotFoundError:
        return Slugs()
    except (OSError, msgspec.DecodeError) as error:
        raise StoreUnwritable(f"{folder / FILE} cannot be read: {error}") from None


def write(folder: Path, slugs: Slugs) -> None:
    """Replace the file as a whole, readable by the owner only. Raises StoreUnwritable."""
    aside = folder / f"{FILE}.new"
    try:
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(slugs))
            file.flush()
            os.fsync(file.fileno())
        aside.rename(folder / FILE)
        keep_names(folder)
    except OSError as error:
        raise StoreUnwritable(f"{folder / FILE} cannot be written: {error.strerror}") from None


def keep_names(folder: Path) -> None:
    """Have the folder know its files after a power cut, too. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
