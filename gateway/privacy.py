"""Personal data where Meta forbids it: in URLs and in custom_data. Taken out, and said."""

import re
from collections.abc import Mapping
from urllib.parse import unquote, unquote_plus, urlsplit, urlunsplit

# One character before the `@` is enough to find an address, and keeps the search linear: a run of
# them made one hit of 60 kB take 5 s.
EMAIL = re.compile(r"[^\s@/?&=:,;<>\"']@[^\s@/?&=:,;<>\"']+\.[^\s@/?&=:,;<>\"'.]{2}")

# Names whose value is a person's, whatever it looks like. Compared without case, `_` and `-`.
_PERSONAL = frozenset(
    [
        "email",
        "mail",
        "emailaddress",
        "useremail",
        "customeremail",
        "em",
        "phone",
        "phonenumber",
        "tel",
        "telephone",
        "mobile",
        "ph",
        "firstname",
        "lastname",
        "surname",
        "fullname",
        "fn",
        "ln",
        "givenname",
        "familyname",
        "birthday",
        "birthdate",
        "dateofbirth",
        "dob",
        "password",
        "passwd",
        "pwd",
        "token",
        "accesstoken",
        "resettoken",
        "ssn",
        "iban",
        "creditcard",
        "cardnumber",
        "address",
        "street",
        "streetaddress",
        "address1",
        "address2",
        "billingaddress",
        "shippingaddress",
    ]
)


def is_personal_name(name: str) -> bool:
    """Whether a field of this name holds something about a person."""
    return name.lower().replace("_", "").replace("-", "") in _PERSONAL


def clean_url(url: str) -> tuple[str, bool]:
    """The URL without what is personal in it; whether anything was.

    Query parameters go by name or when their value holds an e-mail address; a path segment with one
    becomes `-`; credentials and a fragment with one go whole. Other bytes stay as they are.
    """
    if not url:
        return url, False
    try:
        parts = urlsplit(url)
    except ValueError:
        return "", True
    netloc = parts.netloc.rpartition("@")[2]
    query = "&".join(pair for pair in parts.query.split("&") if not _is_personal(pair))
    path = "/".join("-" if _has_email(s) else s for s in parts.path.split("/"))
    fragment = "" if _has_email(parts.fragment) or _has_named(parts.fragment) else parts.fragment
    cleaned = parts._replace(netloc=netloc, path=path, query=query, fragment=fragment)
    changed = cleaned != parts
    return (urlunsplit(cleaned) if changed else url), changed


def clean_data(data: Mapping[str, object], where: str) -> tuple[dict[str, object], tuple[str, ...]]:
    """custom_data without personal values, and the fields that were taken out, named."""
    kept: dict[str, object] = {}
    removed: list[str] = []
    for name, value in data.items():
        if _has_email(name):
            removed.append(f"{where}: a field named like an e-mail address, removed")
        elif is_personal_name(name) or _holds_personal(value):
            removed.append(f"{where}.{name[:40]}: looks like personal data, removed")
        else:
            kept[name] = value
    return kept, tuple(removed)


def _holds_personal(value: object) -> bool:
    if isinstance(value, str):
        return _has_email(value)
    if isinstance(value, list):
        return any(_holds_personal(v) for v in value)
    if isinstance(value, dict):
        return any(is_personal_name(str(n)) or _holds_personal(v) for n, v in value.items())
    return False


def _is_personal(pair: str) -> bool:
    return is_personal_name(unquote_plus(pair.partition("=")[0])) or _has_email(pair)


def _has_email(text: str) -> bool:
    # Twice, for a URL within a URL.
    return EMAIL.search(unquote(unquote(text))) is not None


def _has_named(fragment: str) -> bool:
    return any(is_personal_name(piece.partition("=")[0]) for piece in re.split(r"[?&]", fragment))


# Meta, "Data Processing Options": the states whose laws Limited Data Use serves, by ISO 3166-2.
_LDU_STATES = {
    "CA": 1000, "CO": 1001, "CT": 1002, "FL": 1003, "OR": 1004, "TX": 1005, "MT": 1006,
    "DE": 1007, "NE": 1008, "NH": 1009, "NJ": 1010, "MN": 1011, "MD": 1012, "RI": 1013,
}  # fmt: skip


def limited_data_use(country: str, region: str, policy: str) -> tuple[int, int] | None:
    """Meta's country and state for Limited Data Use, or None for full use.

    `country` and `region` as GeoIP has them (us, CA). `policy`: `off`, `states` for visitors in one
    of Meta's states, `always`, where Meta is left to find the state (0, 0) when it is not known.
    """
    state = _LDU_STATES.get(region) if country == "us" else None
    if policy == "off" or (policy == "states" and state is None):
        return None
    return (1, state) if state else (0, 0)
