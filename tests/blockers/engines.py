"""The engines of three ad blockers, each with the lists it ships, and one question: what would you block?

The lists are those that set-up unpacked from packages (`config/setup.sh`). Peter Lowe's, which uBlock Origin also
has on by default, is in none of them: it is a list of hosts, none of which is a site's own.
"""

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import adblock
import publicsuffixlist
import pytest

HERE = Path(__file__).parent
LISTS = HERE.parent.parent / ".venv" / "blockers" / "lists"


class Kind(StrEnum):
    """How the browser asks; the engines' word for it. `fetch` is xmlhttprequest, `sendBeacon` is ping."""

    SCRIPT = "script"
    XHR = "xmlhttprequest"
    PING = "ping"
    IMAGE = "image"
    PAGE = "main_frame"


@dataclass(frozen=True, slots=True)
class Request:
    """What a page asks for."""

    url: str
    page: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class Answer:
    """`hits`: the rule that would block a request, by the request's index."""

    rules: int
    hits: Mapping[int, str]


@dataclass(frozen=True, slots=True)
class Blocker:
    """An engine and the lists it loads."""

    engine: str
    title: str
    lists: tuple[str, ...]

    @property
    def label(self) -> str:
        """For people."""
        return f"{self.engine}, {self.title}"

    def ask(
        self,
        requests: Sequence[Request],
        headers: Mapping[str, str],
        own: str = "",
        suffixes: str | None = None,
    ) -> Answer:
        """What it would block. `headers`: of the responses. `own`: rules beside the lists'.

        `suffixes`: in place of the Public Suffix List, for the engine that brings none.
        """
        texts = [*(text_of(name) for name in self.lists), own]
        if self.engine == "Brave":
            return _ask_brave(texts, requests)
        if suffixes is None:
            suffixes = Path(publicsuffixlist.PSLFILE).read_text(encoding="utf-8")
        question = {
            "lists": texts,
            "suffixes": suffixes,
            "requests": [(r.url, r.page, r.kind) for r in requests],
            "headers": [{"name": n, "value": v} for n, v in headers.items()],
        }
        program = HERE / ("ubo.js" if self.engine == "uBlock Origin" else "ghostery.js")
        return _ask_node(program, question)


_UBO = ("filters", "badware", "privacy", "quick-fixes", "unbreak")
_EASY = ("easylist", "easyprivacy")
_ADGUARD = ("adguard-base", "adguard-tracking", "adguard-url", "adguard-social")
BLOCKERS = (
    Blocker("uBlock Origin", "default lists", (*_UBO, *_EASY, "urlhaus-filter-online")),
    Blocker("uBlock Origin", "AdGuard's lists", _ADGUARD),
    Blocker("Ghostery", "EasyList, EasyPrivacy, uBlock", (*_EASY, *_UBO)),
    Blocker("Ghostery", "AdGuard's lists", _ADGUARD),
    Blocker("Brave", "EasyList, EasyPrivacy, uBlock", (*_EASY, *_UBO)),
)
EVERY_LIST = tuple(dict.fromkeys(name for blocker in BLOCKERS for name in blocker.lists))


def text_of(name: str) -> str:
    """A list's text."""
    path = LISTS / f"{name}.txt"
    if not path.exists():
        pytest.fail(f"the filter list {name} is missing: `make test` fetches it", pytrace=False)
    return path.read_text(encoding="utf-8")


def _ask_node(program: Path, question: object) -> Answer:
    node = shutil.which("node")
    if node is None or not (HERE / "node_modules").is_dir():
        pytest.fail("Node 20 and the engines are missing: `make test` installs them", pytrace=False)
    done = subprocess.run(
        [node, str(program)],
        input=json.dumps(question).encode(),
        capture_output=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    answer = json.loads(done.stdout.splitlines()[-1])
    return Answer(answer["rules"], {int(index): rule for index, rule in answer["hits"].items()})


def _ask_brave(texts: Sequence[str], requests: Sequence[Request]) -> Answer:
    lines = [line for text in texts for line in text.splitlines()]
    filters = adblock.FilterSet(debug=True)
    filters.add_filters(lines)
    # Unmerged, so that an answer names one rule and not a dozen.
    engine = adblock.Engine(filters, optimize=False)
    hits = {}
    for index, request in enumerate(requests):
        kind = "document" if request.kind is Kind.PAGE else request.kind.value
        found = engine.check_network_urls(request.url, request.page, kind)
        assert found.error is None
        if found.matched:
            hits[index] = str(found.filter)
    rules = sum(bool(line) and line[0] not in "![" and not _cosmetic(line) for line in lines)
    return Answer(rules, hits)


def _cosmetic(line: str) -> bool:
    return any(mark in line for mark in ("##", "#@#", "#$#", "#?#", "#%#"))
