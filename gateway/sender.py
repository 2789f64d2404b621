"""The one place that talks to Meta: a batch goes out, a Verdict comes back."""

import asyncio
from collections.abc import Sequence

import httpx2

from gateway import capi, metrics
from gateway.capi import Verdict
from gateway.config import Pixel

TIMEOUT_S = 10.0
"""Meta answers within 0.6 s mostly; nobody waits for us, and a time-out leaves us not knowing"""
CONNECT_TIMEOUT_S = 3.0
ANSWER_MAX_BYTES = 64 * 1024

# Nothing of the body had left: Meta cannot have the events.
_NOT_SENT = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.ProxyError,
    httpx2.UnsupportedProtocol,
)


class Sender:
    """Sends batches to Graph. Raises nothing but cancellation."""

    def __init__(self, client: httpx2.AsyncClient, base_url: str, version: str) -> None:
        self._client = client
        self._base = f"{base_url}/{version}"

    async def send(self, pixel: Pixel, bodies: Sequence[bytes]) -> Verdict:
        """One request of at most 1000 events; what Meta's answer means for all of them."""
        if pixel.access_token is None:
            return capi.no_token()
        content = capi.batch(bodies, pixel.access_token.reveal(), pixel.test_event_code)
        metrics.BATCH_EVENTS.observe(len(bodies))
        with metrics.CAPI_SECONDS.time():
            verdict = await self._post(pixel.id, content, len(bodies))
        metrics.CAPI_REQUESTS.labels(verdict.fate).inc()
        return verdict

    async def _post(self, pixel_id: str, content: bytes, count: int) -> Verdict:
        url = f"{self._base}/{pixel_id}/events"
        headers = {"Content-Type": "application/json"}
        try:
            async with (
                asyncio.timeout(TIMEOUT_S),
                self._client.stream("POST", url, content=content, headers=headers) as response,
            ):
                answer = await _read(response)
                said = {name.lower(): value for name, value in response.headers.items()}
                return capi.classify(response.status_code, said, answer, count)
        except TimeoutError:
            return capi.unreachable(f"no answer within {TIMEOUT_S:g} s", ambiguous=True)
        except httpx2.HTTPError as error:
            # The class tells whether Meta was reached; the text may hold the URL.
            reason = f"network: {type(error).__name__}"
            return capi.unreachable(reason, ambiguous=not isinstance(error, _NOT_SENT))


async def _read(response: httpx2.Response) -> bytes:
    """The answer, cut where no answer of Graph's reaches."""
    answer = b""
    async for chunk in response.aiter_bytes():
        answer += chunk
        if len(answer) > ANSWER_MAX_BYTES:
            return answer[:ANSWER_MAX_BYTES]
    return answer


def new_client(transport: httpx2.AsyncBaseTransport | None = None) -> httpx2.AsyncClient:
    """A client for Graph, or for the built-in sandbox when its transport is given."""
    return httpx2.AsyncClient(
        transport=transport,
        timeout=httpx2.Timeout(TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
        follow_redirects=False,
    )
