"""What every body has in common: strict JSON, errors that name the field and never the value, and people.

`Misfit` is an event that cannot be read; `HitInvalid` is raised where the whole body cannot.
"""

import re
from collections.abc import Mapping
from typing import TypeVar

import msgspec

from gateway.errors import HitInvalid
from gateway.hit import Consent, Misfit

TEXT_MAX = 2048
"""characters of a URL; longer ones are cut by browsers and logs anyway"""
# Readable names of user_data, and Meta's own. What a page sends of a person is advanced matching
# only: address, agent and ids are what its request says, never what its body claims.
MATCHING = {
    "em": "em", "email": "em",
    "ph": "ph", "phone": "ph",
    "fn": "fn", "first_name": "fn", "firstName": "fn",
    "ln": "ln", "last_name": "ln", "lastName": "ln",
    "ge": "ge", "gender": "ge",
    "db": "db", "date_of_birth": "db", "dateOfBirth": "db",
    "ct": "ct", "city": "ct",
    "st": "st", "state": "st", "region": "st",
    "zp": "zp", "zip": "zp", "postal_code": "zp", "postalCode": "zp",
    "country": "country",
    "external_id": "external_id", "externalId": "external_id",
}  # fmt: skip
_BACKEND_ONLY = {
    "client_ip_address": "client_ip_address", "ip": "client_ip_address",
    "client_user_agent": "client_user_agent", "user_agent": "client_user_agent",
    "userAgent": "client_user_agent",
    **{key: key for key in (
        "fbp", "fbc", "subscription_id", "fb_login_id", "lead_id", "madid", "anon_id",
        "page_id", "page_scoped_user_id", "ctwa_clid", "ig_account_id", "ig_sid",
        "instagram_business_account_id", "whatsapp_business_account_id",
        "partner_id", "partner_name", "app_user_id",
        "f5first", "f5last", "fi", "dobd", "dobm", "doby",
    )},
}  # fmt: skip
FROM_BACKENDS = MATCHING | _BACKEND_ONLY
_VALUES_MAX = 10
"""values of one key; Meta gives no limit, nobody has more e-mails"""

T = TypeVar("T")

_DECODER = msgspec.json.Decoder()
_FIELD_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,39}")
_NESTED_MAX = 64
"""levels of arrays and objects; what comes later walks them by recursion"""


def decode(body: bytes) -> object:
    """Strict JSON. Raises HitInvalid; a text that nests too deep is not JSON for us either."""
    try:
        decoded: object = _DECODER.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise HitInvalid("", "the body is not valid JSON") from None
    if _nests_deeper(decoded, _NESTED_MAX):
        raise HitInvalid("", f"the body nests deeper than {_NESTED_MAX} levels")
    return decoded


def _nests_deeper(value: object, levels: int) -> bool:
    if isinstance(value, dict):
        inner = list(value.values())
    elif isinstance(value, list):
        inner = value
    else:
        return False
    return levels == 0 or any(_nests_deeper(v, levels - 1) for v in inner)


def convert(raw: object, shape: type[T], where: str = "") -> T:
    try:
        return msgspec.convert(raw, shape)
    except msgspec.ValidationError as error:
        text, found, path = str(error).rpartition(" - at `$")
        if not found:
            text, path = path, ""
        if text.startswith("Invalid enum value"):  # it quotes the value, which may be anything
            text = f"Expected {' or '.join(Consent)}"
        text = text.replace("`", "")
        field = (where + path.rstrip("`")).lstrip(".")
        if missing := re.search(r"missing required field (\w+)", text):
            field, text = f"{field}.{missing[1]}".lstrip("."), "missing"
        raise HitInvalid(field, text[0].lower() + text[1:]) from None


def check_words(name: str, event_id: str, where: str, name_field: str, id_field: str) -> None:
    prefix = f"{where}." if where else ""
    if not 1 <= len(name) <= 50 or not name.isprintable():
        raise HitInvalid(prefix + name_field, "expected 1 to 50 printable characters")
    if not 1 <= len(event_id) <= 200 or not event_id.isprintable():
        raise HitInvalid(prefix + id_field, "expected 1 to 200 printable characters")


def user_values(
    raw: Mapping[str, object], known: Mapping[str, str], where: str
) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
    """Values by Meta's keys, and a word for each that has no place in `known`."""
    user, warnings = dict[str, tuple[str, ...]](), list[str]()
    for name, value in raw.items():
        key = known.get(name)
        if key is None:
            shown = name if _FIELD_NAME.fullmatch(name) else "(unnamed)"
            warnings.append(f"{where}.{shown}: unknown field, kept out")
            continue
        values = value if isinstance(value, list) else [value]
        texts = tuple(t for v in values[:_VALUES_MAX] if (t := text_of(v)))
        if texts:
            user[key] = user.get(key, ()) + texts
        elif value not in (None, "", []):
            warnings.append(f"{where}.{name}: expected text, kept out")
    return user, tuple(warnings[:_VALUES_MAX])


def text_of(value: object) -> str | None:
    if isinstance(value, str):
        return value.strip()[:TEXT_MAX] or None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return None


def misfit(index: int, name: object, event_id: object, error: HitInvalid) -> Misfit:
    def safe(value: object, longest: int) -> str:
        text = value if isinstance(value, str) else ""
        return "".join(c for c in text[:longest] if c.isprintable())

    return Misfit(
        index=index,
        name=safe(name, 50),
        id=safe(event_id, 200),
        field=error.field,
        error=error.error,
    )


def unknown(
    raw: Mapping[str, object], shape: type[msgspec.Struct], where: str = ""
) -> tuple[str, ...]:
    prefix = f"{where}." if where else ""
    names = sorted(set(raw) - set(shape.__struct_fields__))[:5]
    # A name that does not look like one may be a person's e-mail by mistake.
    safe = (name if _FIELD_NAME.fullmatch(name) else "(unnamed)" for name in names)
    return tuple(f"{prefix}{name}: unknown field, kept out" for name in safe)
