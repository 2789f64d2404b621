"""What a browser meets: the script, and the hits it sends."""

import re
from collections.abc import Callable, Iterable, Mapping

from starlette.requests import Request
from starlette.responses import Response

from gateway import metrics, page, pixeldata
from gateway.admission import Admission
from gateway.config import Site
from gateway.enrich import Place
from gateway.errors import HitInvalid, StoreError
from gateway.hit import Source
from gateway.ingest import Ingest, Judged, Receipt
from gateway.outcome import Outcome
from gateway.snippet import Snippet
from gateway.visit import Visits
from gateway.web.answer import json_answer, retry_after
from gateway.web.request import body_of, facts_of, host_of, origin_host, refusal
from gateway.wire import PAGE_MAX_BYTES


class Public:
    """The routes below one site's slug."""

    def __init__(
        self,
        *,
        ingest: Ingest,
        visits: Visits,
        locate: Callable[[str], Place],
        snippet: Snippet,
        site: Site,
        noscript: bool,
        admission: Admission,
        clock_ms: Callable[[], int],
    ) -> None:
        self._admission = admission
        self._ingest = ingest
        self._visits = visits
        self._locate = locate
        self._snippet = snippet
        self._site = site
        self._noscript = noscript
        self._clock_ms = clock_ms

    async def script(self, request: Request) -> Response:
        """The snippet, or 304 when the browser has it; either may carry the visitor's cookies."""
        facts = facts_of(request, Source.PAGE, self._clock_ms())
        headers = {
            "Cache-Control": "private, no-cache",
            "ETag": self._snippet.etag,
            "Vary": "Accept-Encoding",
            "X-Content-Type-Options": "nosniff",
        }
        if self._snippet.etag in request.headers.get("if-none-match", ""):
            response = Response(status_code=304, headers=headers)
        else:
            body = self._snippet.text
            coding = _coding(request.headers.get("accept-encoding", ""), self._snippet.encoded)
            if coding:
                headers["Content-Encoding"] = coding
                body = self._snippet.encoded[coding]
            response = Response(body, headers=headers, media_type="text/javascript")
        visit = self._visits.meet(facts, self._site)
        return _with_cookies(response, self._visits.greeting(visit))

    async def collect(self, request: Request) -> Response:
        """A hit: 204 once everything in it is stored, with one outcome an event in Server-Timing."""
        cors = self._cors(request)
        facts = facts_of(request, Source.PAGE, self._clock_ms())
        if wait_ms := self._admission.wait_ms(facts.address, facts.now_ms):
            return _too_many(wait_ms, cors)
        try:
            body = await body_of(request, PAGE_MAX_BYTES)
            receipt = await self._ingest.accept(body, facts, self._site)
        except (HitInvalid, StoreError) as error:
            return refusal(error, Source.PAGE, cors)
        headers = {"Cache-Control": "no-store", **cors, **_timing(receipt)}
        if receipt.judged and all(j.outcome is Outcome.INVALID for j in receipt.judged):
            response = json_answer({"errors": _errors(receipt.judged)}, 400, headers)
        else:
            response = Response(status_code=204, headers=headers)
        return _with_cookies(response, receipt.set_cookies)

    async def me(self, request: Request) -> Response:
        """The visitor's own fbPixelData; an event id and nothing else for who does not want it."""
        visit = self._visits.meet(facts_of(request, Source.PAGE, self._clock_ms()), self._site)
        event_id = self._visits.new_id()
        content: object = {"eventId": event_id}
        if visit.may_be_known:
            place = self._locate(visit.facts.address)
            content = pixeldata.of(visit.facts, visit.ids, place, event_id)
        response = json_answer(content, headers=self._cors(request))
        return _with_cookies(response, self._visits.greeting(visit))

    async def image(self, request: Request) -> Response:
        """A transparent pixel that counts a page view where no script runs, when that is wanted."""
        if not self._noscript:
            return Response(status_code=404)
        facts = facts_of(request, Source.PAGE, self._clock_ms())
        if wait_ms := self._admission.wait_ms(facts.address, facts.now_ms):
            return _too_many(wait_ms, {})
        headers = {"Cache-Control": "no-store"}
        if facts.prefetch:
            return Response(_GIF, headers=headers, media_type="image/gif")
        body = page.of_image(request.url.query, facts.referer, self._visits.new_id())
        try:
            receipt = await self._ingest.accept(body, facts, self._site)
        except (HitInvalid, StoreError) as error:
            return refusal(error, Source.PAGE)
        response = Response(_GIF, headers=headers | _timing(receipt), media_type="image/gif")
        return _with_cookies(response, receipt.set_cookies)

    def _cors(self, request: Request) -> dict[str, str]:
        """Pages of this site may read the answer from a sibling host; nobody else is told anything."""
        origin = request.headers.get("origin")
        host = origin_host(origin)
        own = (host_of(request), *self._site.hosts)
        if not origin or not host or not any(host == o or host.endswith("." + o) for o in own):
            return {}
        return {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Allow-Credentials": "true",
            "Access-Control-Expose-Headers": "Server-Timing, Retry-After",
            "Timing-Allow-Origin": origin,
            "Vary": "Origin",
        }


# One transparent pixel.
_GIF = (
    b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\x00\x00\x00!\xf9\x04\x01\x00\x00\x00\x00"
    b",\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;"
)


def _timing(receipt: Receipt) -> dict[str, str]:
    """One outcome an event, where the browser's network panel shows it."""
    said = ", ".join(f"outcome;desc={judged.outcome}" for judged in receipt.judged)
    return {"Server-Timing": said} if said else {}


def _coding(accepted: str, offered: Iterable[str]) -> str | None:
    """The first coding on offer that the client takes (RFC 9110, 12.5.3)."""
    taken = {
        name.strip().lower()
        for name, _, weight in (item.partition(";") for item in accepted.split(","))
        if not re.fullmatch(r"\s*q=0(\.0*)?\s*", weight)
    }
    return next((coding for coding in offered if coding in taken), None)


def _too_many(wait_ms: float, cors: Mapping[str, str]) -> Response:
    """Not read, so counted as one event, and nowhere else: writing floods down would be their success."""
    metrics.EVENTS.labels(Source.PAGE, Outcome.RATE_LIMITED).inc()
    metrics.REFUSED.labels(Source.PAGE, "429").inc()
    timing = {"Server-Timing": f"outcome;desc={Outcome.RATE_LIMITED}", "Cache-Control": "no-store"}
    return Response(status_code=429, headers={**cors, **timing, **retry_after(wait_ms)})


def _errors(judged: Iterable[Judged]) -> list[dict[str, object]]:
    return [
        {"index": j.index, "field": j.problem.field, "error": j.problem.error}
        for j in judged
        if j.problem
    ]


def _with_cookies(response: Response, cookies: Iterable[str]) -> Response:
    for line in cookies:
        response.headers.append("Set-Cookie", line)
    return response
