"""Names that public filter lists have a rule for, so that an owner hears of it before a visitor's blocker does.

The rules are EasyList's, EasyPrivacy's, uBlock Origin's and AdGuard's of 2026, each retold as an idea; the engines
themselves are asked in tests/blockers. What a slug may look like at all is `keys.slug`'s to say. No name is safe for
ever: what holds is a name that nobody else has, which is what `slugs.derived` makes.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from gateway import cookies


class Kind(StrEnum):
    """What is being named."""

    PATH = "path"
    """of a URL, from its first `/`, with the query if there is one"""
    HOST = "host"
    COOKIE = "cookie"
    PARAMETER = "parameter"
    """of a link between two of the owner's hosts"""


@dataclass(frozen=True, slots=True)
class Problem:
    """A rule that hits a name, or that was written for names of its sort."""

    list: str
    rule: str
    instead: str


@dataclass(frozen=True, slots=True)
class _Rule:
    kind: Kind
    pattern: re.Pattern[str]
    problem: Problem


def verdict(kind: Kind, name: str) -> Problem | None:
    """The first rule that hits the name; None when no rule here does."""
    text = name.lower()
    if kind is Kind.HOST:
        # The registrable domain is the site's own; what stands before it was chosen.
        text = text.removesuffix(cookies.scope_of(text).domain or text).partition(".")[0]
    return next((r.problem for r in _RULES if r.kind is kind and r.pattern.search(text)), None)


# --- the words ---------------------------------------------------------------------------------

# Products whose scripts and collectors are blocked by name, wherever they are.
_PRODUCTS = (
    "matomo|piwik|posthog|plausible|umami|fathom|countly|snowplow|mixpanel|amplitude|sensorsdata"
    "|shinystat|admantx|criteo|exoclick|prebid|oascentral|openedlog|elqtrk|eloqua|trcksp|cmpworker"
    "|blockadblock|fuckadblock|dataunlocker|trackjs|gtag|sgtm|gtm|fbevents|fbpixel|fbq"
    "|clientparambuilder|dripemail|eulerian|outbrain|a02342|a869"
)
# What the rest of the rules hunt: the trade's own words, standing alone between digits and signs.
_WORDS = (
    "ads?|advert(?:s|ising)?|banners?|pixels?|fb|facebook|meta|capig?|track(?:er|ers|ing|s)?|trc?k"
    "|collect(?:or|ors)?|beacons?|analytics?|stats?|logs?|logger|events?|tags?|tagging|pageviews?"
    "|hits?|metrics?|counters?|clicks?|telemetry|visitors?|conversions?|affiliates?"
)
# Long enough to be meant, also within a longer word.
_PARTS = (
    "adserv|adsrv|adsserv|adimage|adplayer|adright|adwolf|adsbb|adsscript|adblock|adtrack|easyads|floatads|videoad"
    "|skyscraperad|analytics|pixel|tracker|tracking|trackclick|counter|statcount|statcollect|stats$|collector"
    "|logger|logging|banner|publicidade|pagepeel|hitcount|transparent"
    # The usual sizes of banners: any two numbers would hit slugs that are made by chance.
    "|(?:120|160|234|300|320|336|460|468|480|600|728|970|980)x0?(?:50|60|80|90|100|250|280|600)"
)
_SIGN = "(?:^|[^a-z])"
_END = "(?:$|[^a-z])"

# First labels that AdGuard's lists name on at least about a hundred sites each, of those that mean
# a tracker; what serves pages (www, shop, app, api, static) is on so many sites by accident.
_HARVESTED = (
    "a8cv|a8clk|a8|adebis|axp|capig?|collect|data|events?|gtm|gtmserver|load|log|metrics?|mdws"
    "|omni|pixel|s?analytics|server|serverside|sgtm|smetrics?|ss|ssc|ssgtm|sst|s?stats?|srepdata|stape"
    "|tagging|tags?|telemetry|tk|tr|track|tracker|tracking|trc?k|strack|utiq|sadbmetrics|saa|somni"
)

# --- what to do --------------------------------------------------------------------------------

