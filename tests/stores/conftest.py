"""The stores the contract is tested on: a new one is a new line in STORES."""

from collections.abc import AsyncIterator, Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from gateway.stores.redis import RedisStore
from gateway.stores.sqlite import SqliteStore

from . import Opener, Store
from .redis_server import RedisServer, running

Place = Callable[[], Opener]
"""Each call answers an opener of a store that is empty at first."""


def _sqlite(request: pytest.FixtureRequest) -> Place:
    folder: Path = request.getfixturevalue("tmp_path")
    numbers = count()

    def place() -> Opener:
        path = folder / str(next(numbers)) / "gateway.db"
        return lambda: SqliteStore.open(path, wait_s=0)

    return place


def _redis(request: pytest.FixtureRequest) -> Place:
    server: RedisServer = request.getfixturevalue("redis_server")

    def place() -> Opener:
        url = server.new_database()
        return lambda: RedisStore.open(url, wait_s=0)

    return place


STORES: dict[str, Callable[[pytest.FixtureRequest], Place]] = {"sqlite": _sqlite, "redis": _redis}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(params=STORES)
def new_place(request: pytest.FixtureRequest) -> Place:
    return STORES[request.param](request)


@pytest.fixture
def reopen(new_place: Place) -> Opener:
    return new_place()


@pytest.fixture
async def store(reopen: Opener) -> AsyncIterator[Store]:
    opened = await reopen()
    yield opened
    await opened.close()
