"""What Meta has is not sent again because the store could not be told: the worker keeps it in mind."""

import asyncio
import resource
from pathlib import Path

import pytest

from .harness import Asked, JumpingLoop, Reply, lane

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": JumpingLoop}


async def test_a_store_that_fails_after_the_delivery_costs_no_second_one(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    async with lane(tmp_path) as one:

        def fill_the_disk(_asked: Asked) -> Reply | None:
            """From now on no file may outgrow the store's WAL file."""
            size = (tmp_path / "gateway.db-wal").stat().st_size
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
            return None

        await one.put("a", "b")
        one.graph.reply = fill_the_disk
        async with one.running():
            try:
                await asyncio.sleep(90)  # longer than a lease
                assert await one.outcomes() == dict.fromkeys("ab", "pending")
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, before)
            await asyncio.sleep(90)  # longer than a lease
            assert await one.outcomes() == dict.fromkeys("ab", "delivered")
            # And what comes afterwards is delivered as ever.
            one.graph.say(Reply(), 0)
            await one.put("c")
            await asyncio.sleep(10)
        assert await one.outcomes() == dict.fromkeys("abc", "delivered")
        assert [asked.ids for asked in one.graph.asked] == [["a", "b"], ["c"]]
