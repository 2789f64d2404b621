"""One Redis server or cluster: connecting, its promises checked, and the scripts run in its words and ours.

Whatever a caller does, a command runs to its end, as an answer left unread on a connection would become somebody
else's. Needs Redis 7 or a fork of it that runs the same scripts.
"""

import asyncio
import hashlib
import time
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import TypeVar, cast

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    ClusterError,
    NoScriptError,
    OutOfMemoryError,
    RedisClusterException,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from gateway.errors import StoreError, StoreUnwritable

T = TypeVar("T")

CLUSTER = "redis+cluster://"
TIMEOUT_S = 2.0
"""how long an answer is waited for; whoever sent an event waits with us"""
NEEDED = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}
"""what makes an answer a promise: on disk before it is given, and nothing thrown away for want of memory"""

_SILENT = (
    RedisConnectionError,
    RedisTimeoutError,
    ClusterError,
    RedisClusterException,
    OSError,
    RuntimeError,  # uvloop's word for a connection that ended just before it was written to
)
"""what passes when the server, or enough of the cluster, is back"""
_LUA = Path(__file__).with_name("lua")
# Delivering makes room, so a server that is full must let it go on, with all it takes.
_MAKES_ROOM = frozenset({"claim", "turn", "settle", "recall", "discard", "sweep"})


class Script:
    """One of the .lua files: sent once to a server, called by its hash afterwards."""

    def __init__(self, name: str) -> None:
        text = (_LUA / f"{name}.lua").read_text(encoding="utf-8")
        if name not in {"register", "turn", "clock"}:
            text = (_LUA / "common.lua").read_text(encoding="utf-8") + text
        flags = "#!lua flags=allow-oom\n" if name in _MAKES_ROOM else ""
        self.text = flags + text
        self.sha = hashlib.sha1(self.text.encode()).hexdigest()  # noqa: S324 (Redis' name for it)


class Client:
    """Runs scripts; answers, or raises StoreError."""

    def __init__(self, url: str) -> None:
        # A connection that broke while it was idle costs one more try. What did not answer in time is not asked
        # again: the caller is told, and asks when it likes.
        retry = Retry(NoBackoff(), 1, (RedisConnectionError,))
        self._redis: Redis | RedisCluster
        if url.startswith(CLUSTER):
            self._redis = RedisCluster.from_url(
                "redis://" + url.removeprefix(CLUSTER),
                socket_timeout=TIMEOUT_S,
                socket_connect_timeout=TIMEOUT_S,
                retry=Retry(NoBackoff(), 2),
            )
        else:
            self._redis = Redis.from_url(
                url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S, retry=retry
            )
        self._running: set[asyncio.Task[object]] = set()
        self._closed = False

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[str | bytes]) -> object:
        """The script's answer."""
        return await self._to_the_end(self._evaluate(script, keys, args))

    async def command(self, name: str, *args: str | bytes | int) -> object:
        """The answer to a plain command."""
        return await self._to_the_end(self._execute(name, *args))

    async def wait_for_answer(self, wait_s: float) -> None:
        """Until the server answers: it may just be starting. Raises StoreError."""
        loop = asyncio.get_running_loop()
        give_up = loop.time() + wait_s
        while True:
            try:
                await self.command("GET", "gw1:probe")
            except StoreUnwritable:
                raise
            except StoreError:
                if loop.time() >= give_up:
                    raise
                await asyncio.sleep(0.2)
            else:
                return

    async def check(self) -> bool:
        """Whether the server shows that it keeps what it answers for. Raises StoreUnwritable when it does not keep it."""
        if isinstance(self._redis, RedisCluster):
            nodes = self._redis.get_primaries()
            found = [await self._to_the_end(self._settings_of(target_nodes=n)) for n in nodes]
        else:
            found = [await self._to_the_end(self._settings_of())]
        for settings in found:
            wrong = {k: v for k, v in (settings or NEEDED).items() if v != NEEDED[k]}
            if wrong:
                raise StoreUnwritable(
                    f"redis has {shown(wrong)}, which loses events it has answered for; "
                    f"expected {shown(NEEDED)}"
                )
        return None not in found

    async def close(self) -> None:
        """Finish what is under way, then hang up."""
        self._closed = True
        if self._running:
            await asyncio.wait(self._running)
        await self._redis.aclose()

    async def _to_the_end(self, work: Coroutine[None, None, T]) -> T:
        if self._closed:
            work.close()
            raise StoreError("the store is closed")
        task = asyncio.create_task(work)
        self._running.add(cast(asyncio.Task[object], task))
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: "asyncio.Task[T]") -> None:
        self._running.discard(cast("asyncio.Task[object]", task))
        if not task.cancelled():
            task.exception()  # whoever was cancelled does not ask for it

    async def _evaluate(
        self, script: Script, keys: Sequence[str], args: Sequence[str | bytes]
    ) -> object:
        try:
            return await self._execute("EVALSHA", script.sha, len(keys), *keys, *args)
        except _Unknown:
            return await self._execute("EVAL", script.text, len(keys), *keys, *args)

    async def _execute(self, name: str, *args: str | bytes | int) -> object:
        try:
            return cast(object, await self._redis.execute_command(name, *args))
        except NoScriptError as error:
            raise _Unknown from error
        except OutOfMemoryError as error:
            raise StoreUnwritable("redis refuses (its memory is full)") from error
        except AuthenticationError as error:
            raise StoreUnwritable("redis refuses (user or password)") from error
        except _SILENT as error:
            raise StoreError(f"redis does not answer ({type(error).__name__})") from error
        except RedisError as error:
            raise StoreUnwritable(f"redis refuses ({error})") from error

    async def _settings_of(self, **node: object) -> dict[str, str] | None:
        try:
            answer = await self._redis.execute_command("CONFIG GET", *NEEDED, **node)
        except ResponseError:  # providers forbid it
            return None
        except (RedisError, *_SILENT) as error:
            raise StoreError(f"redis does not answer ({type(error).__name__})") from error
        texts = cast(dict[bytes | str, bytes | str], answer)
        return {_text(name): _text(value) for name, value in texts.items()}


class _Unknown(StoreError):
    """The server does not know the script yet."""


class Clock:
    """The server's clock, carried on by this process's own steady one, so that all processes share one time."""

    def __init__(self) -> None:
        self._ahead_ms = 0.0

    async def set(self, client: Client, script: Script, key: str) -> None:
        """Read the server's clock. Raises StoreError."""
        asked = time.monotonic()
        answer = cast(int, await client.run(script, [key], []))
        answered = time.monotonic()
        self._ahead_ms = answer - 500 * (asked + answered)

    def now_ms(self) -> int:
        """Unix milliseconds."""
        return int(time.monotonic() * 1000 + self._ahead_ms)


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode()


def shown(settings: dict[str, str]) -> str:
    """Settings as one would type them."""
    return ", ".join(f"{name} {value}" for name, value in settings.items())
