"""What a page's URL says: its host, and the click id and campaign of the ad that led there.

Source: Meta, "fbp and fbc parameters", and how its own builders read `fbclid`.
"""

import re
from urllib.parse import SplitResult, parse_qsl, urlsplit

UTM_KEYS = ("utm_source", "utm_medium", "utm_campaign", "utm_content", "utm_term")
_UTM_MAX = 200

# Meta's parameter builder: 8 base64url characters whose first byte is the format version 1, or one
# of six older 2-character codes. A browser may have collected several.
_APPENDIX = re.compile(r"AQ[A-Za-z0-9_-]{6}|AQ|Ag|Aw|BA|BQ|Bg")
# Its newer form, which Meta's SDKs also put behind the last value of a URL.
_SDK_APPENDIX = re.compile(r"\.AQ[A-Za-z0-9_-]{6}$")
CLICK = re.compile(r"[A-Za-z0-9_~-][A-Za-z0-9_.~-]{0,499}")


def split(url: str) -> SplitResult:
    """Its parts; of what is no URL, empty ones."""
    try:
        return urlsplit(url)
    except ValueError:
        return urlsplit("")


def host_of(url: str) -> str:
    """The URL's host; empty when it has none, or is none that can be read."""
    return split(url).hostname or ""


def fbclid(url: str) -> str | None:
    """The first click id of a URL's query or fragment, decoded once, case kept; None if unusable."""
    if "fbclid=" not in url:
        return None
    parts = split(url)
    for text in (parts.query, parts.fragment.partition("?")[2] or parts.fragment):
        for name, value in _pairs(text):
            if name == "fbclid" and CLICK.fullmatch(click := without_appendix(value)):
                return click
    return None


def utm(url: str) -> dict[str, str]:
    """The campaign parameters of a URL, cut to 200 characters each; empty when it has none."""
    if "utm_" not in url:
        return {}
    found: dict[str, str] = {}
    for name, value in _pairs(split(url).query):
        if name in UTM_KEYS and value.strip() and name not in found:
            found[name] = _SDK_APPENDIX.sub("", value.strip())[:_UTM_MAX]
    return found


def usable_click(text: str) -> bool:
    """Whether a text may be a click id."""
    return CLICK.fullmatch(text) is not None


def without_appendix(text: str) -> str:
    """The value before whatever Meta's parameter builder appended, once or several times."""
    parts = text.split(".")
    while len(parts) > 1 and _APPENDIX.fullmatch(parts[-1]):
        parts.pop()
    return ".".join(parts)


def _pairs(query: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(query, max_num_fields=200)
    except ValueError:  # more fields than any campaign has
        return []
