"""Fixtures of the fault tests: a stand-in of Graph for each, and a gateway on either store."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e.harness import StandIn
from stores.redis_server import RedisServer, running

from .places import Place


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def stand_in(tmp_path: Path) -> Iterator[StandIn]:
    """Meta's Graph for one test: it keeps the newest 100,000 events."""
    with StandIn(tmp_path / "graph") as graph:
        yield graph.start()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with running(tmp_path / "redis") as server:
        yield server


@pytest.fixture(params=["sqlite", "redis"])
def place(request: pytest.FixtureRequest, tmp_path: Path, stand_in: StandIn) -> Iterator[Place]:
    """A gateway on each of the stores."""
    server = request.getfixturevalue("redis") if request.param == "redis" else None
    made = Place(str(request.param), tmp_path / "gateway", stand_in, server)
    with made.gateway:
        yield made