_SLUG = "leave the slug out, so that one is derived which no other site has"
_SAME_HOST = "route a path of the site's own host to the gateway, not a host of its own"
_BODY = "use no query at all: what is sent belongs into the body"
_NEUTRAL = "use a name that means nothing and that nobody else has"


def _rule(kind: Kind, pattern: str, of: str, idea: str, instead: str) -> _Rule:
    return _Rule(kind, re.compile(pattern), Problem(of, idea, instead))


_EP, _AG, _UP = "EasyPrivacy", "AdGuard Tracking Protection", "uBlock filters – Privacy"

_RULES = (
    _rule(Kind.PATH, _PRODUCTS, _EP, "the script or collector of a well-known product, in whatever folder", _SLUG),
    _rule(Kind.PATH, rf"^[^?]*{_SIGN}(?:{_WORDS}){_END}", f"{_EP} and {_AG}", "a word of the tracking trade in the path", _SLUG),
    _rule(Kind.PATH, r"^/hit", f"{_EP} and {_AG}", "whatever begins with hit, when a beacon is sent there", _SLUG),
    _rule(Kind.PATH, rf"^[^?]*(?:{_PARTS})", f"EasyList and {_EP}", "a word of the trade within another, or the size of a banner", _SLUG),
    _rule(Kind.PATH, r"^/[a-z0-9]{4}(?:[/?]|$)", _UP, "a script in a folder of exactly four letters or digits, as Google's tag gateway has", _SLUG),
    _rule(Kind.PATH, r"/[0-9a-f]{6,}(?:[/.?]|$)", f"uBlock filters and {_AG}", "a script whose name is nothing but hexadecimal digits", _SLUG),
    _rule(Kind.PATH, r"\.js\?(?:st|id|aw|v)=|^/[a-z0-9]{3,9}/?\?id=", f"{_AG} and {_UP}", "a loader of a tag server: a short script with st= or id= behind it", _BODY),
    _rule(Kind.PATH, r"[?&](?:ev|event|event_name|eventtype|hittype|type|t|tid|v|d|r|k|st|id|data|url|ref|en|dl)=", _EP, "parameters as the well-known collectors name them", _BODY),
    _rule(Kind.PATH, r"/(?:[a-z]|px|collect|beacon|event|log)\.gif\?", f"{_EP} and {_AG}", "a counting pixel: a short .gif with a query", "leave pixels to visitors without scripts, under the slug"),
    _rule(Kind.PATH, r"^/[a-z0-9]{12}/[a-z0-9/+-]{97,106}$", f"{_AG} and {_UP}", "twelve characters and a hundred more, as a bot detector's script is named", _SLUG),
    _rule(Kind.HOST, rf"^(?:{_HARVESTED})$", _AG, "the subdomains of tag servers and collectors, collected site by site from DNS", _SAME_HOST),
    _rule(Kind.HOST, rf"{_SIGN}(?:{_PRODUCTS}|{_WORDS}|rum|insights|segment){_END}", f"{_EP} and EasyList", "hosts that begin with a tracker's name, or have one in their first part", _SAME_HOST),
    _rule(Kind.HOST, _PARTS, f"{_EP} and EasyList", "a word of the trade within the first part, or the size of a banner", _SAME_HOST),
    _rule(Kind.COOKIE, r"^_fbp$|^_g(?:a|id|at|ac|cl)(?:_|$)|^_gaexp$|^(?:amplitude|mp|ajs|optimizely)_|^_(?:ym_|pk_|uet|shopify|scor_|rdt_uuid|hjsession|chartbeat)", _AG, "cookies of the well-known trackers, which it removes from every site", _NEUTRAL),
    _rule(Kind.PARAMETER, r"^(?:utm_|fbclid$|[gdwt]clid$|msclkid$|ttclid$|yclid$|igshid?$|_gl$|_ga$|_hsmi$|_hsenc$|_clde$|_openstat|mc_|at_custom|cm_mmc)", f"{_AG} and uBlock filters", "parameters that tell where a visitor came from, which it takes off the address", _NEUTRAL),
)  # fmt: skip
