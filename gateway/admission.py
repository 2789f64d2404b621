"""Who is asking, and how often they may: one bucket a caller, in a table that cannot grow.

A limit by address meets whole crowds: a carrier's NAT puts thousands of phones behind one IPv4 address, and a
campaign brings them within a minute. So the limits are far above what any crowd needs and far below what one
machine can send; they are against a flood from one place, and a flood from everywhere is `overload`'s to bear.
"""

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

CALLERS = 20_000
"""buckets kept; the one not asked for longest is forgotten first, and its caller starts afresh"""


class Callers:
    """Tells whom an address stands for."""

    def __init__(self, trusted: Iterable[str] = ()) -> None:
        self._trusted: list[IPv4Network | IPv6Network] = [ip_network(one) for one in trusted]
        self.of = lru_cache(maxsize=4096)(self._of)

    def _of(self, address: str) -> str | None:
        """The IPv4 address, or the IPv6 /64 that one customer gets; None: whoever it is stands for many.

        That is a trusted proxy, and every private address: a container's bridge or a front server nobody
        named in the settings. Limiting those would limit everybody at once. An address that cannot be read
        is such a front server's wording, and treated alike.
        """
        try:
            ip = ip_address(address)
        except ValueError:
            return None
        if isinstance(ip, IPv6Address) and ip.ipv4_mapped:
            ip = ip.ipv4_mapped
        if ip.is_private or ip.is_link_local or any(ip in network for network in self._trusted):
            return None
        if isinstance(ip, IPv6Address):
            return str(ip_network((int(ip) >> 64 << 64, 64)))
        return str(ip)


class Limiter:
    """Token buckets by caller: `burst` at once, then `per_second`.

    A bucket is one number, the moment it is full again (GCRA). Milliseconds of any clock.
    """

    def __init__(self, *, per_second: float, burst: float, callers: int = CALLERS) -> None:
        self._gap_ms = 1000 / per_second
        self._room_ms = burst * self._gap_ms
        self._most = callers
        self._full_at: dict[str, float] = {}

    def take(self, caller: str, now_ms: float) -> float:
        """Take one token. 0: granted; else the milliseconds until there is one, and none was taken."""
        full_at = max(self._full_at.pop(caller, 0.0), now_ms)
        # A clock that was set back leaves buckets that are full in an hour; no bucket is emptier than empty.
        full_at = min(full_at, now_ms + self._room_ms)
        wait_ms = full_at + self._gap_ms - now_ms - self._room_ms
        self._full_at[caller] = full_at if wait_ms > 0 else full_at + self._gap_ms
        if len(self._full_at) > self._most:
            del self._full_at[next(iter(self._full_at))]
        return max(wait_ms, 0.0)

    def __len__(self) -> int:
        return len(self._full_at)


class Admission:
    """What one caller may ask of a listener; whoever stands for many is not limited."""

    def __init__(self, callers: Callers, limiter: Limiter | None) -> None:
        self._callers = callers
        self._limiter = limiter

    def wait_ms(self, address: str, now_ms: float) -> float:
        """0: come in; else the milliseconds until the next one is let in."""
        caller = self._callers.of(address)
        if caller is None or self._limiter is None:
            return 0.0
        return self._limiter.take(caller, now_ms)
