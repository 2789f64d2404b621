"""What Prometheus is told. Labels come from closed sets, so their number is bounded."""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
)

from gateway import __version__

disable_created_metrics()  # type: ignore[no-untyped-call]  # doubles every line, and nothing reads them
REGISTRY = CollectorRegistry()

EVENTS = Counter(
    "gateway_events",
    "Events by who sent them and what became of them (held, pending: stored, not yet delivered)",
    ["source", "outcome"],
    registry=REGISTRY,
)
REFUSED = Counter(
    "gateway_refused_requests",
    "Requests answered without an event being judged, by HTTP status",
    ["source", "status"],
    registry=REGISTRY,
)
CAPI_REQUESTS = Counter(
    "gateway_capi_requests",
    "Requests to Meta by what the answer meant",
    ["fate"],
    registry=REGISTRY,
)
CAPI_SECONDS = Histogram(
    "gateway_capi_request_duration_seconds", "How long Meta took to answer", registry=REGISTRY
)
BATCH_EVENTS = Histogram(
    "gateway_capi_batch_events",
    "Events in one request to Meta",
    buckets=(1, 2, 5, 10, 25, 50, 100, 250, 500, 1000),
    registry=REGISTRY,
)
PASS_FAILURES = Counter(
    "gateway_pass_failures", "Passes of a background loop that failed", ["loop"], registry=REGISTRY
)
AMBIGUOUS = Counter(
    "gateway_ambiguous_resends", "Events sent again though Meta may have them", registry=REGISTRY
)
LANE_PAUSED = Gauge(
    "gateway_lane_paused",
    "1 while a pixel's delivery waits for somebody to see to it",
    ["pixel"],
    registry=REGISTRY,
)
LANE_AWAY = Gauge(
    "gateway_lane_away",
    "1 while nothing of a pixel gets through to Meta and one event at a time is tried",
    ["pixel"],
    registry=REGISTRY,
)
OUTBOX_JOBS = Gauge("gateway_outbox_jobs", "Events not yet delivered", ["pixel"], registry=REGISTRY)
DEAD_LETTERS = Gauge("gateway_dead_letters", "Events given up on", ["pixel"], registry=REGISTRY)
OLDEST_SECONDS = Gauge(
    "gateway_outbox_oldest_seconds",
    "How long the event that waits for longest has been waiting",
    registry=REGISTRY,
)
DISK_FREE = Gauge("gateway_disk_free_bytes", "What is left of the store's disk", registry=REGISTRY)
ALERTS = Gauge(
    "gateway_alerts", "How many states of this name are wrong now", ["alert"], registry=REGISTRY
)
BUILD = Gauge("gateway_build_info", "Always 1", ["version"], registry=REGISTRY)
BUILD.labels(__version__).set(1)
