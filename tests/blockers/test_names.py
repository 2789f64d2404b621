"""`gateway/names.py` and the engines agree: what they block by its name today, it names too.

The other way round it may be stricter: it also names what no list blocks yet but was hunted elsewhere.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache

import pytest

from gateway import keys, names
from gateway.names import Kind as Named

from .cases import HEADERS, PLANTED, PLANTED_LABELS, of_install
from .engines import BLOCKERS, EVERY_LIST, Kind, Request, text_of

PAGE = "https://www.acmeshop.com/"
HARVESTED_ON = 50
"""sites: a first label that a list names so often stands for a sort of host, not for a site"""


@cache
def rules() -> tuple[str, ...]:
    """What the lists match a URL with, without its options; exceptions and cosmetics left out."""
    lines = (line for name in EVERY_LIST for line in text_of(name).splitlines())
    plain = (
        line
        for line in lines
        if not re.match(r"!|@@|\[", line) and not re.search(r"#[@$?%]?#|#%#", line)
    )
    return tuple(line.partition("$")[0].lower() for line in plain)


@cache
def slugs() -> tuple[str, ...]:
    """Every word of the lists that an owner could set as the slug."""
    words = {word for rule in rules() for word in re.findall(r"[a-z0-9]{7,14}", rule)}
    return tuple(sorted(word for word in words if _may_be_a_slug(word)))


def _may_be_a_slug(word: str) -> bool:
    try:
        keys.slug(word)
    except ValueError:
        return False
    return True


@cache
def labels() -> tuple[str, ...]:
    """First labels of hosts: planted ones, those of rules about hosts of any domain, and those harvested from many."""
    everywhere = {m[1] for rule in rules() if (m := re.match(r"://([a-z0-9-]+)\.", rule))}
    sites = Counter(
        m[1]
        for rule in rules()
        if (m := re.match(r"\|\|([a-z0-9-]+)\.[a-z0-9-]+\.[a-z.]+\^", rule))
    )
    return tuple(
        sorted(
            everywhere
            | set(PLANTED_LABELS)
            | {label for label, many in sites.items() if many >= HARVESTED_ON}
        )
    )


def of_label(label: str) -> Iterator[Request]:
    """A gateway on a host of its own, asked by a page of the site."""
    for request in of_install("k3vq8w2mzp", f"{label}.acmeshop.com"):
        if request.kind is not Kind.PAGE:
            yield Request(request.url, PAGE, request.kind)


@pytest.fixture(scope="module")
def blocked() -> Mapping[tuple[Named, str], str]:
    """The corpus' names that some engine blocks, with the rule."""
    asked = [
        ((Named.PATH, f"/{slug}"), r)
        for slug in slugs()
        for r in of_install(slug, "www.acmeshop.com")
    ]
    asked += [
        ((Named.HOST, f"{label}.acmeshop.com"), r) for label in labels() for r in of_label(label)
    ]
    asked += [((_kind(one.name), one.name), one.request) for one in PLANTED if _ours(one.name)]
    requests = [request for _, request in asked]
    found: dict[tuple[Named, str], str] = {}
    for blocker in BLOCKERS:
        for index, rule in blocker.ask(requests, HEADERS).hits.items():
            found.setdefault(asked[index][0], rule)
    print(
        f"\n{len(slugs())} slugs and {len(labels())} hosts of the lists: {len(found)} are blocked"
    )
    return found


def _ours(name: str) -> bool:
    """Third parties are blocked for who they are, not for a name somebody chose."""
    return "://" not in name or ".acmeshop.com/" in name


def _kind(name: str) -> Named:
    return Named.HOST if "://" in name else Named.PATH


def test_what_the_engines_block_by_its_name_is_named(
    blocked: Mapping[tuple[Named, str], str],
) -> None:
    missed = {}
    for (kind, name), rule in blocked.items():
        bare = name.split("/")[2] if "://" in name else name
        if names.verdict(kind, bare) is None:
            missed[name] = rule
    assert len(blocked) > 60
    assert missed == {}
