"""What the gateway does with more than it can take: goodput, who is turned away, slow sockets, memory.

Starts a gateway of its own (embedded store) and sends from this process over loopback, on the same cores:
read the ratios, not the absolutes, and the middle one of several. `by cpu` is goodput by the gateway's own processor time, which other load on the
machine moves least. Prints counts and judges nothing.
"""

import argparse
import asyncio
import contextlib
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from pathlib import Path

import uvloop

CHROME = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36"
PURCHASES = 10
"""one hit in so many is a purchase"""
CONNECTIONS = 1500
WAITING = 100
ROUNDS = 3


@dataclass(slots=True)
class Gateway:
    """The process under test."""

    process: subprocess.Popen[bytes]
    port: int
    slug: str

    def memory_mb(self, which: str) -> float:
        """VmRSS now, or VmHWM, the most it ever was."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        return int(status.partition(f"{which}:")[2].split()[0]) / 1024

    def cpu_s(self) -> float:
        """Seconds of processor the process has used."""
        ticks = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii").split()[13:15]
        return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def gateway(folder: Path, **env: str) -> Iterator[Gateway]:
    """Started on free ports, stopped at the end."""
    said = folder / "said"
    arguments = [sys.executable, "-m", "gateway", "serve", "--port", "0", "--admin-port", "0"]
    with said.open("wb") as out, (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            arguments, cwd=folder, stdout=out, stderr=log, env={"PATH": os.environ["PATH"], **env}
        )
    try:
        while not (found := re.search(r'src="http://[^/]+:(\d+)/([a-z0-9]+)"', said.read_text())):
            time.sleep(0.05)
        yield Gateway(process, int(found[1]), found[2])
    finally:
        process.terminate()
        process.wait(30)


@dataclass(slots=True)
class Tally:
    """What came back."""

    sent: int = 0
    late: int = 0
    """not sent in time, as every connection was waiting for an answer"""
    times_ms: dict[tuple[str, int], list[float]] = field(default_factory=dict)
    """by event name and status"""

    def add(self, name: str, status: int, took_s: float) -> None:
        self.times_ms.setdefault((name, status), []).append(took_s * 1000)

    def of(self, status: int, name: str | None = None) -> list[float]:
        lists = [t for (n, s), t in self.times_ms.items() if s == status and name in (None, n)]
        return sorted(ms for times in lists for ms in times)


class Client(asyncio.Protocol):
    """One connection with one request under way at most."""

    def __init__(self, free: "list[Client]", tally: Tally) -> None:
        self.free = free
        self.tally = tally
        self.name = ""
        self.begun = 0.0
        self.buffer = b""
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        self.free.append(self)

    def ask(self, name: str, request: bytes, begun: float | None = None) -> None:
        self.name, self.begun = name, begun or time.perf_counter()
        self.tally.sent += 1
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if self.buffer.endswith(b"\r\n\r\n"):  # no answer to a hit has a body
            status = int(self.buffer[9:12])
            self.buffer = b""
            self.tally.add(self.name, status, time.perf_counter() - self.begun)
            self.free.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        with contextlib.suppress(ValueError):
            self.free.remove(self)


_numbers = count()
_VALUE = {"PageView": "{}", "Purchase": '{"value": 9.5, "currency": "EUR"}'}


@cache
def _template(name: str, slug: str) -> bytes:
    """A page's hit of some 700 bytes but for its number, which is in three places and always as long."""
    body = (
        f'{{"events": [{{"name": "{name}", "id": "bench-{os.getpid()}-%(n)010d", "url": '
        f'"https://shop.example.com/product/%(n)010d?utm_source=newsletter", "data": {_VALUE[name]}}}]}}'
    )
    length = len(body % {"n": 0})
    return (
        f"POST /{slug}/h HTTP/1.1\r\nHost: shop.example.com\r\nUser-Agent: {CHROME}\r\nAccept: */*\r\n"
        "Accept-Language: en-GB,en;q=0.9\r\nContent-Type: text/plain\r\nSec-Fetch-Site: same-origin\r\n"
        f"Cookie: _fbp=fb.1.1764000000000.1%(n)010d\r\nContent-Length: {length}\r\n\r\n{body}"
    ).encode()


def hit(slug: str) -> tuple[str, bytes]:
    """A page's hit with an id of its own, made at next to no cost: the generator shares the cores with the gateway."""
    number = next(_numbers)
    name = "PageView" if number % PURCHASES else "Purchase"
    return name, _template(name, slug) % {b"n": number}


@contextlib.asynccontextmanager
async def clients(target: Gateway, number: int) -> AsyncIterator[tuple[list[Client], Tally]]:
    """So many open connections, and what comes back on them."""
    free: list[Client] = []
    tally = Tally()
    loop = asyncio.get_running_loop()
    made = [
        await loop.create_connection(lambda: Client(free, tally), "127.0.0.1", target.port)
        for _ in range(number)
    ]
    yield free, tally
    for transport, _ in made:
        transport.close()


