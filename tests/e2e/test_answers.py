"""Every code Meta answers with, from a real socket to what became of the events."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from .harness import JumpingLoop, Lane, Reply, lane, pixel

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": JumpingLoop}


@pytest.fixture
async def one(tmp_path: Path) -> AsyncIterator[Lane]:
    async with lane(tmp_path) as made:
        yield made


TOKEN = [
    *((401, 190, subcode) for subcode in (None, 458, 459, 460, 463, 464, 467, 492)),
    *((400, code, None) for code in (3, 102, 104, 294)),
    *((403, code, None) for code in (10, 200, 250, 299)),
    (404, 803, None),
    (400, 100, 33),
]
THROTTLES = [
    (403, 4, None),
    (400, 17, 2446079),
    (400, 32, None),
    (400, 341, None),
    *((400, 613, subcode) for subcode in (None, 1487742, 5044001, 1996)),
    *((400, code, None) for code in (80000, 80004, 80014)),
    (429, 4, None),
]
PAYLOAD = [
    *(2804000 + n for n in (1, 3, 7, 8, 9, 10, 16, 17, 19, 23, 36, 43, 48, 50, 63, 66, 69)),
    *(2804000 + n for n in (79, 87, 116, 117, 118, 131, 132)),
]
UNKNOWN = {
    "500 code 1": Reply.error(500, 1),
    "400 code 2": Reply.error(400, 2),
    "transient": Reply.error(400, 4242, is_transient=True),
    "500 html": Reply(status=500, body=b"<html>oops</html>"),
    "502 empty": Reply(status=502),
    "200 html": Reply(body=b"<html>welcome</html>"),
    "200 empty": Reply(body=b""),
    "200 broken": Reply(body=b'{"events_received":'),
    "200 one fewer": Reply(body=b'{"events_received":1}'),
    "hung up": Reply(hang_up=True),
    "too slow": Reply(body=b'{"events_received":2}', delay_s=11),
}
NOT_METAS = {
    "404 html": Reply(status=404, body=b"<html>"),
    "407": Reply(status=407),
    "302": Reply(status=302, headers={"Location": "http://127.0.0.1:1/"}),
}


@pytest.mark.parametrize(("status", "code", "subcode"), TOKEN)
async def test_a_refused_pixel_pauses_burns_nothing_and_asks_less_than_once_a_minute(
    one: Lane, status: int, code: int, subcode: int | None
) -> None:
    one.graph.say(Reply.error(status, code, subcode))
    await one.put("a", "b")
    async with one.running():
        await asyncio.sleep(30 * 60)
        asked = len(one.graph.asked)
        assert [e.attempts for e in (await one.log()).values()] == [0, 0]
        assert f"code {code}" in one.worker.trouble
        one.graph.say(Reply(), 0)
        one.worker.use(pixel("new"))
        await asyncio.sleep(5)
    assert 2 <= asked < 10
    assert await one.outcomes() == {"a": "delivered", "b": "delivered"}
    assert {e.attempts for e in (await one.log()).values()} == {1}


async def test_a_block_by_policy_is_held_for_an_hour(one: Lane) -> None:
    one.graph.say(Reply.error(400, 368), 1)
    await one.put("a")
    async with one.running():
        await asyncio.sleep(59 * 60)
        assert len(one.graph.asked) == 1
        await asyncio.sleep(2 * 60)
    assert await one.outcomes() == {"a": "delivered"}


@pytest.mark.parametrize(("status", "code", "subcode"), THROTTLES)
async def test_a_throttle_holds_the_pixel_and_burns_nothing(
    one: Lane, status: int, code: int, subcode: int | None
) -> None:
    one.graph.say(Reply.error(status, code, subcode), 1)
    await one.put("a", "b")
    async with one.running():
        await asyncio.sleep(58)
        assert len(one.graph.asked) == 1
        await asyncio.sleep(6)
    assert await one.outcomes() == {"a": "delivered", "b": "delivered"}
    assert {e.attempts for e in (await one.log()).values()} == {1}


async def test_a_throttle_ends_when_meta_says(one: Lane) -> None:
    regain = '{"1":[{"type":"ads_management","estimated_time_to_regain_access":10}]}'
    throttled = Reply.error(400, 80004)
    headers = {"x-business-use-case-usage": regain}
    one.graph.say(Reply(status=400, body=throttled.body, headers=headers), 1)
    await one.put("a")
    async with one.running():
        await asyncio.sleep(9 * 60)
        assert len(one.graph.asked) == 1
        await asyncio.sleep(2 * 60)
    assert await one.outcomes() == {"a": "delivered"}


@pytest.mark.parametrize("subcode", [*PAYLOAD, None])
async def test_a_rejected_event_is_found_and_kept_with_the_reason(
    one: Lane, subcode: int | None
) -> None:
    rejected = Reply.error(400, 100, subcode)
    one.graph.reply = lambda asked: rejected if "bad" in asked.ids else None
    await one.put("good-1", "bad", "good-2")
    await one.worker.drain_once()
    assert await one.outcomes() == {"good-1": "delivered", "bad": "dead", "good-2": "delivered"}
    numbers = f"code 100/{subcode}" if subcode else "code 100"
    assert numbers in (await one.dead())["bad"].reason


@pytest.mark.parametrize("code", [2500, 12, 5000])
async def test_another_code_is_a_rejection_too(one: Lane, code: int) -> None:
    one.graph.reply = lambda asked: Reply.error(400, code) if "bad" in asked.ids else None
    await one.put("good", "bad")
    await one.worker.drain_once()
    assert await one.outcomes() == {"good": "delivered", "bad": "dead"}


@pytest.mark.parametrize(
    "reply", [*UNKNOWN.values(), *NOT_METAS.values()], ids=[*UNKNOWN, *NOT_METAS]
)
async def test_what_tells_nothing_is_repeated_with_the_same_ids(one: Lane, reply: Reply) -> None:
    one.graph.say(reply, 1)
    await one.put("a", "b")
    async with one.running():
        while "pending" in (await one.outcomes()).values():
            await asyncio.sleep(1)
    assert await one.outcomes() == {"a": "delivered", "b": "delivered"}
    first, *later = [asked.events for asked in one.graph.asked]
    assert [event for events in later for event in events] == first
    assert {e.attempts for e in (await one.log()).values()} == {2}


@pytest.mark.parametrize(
    ("reply", "doubt"),
    [*((r, True) for r in UNKNOWN.values()), *((r, False) for r in NOT_METAS.values())],
    ids=[*UNKNOWN, *NOT_METAS],
)
async def test_only_what_meta_may_have_counted_leaves_a_doubt(
    one: Lane, reply: Reply, *, doubt: bool
) -> None:
    one.graph.say(reply, 1)
    await one.put("a", "b")
    await one.worker.drain_once()
    await asyncio.sleep(25 * 3600)
    await one.worker.drain_once()
    ended = "dead" if doubt else "delivered"
    assert await one.outcomes() == {"a": ended, "b": ended}


async def test_near_the_limit_requests_come_slower_and_at_95_per_cent_stop(one: Lane) -> None:
    def usage(percent: int) -> Reply:
        body = b'{"events_received":1}'
        return Reply(body=body, headers={"x-app-usage": f'{{"call_count":{percent}}}'})

    gaps = []
    for percent in (50, 80, 94, 96):
        one.graph.say(usage(percent), 1)
        await one.put(f"{percent}-first")
        await one.worker.drain_once()
        await one.put(f"{percent}-second")
        while len(one.graph.asked) % 2:
            await one.worker.drain_once()
        first, second = one.graph.asked[-2:]
        gaps.append(second.at_ms - first.at_ms)
        one.graph.say(Reply(), 0)
    assert gaps == sorted(gaps)
    assert gaps[0] < 500 < gaps[2]
    assert gaps[3] >= 60_000


async def test_a_version_about_to_go_is_told(one: Lane) -> None:
    headers = {"X-Ad-Api-Version-Warning": "The call has been auto-upgraded to v27.0"}
    one.graph.say(Reply(body=b'{"events_received":1}', headers=headers), 1)
    await one.put("a")
    await one.worker.drain_once()
    assert "v27.0" in one.worker.version_warning
