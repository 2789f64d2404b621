"""The rules that touch a page rather than a request, which no engine here applies: cookies and scriptlets.

Read from the lists' text, and strictly: an exception to a rule is not looked at, and a rule counts as one for
every site when it names none. AdGuard, "Cookie rules" and "Scriptlets"; uBlock Origin, "Static extended filtering".
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

# What follows `cookie` may be a name, a pattern, or nothing, which means every cookie.
_COOKIE = re.compile(r"[$,]cookie(?:=(?P<name>/(?:\\.|[^/\\])*/i?|[^,;]*))?(?=[,;]|$)")
_DOMAINS = re.compile(r"[$,](?:domain|from)=(?P<domains>[^,]*)")
_SCRIPTLET = re.compile(
    r"^(?P<sites>[^#]*)(?:##\+js\((?P<ubo>.*)\)|#%#//scriptlet\((?P<adguard>.*)\))\s*$"
)
_ARGUMENT = re.compile(r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|[^,]+""")


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule for every site. `names`: the cookies it removes, or the texts a scriptlet is given."""

    text: str
    names: tuple[str, ...]

    def hits(self, name: str) -> bool:
        """Whether one of them is this name, or a pattern for it."""
        return any(_means(pattern, name) for pattern in self.names)


def _means(pattern: str, name: str) -> bool:
    if re.fullmatch(r"/.+/i?", pattern):
        flags = re.IGNORECASE if pattern.endswith("i") else 0
        return re.search(pattern.removesuffix("i")[1:-1], name, flags) is not None
    return pattern in {name, ""}


def cookie_rules(lines: Iterable[str]) -> Iterator[Rule]:
    """Every `$cookie` rule that holds on sites nobody named."""
    for line in lines:
        found = _COOKIE.search(line)
        if not found or not line.startswith(("$", "*", "/")) or "#" in line[: found.start()]:
            continue  # no such rule, or one that names a host, an exception or a comment
        named = _DOMAINS.search(line)
        if named and not all(d.startswith("~") for d in named["domains"].split("|")):
            continue
        yield Rule(line, (found["name"] or "",))


def scriptlets(lines: Iterable[str]) -> Iterator[Rule]:
    """Every scriptlet that runs on sites nobody named."""
    for line in lines:
        found = _SCRIPTLET.match(line) if "#" in line and not line.startswith("!") else None
        if found is None:
            continue
        sites = [site for site in found["sites"].split(",") if site and site != "*"]
        if any(not site.startswith("~") for site in sites):
            continue
        words = _ARGUMENT.findall(found["ubo"] or found["adguard"])
        yield Rule(line, tuple(word.strip().strip("'\"") for word in words if word.strip()))