async def closed(target: Gateway, connections: int, seconds: float) -> tuple[float, float]:
    """Hits a second when each connection sends as soon as it is answered, and hits a processor-second."""
    async with clients(target, connections) as (free, tally):
        end, cpu = time.perf_counter() + seconds, target.cpu_s()
        while time.perf_counter() < end:
            while free:
                free.pop().ask(*hit(target.slug))
            await asyncio.sleep(0)
        done = len(tally.of(204))
        return done / seconds, done / (target.cpu_s() - cpu)


async def offered(target: Gateway, per_second: float, seconds: float) -> Tally:
    """What becomes of hits that come at this rate, whatever happens to those before."""
    async with clients(target, CONNECTIONS) as (free, tally):
        begun, due = time.perf_counter(), 0
        while (now := time.perf_counter() - begun) < seconds:
            while due < now * per_second:
                due += 1
                if free:
                    free.pop().ask(*hit(target.slug))
                else:
                    tally.late += 1
            await asyncio.sleep(0.001)
        give_up = time.perf_counter() + 5
        while len(free) < CONNECTIONS and time.perf_counter() < give_up:
            await asyncio.sleep(0.01)
        return tally


async def strangers(target: Gateway, per_second: float, seconds: float) -> Tally:
    """The same when every hit comes on a connection of its own, as from a front server that keeps none."""
    tally = Tally()
    under_way: set[asyncio.Task[None]] = set()

    async def one(place: int) -> None:
        done: list[Client] = []
        begun = time.perf_counter()
        name, request = hit(target.slug)
        request = request.replace(b"Accept: ", b"Connection: close\r\nAccept: ", 1)
        # One address alone would run out of ports.
        transport, client = await asyncio.get_running_loop().create_connection(
            lambda: Client(done, tally),
            "127.0.0.1",
            target.port,
            local_addr=(f"127.0.0.{2 + place % 200}", 0),
        )
        client.ask(name, request, begun)
        while not done and not transport.is_closing():
            await asyncio.sleep(0.01)

    begun, due = time.perf_counter(), 0
    while (now := time.perf_counter() - begun) < seconds:
        while due < now * per_second:
            due += 1
            if len(under_way) < CONNECTIONS:
                task = asyncio.create_task(one(due))
                under_way.add(task)
                task.add_done_callback(under_way.discard)
            else:
                tally.late += 1
        await asyncio.sleep(0.001)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(5):
            await asyncio.gather(*under_way)
    return tally


def quantiles(times: Sequence[float]) -> str:
    """p50 and p99 in milliseconds."""
    if len(times) < 2:
        return "      -       -"
    cuts = statistics.quantiles(times, n=100)
    return f"{cuts[49]:7.1f} {cuts[98]:7.1f}"


async def overload(target: Gateway, seconds: float) -> None:
    """Goodput at one, two and five times what it can do, and with a new connection for each hit.

    What it can do is measured before and after each, as the machine is not the same from one minute to the next.
    """
    await closed(target, WAITING, seconds)  # to be warm
    before = await closed(target, WAITING, seconds)
    print(
        f"\ncapacity: {before[0]:.0f} hits/s with {WAITING} connections that wait for their answers, "
        f"{1e6 / before[1]:.0f} us of processor a hit; memory {target.memory_mb('VmRSS'):.0f} MB"
    )
    print(
        "offered   capacity  sent/s  204/s  goodput  by cpu   503/s  204 p50 p99 ms   503 p50 p99 ms  purchases views  late"
    )
    goodputs: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for times, way in ((1, offered), (2, offered), (5, offered), (1.5, strangers)):
            cpu = target.cpu_s()
            tally = await way(target, times * before[0], seconds)
            cpu = target.cpu_s() - cpu
            await asyncio.sleep(1)
            after = await closed(target, WAITING, seconds / 2)
            capacity, per_cpu = (statistics.mean(pair) for pair in zip(before, after, strict=True))
            words = f"{times}x" + (" new" if way is strangers else "")
            good = tally.of(204)
            goodput = len(good) / seconds / capacity
            goodputs.setdefault(words, []).append(goodput)
            print(
                f"{words:8} {capacity:9.0f} {tally.sent / seconds:7.0f} {len(good) / seconds:6.0f} "
                f"{100 * goodput:6.0f} % {100 * len(good) / cpu / per_cpu:6.0f} % {answers(tally, seconds)}"
            )
            before = after
    for words, each in goodputs.items():
        all_of_it = ", ".join(f"{100 * goodput:.0f}" for goodput in sorted(each))
        print(
            f"goodput at {words}: {100 * statistics.median(each):.0f} %, the middle one of {all_of_it}"
        )
    print(f"most memory: {target.memory_mb('VmHWM'):.0f} MB")


