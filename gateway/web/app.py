"""The two applications: which URL goes where. Everything else on the public face does not exist."""

from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.errors import StoreError
from gateway.web.answer import json_answer
from gateway.web.backend import Backend
from gateway.web.graph import Graph
from gateway.web.operator import Operator
from gateway.web.public import Public

Endpoint = Callable[[Request], Awaitable[Response]]


def public_app(
    find: Callable[[str], Public | None],
    backend: Backend,
    graph: Graph,
    draining: Callable[[], bool],
) -> Starlette:
    """What may be reached from the internet. `find`: the site at a slug."""

    async def healthz(_request: Request) -> Response:
        """For who sees the public face only: whether to send anything more."""
        going = draining()
        return json_answer({"ok": not going}, 503 if going else 200)

    def below(action: Callable[[Public, Request], Awaitable[Response]]) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            public = find(request.path_params["slug"])
            return await action(public, request) if public else Response(status_code=404)

        return endpoint

    application = Starlette(
        routes=[
            Route("/v1/events", backend.events, methods=["POST"]),
            Route("/v1/ledger", backend.ledger, methods=["GET"]),
            Route("/v{major:int}.{minor:int}/{pixel_id}/events", graph.events, methods=["POST"]),
            Route("/healthz", healthz, methods=["GET"]),
            Route("/{slug}.gif", below(Public.image), methods=["GET"]),
            Route("/{slug}", below(Public.script), methods=["GET"]),
            Route("/{slug}/me", below(Public.me), methods=["GET"]),
            Route("/{slug}/h", below(Public.collect), methods=["POST"]),
            # Where Meta's own script mirrors to when it is told to (OpenBridge).
            Route("/{slug}/events", below(Public.collect), methods=["POST"]),
        ],
        exception_handlers=_EMPTY,
    )
    # A URL with a slash too many does not exist either, instead of telling which one does.
    application.router.redirect_slashes = False
    return application


def operator_app(operator: Operator) -> Starlette:
    """What only the operator reaches."""
    guarded, commanded = operator.guarded, operator.commanded
    return Starlette(
        routes=[
            Route("/livez", operator.livez, methods=["GET"]),
            Route("/readyz", operator.readyz, methods=["GET"]),
            Route("/metrics", operator.metrics, methods=["GET"]),
            Route("/api/overview", guarded(operator.overview), methods=["GET"]),
            Route("/api/dead/retry", commanded(operator.retry), methods=["POST"]),
            Route("/api/dead/discard", commanded(operator.discard), methods=["POST"]),
            Route("/", guarded(operator.asset), methods=["GET"]),
            Route("/{name}", guarded(operator.asset), methods=["GET"]),
        ],
        exception_handlers={**_EMPTY, StoreError: _storeless},
    )


async def _nothing(_request: Request, _error: Exception) -> Response:
    return Response(status_code=404)


async def _failed(_request: Request, _error: Exception) -> Response:
    # The traceback is in the log; whoever asked learns that nothing was stored.
    return Response(status_code=500)


async def _storeless(_request: Request, error: Exception) -> Response:
    return json_answer({"error": str(error)}, 503)


async def _gone(_request: Request, _error: Exception) -> Response:
    return Response(status_code=400)  # to nobody: whoever asked hung up within the body


_EMPTY: dict[int | type[Exception], Callable[[Request, Exception], Awaitable[Response]]] = {
    404: _nothing,
    405: _nothing,
    HTTPException: _nothing,
    ClientDisconnect: _gone,
    500: _failed,
}
