"""What the tests of every store share."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from gateway.outcome import Outcome
from gateway.stores import (
    HOUR_MS,
    Delivery,
    Entry,
    Half,
    Joined,
    Note,
    Outbox,
    Records,
    Settlement,
)

NOW = 1_760_000_000_000
DAY_MS = 24 * HOUR_MS
LEASE_MS = 60_000


class Store(Outbox, Records, Protocol):
    """What the gateway is given: both halves of the contract."""


Opener = Callable[[], Awaitable[Store]]
"""Opens the same store each time it is called."""


def note(event_id: str = "id", *, event_name: str = "PageView") -> Note:
    return Note(event_name=event_name, event_id=event_id, source="browser")


def entry(
    name: str,
    *,
    pixel: str = "1",
    body: bytes | None = None,
    due_ms: int = NOW,
    deadline_ms: int = NOW + DAY_MS,
    side: str = "",
    lacks: str = "",
    suppress: bool = False,
) -> Entry:
    """An event whose key, body and event id are its name."""
    return Entry(
        pixel=pixel,
        key=name.encode().rjust(16, b"-"),
        body=name.encode() if body is None else body,
        due_ms=due_ms,
        deadline_ms=deadline_ms,
        note=note(name),
        side=side,
        lacks=lacks,
        suppress=suppress,
    )


def join(held: Half, new: Half) -> Joined | None:
    """A merge whose bodies are sets of words: their union, complete with both sides, unless all words are lacking."""
    words = held.body.split() + [word for word in new.body.split() if word not in held.body.split()]
    if held.side == new.side and words == held.body.split():
        return None
    body = b" ".join(words)
    lacks = lacking(body)
    complete = held.side != new.side and not lacks
    return Joined(body=body, note=note(body.decode()), complete=complete, lacks=lacks)


def lacking(body: bytes) -> str:
    """What a body of words that all begin with - lacks: one that does not."""
    return "a word" if all(word.startswith(b"-") for word in body.split()) else ""


async def claim(
    store: Outbox,
    now_ms: int = NOW,
    *,
    pixel: str = "1",
    limit: int = 1000,
    max_bytes: int = 1_000_000,
    newest: bool = False,
) -> list[Delivery]:
    return await store.claim(
        pixel,
        now_ms=now_ms,
        lease_ms=now_ms + LEASE_MS,
        limit=limit,
        max_bytes=max_bytes,
        newest=newest,
    )


async def claim_one(store: Outbox, now_ms: int = NOW) -> Delivery:
    [delivery] = await claim(store, now_ms)
    return delivery


async def settle(
    store: Outbox,
    delivery: Delivery,
    outcome: Outcome,
    now_ms: int = NOW,
    *,
    reason: str = "",
    due_ms: int = 0,
    count: bool = True,
) -> bool:
    """Whether the delivery was still ours to settle."""
    settlement = Settlement(
        delivery=delivery, outcome=outcome, reason=reason, due_ms=due_ms, count=count
    )
    return await store.settle([settlement], now_ms) == 1


async def kill(store: Outbox, name: str, now_ms: int = NOW, *, reason: str = "") -> Delivery:
    """Put an event and give it up."""
    await store.put([entry(name, due_ms=now_ms, deadline_ms=now_ms + DAY_MS)], [], now_ms)
    delivery = await claim_one(store, now_ms)
    assert await settle(store, delivery, Outcome.DEAD, now_ms, reason=reason)
    return delivery


async def accounts(store: Records) -> dict[str, dict[str, int]]:
    """The ledger without its zeros, by pixel; checked to add up."""
    lines = await store.ledger()
    assert all(line.adds_up for line in lines), lines
    return {
        line.pixel: {
            name: n
            for name, n in (
                ("accepted", line.accepted),
                ("delivered", line.delivered),
                ("merged", line.merged),
                *line.dropped.items(),
                ("dead", line.dead),
                ("pending", line.pending),
            )
            if n
        }
        for line in lines
    }
