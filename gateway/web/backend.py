"""What a backend meets: POST /v1/events with the API key."""

import hmac
from collections.abc import Callable, Sequence

from starlette.requests import Request
from starlette.responses import Response

from gateway import metrics
from gateway.admission import Limiter
from gateway.errors import HitInvalid, StoreError
from gateway.hit import Source
from gateway.ingest import Ingest, Judged
from gateway.outcome import REJECTED, WAITING, Outcome
from gateway.secret import Secret
from gateway.stores import Records
from gateway.validate import Problem
from gateway.web.answer import json_answer, retry_after
from gateway.web.request import body_of, facts_of, refusal
from gateway.web.shapes import ledger_line
from gateway.wire import BACKEND_MAX_BYTES


class Keys:
    """Who has the API key. The right one opens always; guessing is slowed down, by address."""

    def __init__(self, api_key: Secret, failures: Limiter, clock_ms: Callable[[], int]) -> None:
        self._api_key = api_key
        self._failures = failures
        self._clock_ms = clock_ms

    def opens(self, given: str) -> bool:
        """Whether this is the key."""
        return matches(given, self._api_key)

    def failed(self, request: Request) -> float:
        """Count a wrong key. 0: say so; else the milliseconds to be quiet for."""
        address = request.client.host if request.client else ""
        return self._failures.take(address, self._clock_ms())


class Backend:
    """The backend API's routes."""

    def __init__(
        self, *, ingest: Ingest, records: Records, keys: Keys, clock_ms: Callable[[], int]
    ) -> None:
        self._ingest = ingest
        self._records = records
        self._keys = keys
        self._clock_ms = clock_ms

    async def events(self, request: Request) -> Response:
        """One event, an array, or {"events": […]}: 202 once all that is valid is stored."""
        if not self._keys.opens(bearer(request)):
            return self._unknown(request)
        try:
            body = await body_of(request, BACKEND_MAX_BYTES, gzip=True)
            receipt = await self._ingest.accept(
                body, facts_of(request, Source.BACKEND, self._clock_ms()), None
            )
        except (HitInvalid, StoreError) as error:
            return refusal(error, Source.BACKEND)
        content = _summary(receipt.judged)
        return json_answer(content, 422 if _all_rejected(receipt.judged) else 202)

    async def ledger(self, request: Request) -> Response:
        """Where every accepted event is, pixel by pixel."""
        if not self._keys.opens(bearer(request)):
            return self._unknown(request)
        try:
            lines = await self._records.ledger()
        except StoreError as error:
            return refusal(error, Source.BACKEND)
        adds_up = all(line.adds_up for line in lines)
        return json_answer({"adds_up": adds_up, "pixels": [ledger_line(line) for line in lines]})

    def _unknown(self, request: Request) -> Response:
        wait_ms = self._keys.failed(request)
        metrics.REFUSED.labels(Source.BACKEND, "429" if wait_ms else "401").inc()
        if wait_ms:
            words = "too many requests with a wrong key from this address"
            return json_answer({"error": words}, 429, retry_after(wait_ms))
        return json_answer(
            {"error": "the Authorization header needs the API key: Bearer gwk_…"},
            401,
            {"WWW-Authenticate": "Bearer"},
        )


def bearer(request: Request) -> str:
    """The key the request carries; empty without one."""
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    return given.strip() if scheme.lower() == "bearer" else ""


def bears(request: Request, key: Secret) -> bool:
    """Whether the request carries this key."""
    return matches(bearer(request), key)


def matches(given: str, key: Secret) -> bool:
    """Whether a key is the right one; takes the same time for every wrong one."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), key.encode())


def _all_rejected(judged: Sequence[Judged]) -> bool:
    return all(one.outcome in REJECTED for one in judged)


def _summary(judged: Sequence[Judged]) -> dict[str, object]:
    def count(outcome: Outcome) -> int:
        return sum(one.outcome is outcome for one in judged)

    return {
        "accepted": sum(count(outcome) for outcome in WAITING),
        "merged": count(Outcome.MERGED),
        "duplicates": count(Outcome.DUPLICATE),
        "rejected": [
            {"index": one.index, "errors": [_error(one.problem)]}
            for one in judged
            if one.outcome in REJECTED and one.problem
        ],
        "events": [
            {
                "event_id": one.event_id,
                "outcome": "accepted" if one.outcome in WAITING else one.outcome,
            }
            for one in judged
        ],
        "warnings": [
            {"index": one.index, "warnings": one.warnings} for one in judged if one.warnings
        ],
    }


def _error(problem: Problem) -> dict[str, str]:
    see = {"see": problem.page} if problem.page else {}
    return {"field": problem.field, "error": problem.error, **see}
