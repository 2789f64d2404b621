"""Browser, system and device of a user agent, for people to read, and whether it is a bot.

user-agents takes about a millisecond for one it has not seen, so that happens on a thread of its
own, behind a bounded cache, and only so many wait for it: the answer must not depend on it.
"""

import asyncio
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from gateway.enrich import AGENT_MAX

_CACHED = 8192
_WAITING_MAX = 64


@dataclass(frozen=True, slots=True)
class Agent:
    """What a user agent says of itself."""

    readable: str
    bot: bool


UNREAD = Agent("", False)


class Agents:
    """Reads user agents; one for a process."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="user-agents")
        self._read: OrderedDict[str, Agent] = OrderedDict()
        self._waiting = 0

    async def read(self, text: str) -> Agent:
        """What `text` says; UNREAD when too many new ones came at once."""
        text = text[:AGENT_MAX]
        known = self._read.get(text)
        if known is not None:
            self._read.move_to_end(text)
            return known
        if not text or self._waiting >= _WAITING_MAX:
            return UNREAD
        self._waiting += 1
        try:
            agent = await asyncio.get_running_loop().run_in_executor(self._thread, _parse, text)
        finally:
            self._waiting -= 1
        self._read[text] = agent
        while len(self._read) > _CACHED:
            self._read.popitem(last=False)
        return agent

    def close(self) -> None:
        """Stop the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def _parse(text: str) -> Agent:
    # Imported here, on the thread: its tables take 200 ms, which the start need not wait for.
    from user_agents import parse

    parsed = parse(text)
    parts = (parsed.browser.family, parsed.os.family, parsed.device.family)
    readable = " / ".join(dict.fromkeys(p for p in parts if p and p != "Other"))
    return Agent(readable[:80], bool(parsed.is_bot))
