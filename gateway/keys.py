"""The keys of the settings: what can be set, what each may be, and why one would.

`KEYS` is the whole list; the example file and the documentation are held equal to it by tests.
"""

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gateway import normalise
from gateway.consent import Policy
from gateway.secret import Secret

EMBEDDED = "sqlite:///"
_SHARED = ("redis", "rediss", "redis+cluster")
META_GRAPH_URL = "https://graph.facebook.com"


# --- what a value may be ---------------------------------------------------------------------
# Each reader takes what TOML or the environment gave and answers the final value, or raises
# ValueError with what is allowed.


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("text")
    return value.strip()


def _choice(*allowed: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if value not in allowed:
            raise ValueError(" or ".join(allowed))
        return str(value)

    return read


def _flag(value: Any) -> bool:
    if isinstance(value, str):
        value = {"true": True, "1": True, "false": False, "0": False}.get(value.lower())
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def _number(low: float, high: float) -> Callable[[Any], float]:
    def read(value: Any) -> float:
        try:
            number = float(value) if not isinstance(value, bool) else float("nan")
        except (TypeError, ValueError, OverflowError):
            number = float("nan")
        if not low <= number <= high:
            raise ValueError(f"a number from {low:.15g} to {high:.15g}")
        return number

    return read


def _whole(low: int, high: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        number = _number(low, high)(value)
        if number != int(number):
            raise ValueError(f"a whole number from {low} to {high}")
        return int(number)

    return read


def _list(value: Any) -> tuple[str, ...]:
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, list) or not all(isinstance(i, str) for i in items):
        raise ValueError("a list of texts (in the environment: separated by commas)")
    return tuple(i.strip() for i in items if i.strip())


def _networks(value: Any) -> tuple[str, ...]:
    try:
        return tuple(str(ipaddress.ip_network(item)) for item in _list(value))
    except ValueError:
        raise ValueError("addresses and CIDR networks, such as 10.0.0.0/8") from None


def _hosts(value: Any) -> tuple[str, ...]:
    hosts = tuple(h.lower().strip(".") for h in _list(value))
    if any(not re.fullmatch(r"[^\s/:@;,]+|\[[0-9a-f:]+\]", h) for h in hosts):
        raise ValueError("host names without scheme, port and path, such as www.example.com")
    return hosts


def _digits(value: Any) -> str:
    text = str(value).strip() if not isinstance(value, bool) else ""
    if not re.fullmatch(r"[0-9]{5,20}", text):
        raise ValueError("the pixel's (dataset's) number, digits only")
    return text


def slug(value: Any) -> str:
    """A public path no filter list has a rule for: see docs/tag."""
    text = str(value)
    if (
        not re.fullmatch(r"[a-z][a-z0-9]{6,13}", text)
        or not re.search(r"\d", text)
        or re.fullmatch(r"[0-9a-f]+", text)
    ):
        raise ValueError(
            "7 to 14 lower-case letters and digits, beginning with a letter, "
            "with a digit and not only hexadecimal"
        )
    return text


def _url(value: Any) -> str:
    text = _text(value).rstrip("/")
    allowed = "a URL that begins with https:// (or http:// for a stand-in)"
    try:
        parts = urlsplit(text)
    except ValueError:
        raise ValueError(allowed) from None
    if parts.scheme not in {"http", "https"} or not parts.netloc or parts.query:
        raise ValueError(allowed)
    return text


def _version(value: Any) -> str:
    if not re.fullmatch(r"v\d{1,3}\.\d", str(value)):
        raise ValueError("a Graph version such as v26.0")
    return str(value)


def _store(value: Any) -> str:
    text = _text(value)
    if text.startswith(EMBEDDED) and len(text) > len(EMBEDDED):
        _file(text.removeprefix(EMBEDDED))
        return text
    try:
        parts = urlsplit(text)
        known = parts.scheme in _SHARED and bool(parts.hostname) and parts.port != 0
    except ValueError:
        known = False
    if not known:
        schemes = ", ".join(f"{scheme}://host:port" for scheme in _SHARED)
        raise ValueError(f"sqlite:///path/gateway.db, {schemes}")
    return text


def _secret(value: Any) -> Secret:
    text = _text(value)
    if len(text) < 32 or not text.isascii():
        raise ValueError("at least 32 ASCII characters, such as `openssl rand -hex 32` prints")
    return Secret(text)


def _country(value: Any) -> str:
    found = normalise.country(value) if isinstance(value, str) and len(value) == 2 else None
    if not found:
        raise ValueError("an ISO 3166 country code such as DE")
    return found


def _file(value: Any) -> Path:
    try:
        return Path(_text(value)).expanduser()
    except RuntimeError:
        raise ValueError("a path within a home directory that exists") from None


# --- the keys --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One setting: its name in the file, what it means, and how it is read."""

    name: str
    read: Callable[[Any], Any]
    default: Any
    about: str
    example: str = ""
    secret: bool = False
    seed_name: str = ""
    """the variable of the guide many sites began with, which keeps working"""

    @property
    def variables(self) -> tuple[str, ...]:
        """Environment variables, the first one that is set wins."""
        return (f"GATEWAY_{self.name.upper()}", *([self.seed_name] if self.seed_name else []))


KEYS = (
    Key(name="pixel_id", read=_digits, default=None, seed_name="FB_PIXEL_ID", example="1234567890123456",
        about="The pixel (dataset) id. Without it and without a token everything goes to the built-in sandbox."),
    Key(name="access_token", read=lambda v: Secret(_text(v)), default=None, seed_name="FB_ACCESS_TOKEN", secret=True,
        about="The Conversions API token. A pixel without one keeps its events until a token is given."),
    Key(name="test_event_code", read=_text, default=None, seed_name="FB_TEST_EVENT_CODE", example="TEST12345",
        about="Shows events under Test events in Events Manager. They count for ads all the same: never leave it on."),
    Key(name="sandbox", read=_flag, default=False,
        about="true sends every batch to the built-in stand-in of Meta's Graph, pixel or not."),
    Key(name="store", read=_store, default="sqlite:///./data/gateway.db",
        about="Where events are kept until Meta has them: a file of one process, or redis://, rediss:// or redis+cluster:// for any number."),
    Key(name="store_max_bytes", read=_whole(10_000_000, 1_000_000_000_000), default=10_000_000_000,
        about="The most the SQLite file may take, in bytes. When it is full, or the disk is, new events are refused with 503."),
    Key(name="secret", read=_secret, default=None, secret=True, example="what `openssl rand -hex 32` prints",
        about="What the public path, the cookies and the stored identities are derived from; the same for all processes on one Redis. Made in the data directory when absent."),
    Key(name="api_key", read=lambda v: Secret(_text(v)), default=None, secret=True,
        about="The key of the backend API. Made and printed once when absent."),
    Key(name="admin_password", read=lambda v: Secret(_text(v)), default=None, secret=True,
        about="The dashboard's password. Made and printed once when absent."),
    Key(name="slug", read=slug, default=None, example="k3vq8w2mzp",
        about="The public path. Derived from the install's secret when absent, so that no filter list knows it."),
    Key(name="site_hosts", read=_hosts, default=(), example='["www.example.com"]',
        about="Hosts this install serves, with their subdomains; events of other hosts are refused. Empty: any."),
    Key(name="cookie_domain", read=lambda v: _hosts([_text(v)])[0], default=None, example="example.com",
        about="Overrides the domain the cookies are set on, which the Public Suffix List tells otherwise."),
    Key(name="cross_domain", read=_hosts, default=(), example='["shop.example.net"]',
        about="Other hosts of yours, with their subdomains: links to them carry the visitor's ids, and what a link from them brings is taken."),
    Key(name="consent", read=lambda v: Policy(_choice(*Policy)(v)), default=Policy.OPT_OUT,
        about="required: nothing before the visitor agrees. opt-out: until they object (also by Sec-GPC). off: the site's own affair."),
    Key(name="browser_events", read=lambda v: frozenset(_list(v)), default=None, example='["PageView", "Lead"]',
        about="Event names a browser may send. Set it to leave Purchase to the backend alone. Absent: all."),
    Key(name="snippet", read=_choice("full", "default", "core"), default="full",
        about="What the page loads. default (0.5 kB less): without data-px attributes, hashing in the page and links between hosts. core: only px() and page views."),
    Key(name="noscript", read=_flag, default=False,
        about="true answers an image that counts a page view where no script runs. Never where consent is required."),
    Key(name="outbound_links", read=_flag, default=False,
        about="true counts clicks on links to other sites as OutboundClick."),
    Key(name="default_country", read=_country, default=None, example="DE",
        about="ISO 3166 country of phone numbers without a country code, after the event's own country."),
    Key(name="limited_data_use", read=_choice("off", "states", "always"), default="off",
        about="Meta's Limited Data Use. states: for visitors GeoIP places in a US state with a privacy law Meta lists. always: for all."),
    Key(name="hash_alternates", read=_flag, default=True,
        about="Also send the hashes of the spellings Meta's own libraries use where they differ from its documentation."),
    Key(name="graph_url", read=_url, default=META_GRAPH_URL,
        about="Base URL of Graph."),
    Key(name="graph_version", read=_version, default="v26.0",
        about="Pinned Graph version."),
    Key(name="rate_per_second", read=_number(0.1, 1000), default=10.0,
        about="Requests a second to Meta for each pixel, up to 1000 events each."),
    Key(name="hits_per_address", read=_number(0, 100_000), default=100.0,
        about="Hits a second one visitor's address may send, after ten times as many at once. A carrier has thousands of phones behind one. 0: no limit."),
    Key(name="trusted_proxies", read=_networks, default=(), example='["127.0.0.1", "10.0.0.0/8"]',
        about="Addresses whose X-Forwarded-For and X-Forwarded-Proto count. Empty: the socket's address is the visitor's."),
    Key(name="geoip_database", read=_file, default=None, example="/var/lib/GeoIP/GeoLite2-City.mmdb",
        about="A City .mmdb file (MaxMind, DB-IP and others). Absent: no city, region and country."),
    Key(name="hold_seconds", read=_number(0, 3600), default=10.0,
        about="Seconds a conversion waits for its other half, from the page or the backend, to be sent as one; at least 600 where Meta would not take it alone. 0: not at all."),
    Key(name="browser_duplicates", read=_choice("forward", "suppress"), default="forward",
        about="forward: Meta merges the server's copy with the browser pixel's by the event id. suppress: what the pixel delivered is not sent."),
    Key(name="host", read=_text, default="127.0.0.1",
        about="Address of the public face."),
    Key(name="port", read=_whole(0, 65535), default=8000,
        about="Port of the public face; 0 takes a free one."),
    Key(name="admin_host", read=_text, default="127.0.0.1",
        about="Address of the operator's face. Keep it off the internet."),
    Key(name="admin_port", read=_whole(0, 65535), default=8001,
        about="Port of the operator's face; 0 takes a free one."),
    Key(name="drain_seconds", read=_number(0, 60), default=0.0,
        about="Seconds the public face goes on after SIGTERM, while /readyz and /healthz are 503 already. For a load balancer that has to notice first; 0: it closes at once."),
    Key(name="log_level", read=_choice("debug", "info", "warning", "error"), default="info",
        about="debug, info, warning or error."),
    Key(name="log_format", read=_choice("text", "json"), default=None, example="json",
        about="text or json. Absent: text on a terminal, json elsewhere."),
)  # fmt: skip

BY_NAME = {key.name: key for key in KEYS}

# Within [[site]] and its pixels, by their names there; what a site does not say, the whole file says.
SITE_KEYS = {
    name: name for name in ("slug", "cookie_domain", "cross_domain", "consent", "default_country")
}
SITE_KEYS["hosts"] = "site_hosts"
PIXEL_KEYS = {
    "id": "pixel_id",
    "access_token": "access_token",
    "test_event_code": "test_event_code",
}
TOKEN_FILE = "access_token_file"  # noqa: S105
_EXAMPLE_SITE = """\
# Several websites, or several pixels, in place of pixel_id, access_token, test_event_code, slug and
# site_hosts above: one [[site]] for each website. With several pixels it has no variables.
#[[site]]
# Hosts of this site, with their subdomains. With several sites, an absent slug follows from the first.
#hosts = ["www.example.com"]
# The pixels every event of this site goes to; a backend's event names one of them as pixel_id.
# A token stands here as access_token, or in a file of its own: access_token_file. test_event_code as above.
#pixels = [{id = "1234567890123456", access_token = "..."}, {id = "2345678901234567", access_token_file = "/run/secrets/second_token"}]
# The site's own public path.
#slug = "k3vq8w2mzp"
# What this site does otherwise than the whole file; see above.
#cookie_domain = "example.com"
#cross_domain = ["shop.example.net"]
#consent = "opt-out"
#default_country = "DE"
"""


def example() -> str:
    """The commented file that lists every key: config/gateway.example.toml."""
    parts = [
        "# Settings of the gateway. Every key is optional; what is commented out is the default,\n"
        "# or an example where there is none. The environment overrides the file.\n"
    ]
    for key in KEYS:
        variables = " or ".join(key.variables)
        if key.secret:
            variables += f", or {key.variables[0]}_FILE with the name of a file that holds it"
        parts.append(f"# {key.about}\n# Environment: {variables}\n#{key.name} = {_toml(key)}\n")
    return "\n".join([*parts, _EXAMPLE_SITE])


def _toml(key: Key) -> str:
    value = key.default
    if value is None:
        return key.example if key.example.startswith("[") else f'"{key.example or "..."}"'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value) if isinstance(value, int) else f"{value:g}"
    return key.example or "[]" if isinstance(value, tuple) else f'"{value}"'