def answers(tally: Tally, seconds: float) -> str:
    """How many were turned away, how fast, and who."""
    good, away = tally.of(204), tally.of(503)
    kept = []
    for name in ("Purchase", "PageView"):
        stored, refused = len(tally.of(204, name)), len(tally.of(503, name))
        kept.append(f"{100 * stored / max(stored + refused, 1):6.0f} %")
    return (
        f"{len(away) / seconds:7.0f}  {quantiles(good)}  {quantiles(away)}  "
        f"{kept[0]} {kept[1]}  {tally.late}"
    )


async def trickle(port: int, number: int) -> None:
    """So many connections that send a header line a second, and begin again when they are cut off."""

    async def one(place: float) -> None:
        await asyncio.sleep(place)
        while True:
            with contextlib.suppress(
                OSError, RuntimeError
            ):  # uvloop raises either for what is closed
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                for piece in (b"POST / HTTP/1.1\r\n", *[b"X-Slow: 1\r\n"] * 60):
                    writer.write(piece)
                    await asyncio.sleep(1)
                    if reader.at_eof():
                        break
                writer.close()
            await asyncio.sleep(0.1)

    await asyncio.gather(*(one(n / number) for n in range(number)))


async def slow_sockets(target: Gateway, number: int, per_second: float, seconds: float) -> None:
    """What thousands of connections that trickle do to everybody else."""

    async def measure(words: str) -> float:
        cpu = target.cpu_s()
        tally = await paced(target, per_second, seconds)
        good = tally.of(204)
        used = (target.cpu_s() - cpu) / seconds
        print(
            f"{words}: {len(good) / seconds:.0f} hits/s, p50 p99 ms {quantiles(good)}, {used:.2f} cores"
        )
        return statistics.quantiles(good, n=100)[98]

    print(f"\n{per_second:.0f} hits/s on 20 connections, with {number} slow sockets beside them")
    # In a process of their own: here they would only slow the measuring down.
    itself = [sys.executable, __file__, "--trickle", str(target.port), "--slow", str(number)]
    ratios = []
    for _ in range(ROUNDS):
        before = await measure("without")
        beside = await asyncio.create_subprocess_exec(*itself)
        await asyncio.sleep(3)
        after = await measure("with   ")
        beside.kill()
        await beside.wait()
        ratios.append(after / before)
    print(
        f"p99 ratio: {statistics.median(ratios):.2f}, the middle one of {', '.join(f'{r:.2f}' for r in sorted(ratios))}; "
        f"most memory: {target.memory_mb('VmHWM'):.0f} MB"
    )


async def paced(target: Gateway, per_second: float, seconds: float) -> Tally:
    """A steady stream that is far from too much."""
    async with clients(target, 20) as (free, tally):
        begun, due = time.perf_counter(), 0
        while (now := time.perf_counter() - begun) < seconds:
            while free and due < now * per_second:
                due += 1
                free.pop().ask(*hit(target.slug))
            await asyncio.sleep(0.001)
        return tally


def bombs(target: Gateway) -> None:
    """Headers and bodies without end: what is taken of them, and the memory they cost."""
    before = target.memory_mb("VmHWM")
    head = f"POST /{target.slug}/h HTTP/1.1\r\nHost: x\r\n".encode()
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    for words, begin, piece in (
        ("header of 100 MB", head + b"Cookie: ", b"x" * 65536),
        ("chunks without end", head + b"Transfer-Encoding: chunked\r\n\r\n", chunk),
    ):
        sent = 0
        with socket.create_connection(("127.0.0.1", target.port), 10) as wire:
            with contextlib.suppress(
                OSError, RuntimeError
            ):  # uvloop raises either for what is closed
                wire.sendall(begin)
                while sent < 100_000_000:
                    wire.sendall(piece)
                    sent += len(piece)
            with contextlib.suppress(
                OSError, RuntimeError
            ):  # uvloop raises either for what is closed
                print(f"{words}: {sent / 1e6:.1f} MB taken, {wire.recv(100)[:12].decode()!r}")
    print(f"memory: {before:.0f} MB before, {target.memory_mb('VmHWM'):.0f} MB at most")


def main() -> None:
    """Run all of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5, help="of each measurement")
    parser.add_argument("--slow", type=int, default=2000, help="slow sockets")
    parser.add_argument("--trickle", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.trickle:
        uvloop.run(trickle(options.trickle, options.slow))
        return
    # Without a token nothing is delivered: what is measured is the door.
    pixel = {"FB_PIXEL_ID": "1234567890123456"}
    with tempfile.TemporaryDirectory() as name, gateway(Path(name), **pixel) as target:
        print(f"memory after the start: {target.memory_mb('VmRSS'):.0f} MB")
        uvloop.run(overload(target, options.seconds))
        uvloop.run(slow_sockets(target, options.slow, 300, options.seconds))
        print()
        bombs(target)


if __name__ == "__main__":
    main()
