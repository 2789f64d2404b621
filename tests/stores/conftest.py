"""The stores the contract is tested on: a new one is a new line in STORES."""

from collections.abc import AsyncIterator, Callable
from itertools import count
from pathlib import Path

import pytest

from gateway.stores.sqlite import SqliteStore

from . import Opener, Store

STORES: dict[str, Callable[[Path], Opener]] = {
    "sqlite": lambda folder: lambda: SqliteStore.open(folder / "gateway.db", wait_s=0),
}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=STORES)
def new_place(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Opener]:
    """Each call answers an opener of a store that is empty at first."""
    numbers = count()
    return lambda: STORES[request.param](tmp_path / str(next(numbers)))


@pytest.fixture
def reopen(new_place: Callable[[], Opener]) -> Opener:
    return new_place()


@pytest.fixture
async def store(reopen: Opener) -> AsyncIterator[Store]:
    opened = await reopen()
    yield opened
    await opened.close()
