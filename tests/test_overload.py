"""Who is turned away when the disk does not keep up."""

import asyncio

import pytest

from gateway import overload
from gateway.errors import StoreBusy
from gateway.hit import NO_EXTRAS, Hit, Misfit, Sent, Source
from gateway.overload import BYTES, ITEMS, Backlog, Load


class Clock:
    """Seconds that pass when told to."""

    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def hit(*names: str) -> Hit:
    events = (
        Sent(index=0, name=name, id="a", time_ms=0, user={}, data={}, extras=NO_EXTRAS)
        for name in names
    )
    return Hit(events=(*events, Misfit(index=1, name="Purchase", id="b", field="", error="")))


@pytest.mark.parametrize(
    ("names", "source", "vital"),
    [
        (("PageView",), Source.PAGE, False),
        (("ViewContent", "Search", "MyOwn"), Source.PAGE, False),
        (("PageView", "Purchase"), Source.PAGE, True),
        (("Lead",), Source.PAGE, True),
        ((), Source.PAGE, False),
        (("PageView",), Source.BACKEND, True),
        (("PageView",), Source.GRAPH, True),
    ],
)
def test_what_matters_most(names: tuple[str, ...], source: Source, vital: bool) -> None:
    assert overload.is_vital(hit(*names), source) is vital


@pytest.mark.parametrize(
    ("items", "size", "load"),
    [
        (0, 0, Load.CALM),
        (ITEMS * 79 // 100, BYTES * 79 // 100, Load.CALM),
        (ITEMS * 81 // 100, 0, Load.HIGH),
        (0, BYTES * 81 // 100, Load.HIGH),
        (ITEMS - 1, 0, Load.HIGH),
        (ITEMS, 0, Load.FULL),
        (0, BYTES, Load.FULL),
    ],
)
def test_how_much_may_wait(items: int, size: int, load: Load) -> None:
    backlog = Backlog(Clock())
    half = backlog.holding(items // 2, size // 2)
    with half, backlog.holding(items - items // 2, size - size // 2):
        assert backlog.load() is load
    assert backlog.load() is Load.CALM


def test_how_long_the_oldest_may_wait() -> None:
    clock = Clock()
    backlog = Backlog(clock)
    loads = []
    with backlog.holding(1, 1):
        for waited_s in (0.4, 0.6, 9.0):
            clock.now_s = 1000 + waited_s
            with backlog.holding(1, 1):  # the newest does not count
                loads.append(backlog.load())
    assert loads == [Load.CALM, Load.HIGH, Load.HIGH]
    assert backlog.load() is Load.CALM


def test_what_fails_or_is_cancelled_waits_no_longer() -> None:
    backlog = Backlog(Clock())
    with pytest.raises(asyncio.CancelledError), backlog.holding(ITEMS, 1):
        raise asyncio.CancelledError
    assert backlog.load() is Load.CALM


@pytest.mark.parametrize(
    ("path", "body", "vital"),
    [
        (b"/k3vq8w2/h", b'{"events":[{"name":"PageView"}]}', False),
        (b"/k3vq8w2/h", b'{"events":[{"name":"PageView"},{"name": "Purchase"}]}', True),
        (b"/k3vq8w2/h", b'{"events":[{"name":"PurchaseButton"}]}', False),
        (b"/v1/events", b"", True),
        (b"/v26.0/123/events", b"", True),
        (b"/healthz", b"", True),
        (b"/v1abcde/h", b"", False),
        (b"/k3vq8w2", b"", False),
    ],
)
def test_a_glance_at_the_bytes_tells_what_matters_most(
    path: bytes, body: bytes, vital: bool
) -> None:
    assert overload.looks_vital(path, body) is vital


def test_who_is_turned_away_is_counted() -> None:
    backlog = Backlog(Clock())
    backlog.admit(Load.HIGH)
    with backlog.holding(ITEMS - 1, 0):
        backlog.admit(Load.FULL)
        with pytest.raises(StoreBusy):
            backlog.admit(Load.HIGH)
        with backlog.holding(1, 0), pytest.raises(StoreBusy):
            backlog.admit(Load.FULL)
    assert backlog.turned_away == 2


def test_who_waits_for_the_disk_is_counted() -> None:
    backlog = Backlog(Clock())
    with backlog.holding(1000, 0), backlog.holding(0, 0):
        assert backlog.hits() == 2
    assert backlog.hits() == 0
