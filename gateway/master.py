"""The master cookie: what the gateway itself remembers of a browser, signed, and readable by no script.

It outlives whatever happens to the readable cookies: blockers that remove `_fbp`, scripts that
rewrite it, browsers that shorten it. There is no store behind it; what it says is all there is.
"""

import hashlib
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import msgspec

from gateway.urls import UTM_KEYS

_VERSION = 1
_MAC_BYTES = 8
_VALUE_MAX = 3600
"""characters; with its name and attributes a cookie stays below the 4096 bytes browsers keep"""
_MARK = 2**21
_CLICKS_MAX = 8
_DIGEST_BYTES = 4


@dataclass(frozen=True, slots=True)
class Seal:
    """The install's own: how the cookie is called, and the key nobody else has."""

    name: str
    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Landing:
    """How the visitor came."""

    at_ms: int
    page: str
    """without personal data"""
    referrer: str
    """likewise; empty: none"""
    utm: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Master:
    """What the cookie says."""

    fbp: str
    """without an appendix"""
    fbc: str | None
    first_seen_ms: int
    landing: Landing | None
    granted: bool = False
    """the visitor agreed once, and has not withdrawn it: that deletes the cookie"""
    clicks: tuple[bytes, ...] = ()
    """digests of the clicks before the last, newest first"""


class _Packed(msgspec.Struct, frozen=True, array_like=True):
    version: int
    index: int
    created_ms: int
    number: str
    """a number of up to 20 digits, which are more than 64 bits"""
    first_seen_ms: int
    granted: bool
    fbc: str | None
    clicks: tuple[bytes, ...]
    landed_ms: int | None
    page: str
    referrer: str
    utm: tuple[str, str, str, str, str]
    """by UTM_KEYS; empty: none"""


def seal(master: Master, key: bytes) -> str:
    """The cookie's value: 8 bytes of keyed BLAKE2 and what they vouch for, base64url.

    What tells least of a landing is left out until it fits.
    """
    for landing in _shorter(master.landing):
        packed = msgspec.msgpack.encode(_pack(replace(master, landing=landing)))
        text = urlsafe_b64encode(_mac(key, packed) + packed).rstrip(b"=").decode()
        if len(text) <= _VALUE_MAX:
            return text
    raise AssertionError("ids alone always fit")


def unseal(text: str, key: bytes) -> Master | None:
    """What a value says; None for one that this install did not write."""
    try:
        raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        return None
    mac, packed = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
    if not hmac.compare_digest(mac, _mac(key, packed)):
        return None
    try:
        return _unpack(msgspec.msgpack.decode(packed, type=_Packed))
    except msgspec.DecodeError:  # of another version of ours
        return None


def mint(created_ms: int, draw: Callable[[int], int], key: bytes) -> str:
    """The number of a new `_fbp`: 32 random bits, and 21 by which `minted` knows it again.

    `draw(n)` is a number below n. Nothing of the visitor goes into it.
    """
    drawn = draw(2**32)
    return str(drawn * _MARK + _mark(created_ms, drawn, key))


def minted(created_ms: int, number: str, key: bytes) -> bool:
    """Whether an `_fbp` was made by this install; a stranger's passes once in two million."""
    drawn, mark = divmod(int(number), _MARK)
    return mark == _mark(created_ms, drawn, key)


def digest(click: str) -> bytes:
    """Four bytes to tell an earlier click by."""
    return hashlib.blake2b(click.encode(), digest_size=_DIGEST_BYTES).digest()


def earlier(click: str, before: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """The digests with one more click that is no longer the last."""
    return (digest(click), *(d for d in before if d != digest(click)))[:_CLICKS_MAX]


def _mac(key: bytes, data: bytes) -> bytes:
    # Keyed BLAKE2 (RFC 7693), as HMAC by OpenSSL lets go of the interpreter each time, three times a hit.
    return hashlib.blake2b(data, key=key, digest_size=_MAC_BYTES).digest()


def _mark(created_ms: int, drawn: int, key: bytes) -> int:
    return int.from_bytes(_mac(key, f"fbp.{created_ms}.{drawn}".encode())) % _MARK


def _shorter(landing: Landing | None) -> Iterator[Landing | None]:
    """The landing, and what is left of it when the least telling piece goes, one after another."""
    if landing is not None:
        yield landing
        for name in ("referrer", "utm_term", "utm_content", "page", "utm_campaign", "utm_medium"):
            landing = _without(landing, name)
            yield landing
    yield None


def _without(landing: Landing, piece: str) -> Landing:
    match piece:
        case "page":
            return replace(landing, page="")
        case "referrer":
            return replace(landing, referrer="")
        case _:
            return replace(landing, utm={k: v for k, v in landing.utm.items() if k != piece})


def _pack(master: Master) -> _Packed:
    _, index, created, number = master.fbp.split(".")
    landing = master.landing
    source, medium, campaign, content, term = (
        landing.utm.get(key, "") if landing else "" for key in UTM_KEYS
    )
    return _Packed(
        version=_VERSION,
        index=int(index),
        created_ms=int(created),
        number=number,
        first_seen_ms=master.first_seen_ms,
        granted=master.granted,
        fbc=master.fbc,
        clicks=master.clicks,
        landed_ms=landing.at_ms if landing else None,
        page=landing.page if landing else "",
        referrer=landing.referrer if landing else "",
        utm=(source, medium, campaign, content, term),
    )


def _unpack(packed: _Packed) -> Master | None:
    if packed.version != _VERSION:
        return None
    landing = None
    if packed.landed_ms is not None:
        landing = Landing(
            at_ms=packed.landed_ms,
            page=packed.page,
            referrer=packed.referrer,
            utm={name: value for name, value in zip(UTM_KEYS, packed.utm, strict=True) if value},
        )
    return Master(
        fbp=f"fb.{packed.index}.{packed.created_ms}.{packed.number}",
        fbc=packed.fbc,
        first_seen_ms=packed.first_seen_ms,
        granted=packed.granted,
        landing=landing,
        clicks=packed.clicks,
    )
