"""What a backend meets: POST /v1/events with the API key."""

import hmac
from collections.abc import Callable, Sequence

from starlette.requests import Request
from starlette.responses import Response

from gateway import metrics
from gateway.errors import HitInvalid, StoreError
from gateway.hit import Source
from gateway.ingest import Ingest, Judged
from gateway.outcome import REJECTED, WAITING, Outcome
from gateway.secret import Secret
from gateway.validate import Problem
from gateway.web.answer import json_answer
from gateway.web.request import body_of, facts_of, refusal
from gateway.wire import BACKEND_MAX_BYTES


class Backend:
    """The backend API's routes."""

    def __init__(self, *, ingest: Ingest, api_key: Secret, clock_ms: Callable[[], int]) -> None:
        self._ingest = ingest
        self._api_key = api_key
        self._clock_ms = clock_ms

    async def events(self, request: Request) -> Response:
        """One event, an array, or {"events": […]}: 202 once all that is valid is stored."""
        if not bears(request, self._api_key):
            metrics.REFUSED.labels(Source.BACKEND, "401").inc()
            return json_answer(
                {"error": "the Authorization header needs the API key: Bearer gwk_…"},
                401,
                {"WWW-Authenticate": "Bearer"},
            )
        try:
            body = await body_of(request, BACKEND_MAX_BYTES)
            receipt = await self._ingest.accept(
                body, facts_of(request, Source.BACKEND, self._clock_ms()), None
            )
        except (HitInvalid, StoreError) as error:
            return refusal(error, Source.BACKEND)
        content = _summary(receipt.judged)
        return json_answer(content, 422 if _all_rejected(receipt.judged) else 202)


def bears(request: Request, key: Secret) -> bool:
    """Whether the request carries this key."""
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    return scheme.lower() == "bearer" and matches(given.strip(), key)


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
