"""First-party tracking gateway for Meta's Conversions API.

Read in this order to follow one hit from the browser to Meta:

1. `web.public`  the request becomes facts and a body
2. `ingest`      `Ingest.accept`: everything that happens to a hit (`visit`: who sent it, and the cookies)
3. `stores`      the outbox, the only hand-over
4. `worker`      `Worker.drain_once`: everything that happens to a delivery
5. `sender`      the request to Meta, and what its answer means (`capi.classify`)

The rules those call on (`wire`, `page`, `consent`, `urls`, `master`, `cookies`, `enrich`, `pixeldata`,
`normalise`, `privacy`, `event`, `validate`, `merge`, `capi`, `backoff`, `pace`) do no I/O, know no clock and no framework.
`server` puts it together.
Before 1 stand `web.guard`, `admission` and `overload`, which say who may come in at all.
"""

__version__ = "0.1.0"
