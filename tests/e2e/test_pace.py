"""Never more requests to Meta in a second than the pixel's pace, and few large ones instead of many."""

import threading
from pathlib import Path

from .harness import Gateway, StandIn, backend_event, live, wait_until

EVENTS = 5000
THREADS = 8
EACH = 25


def test_5000_events_in_small_requests_reach_meta_in_few_at_most_10_a_second(
    tmp_path: Path, stand_in: StandIn
) -> None:
    with Gateway(tmp_path, live(stand_in.url)) as gateway:
        gateway.start()
        key = gateway.api_key

        def post(thread: int) -> None:
            for start in range(thread * EACH, EVENTS, THREADS * EACH):
                events = [backend_event(f"pace-{n}") for n in range(start, start + EACH)]
                answers.append(gateway.backend(events, key).json()["accepted"])

        answers: list[int] = []
        threads = [threading.Thread(target=post, args=(n,)) for n in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(answers) == EVENTS
        wait_until(lambda: len(stand_in.received()) >= EVENTS, 60)
    assert len({e.event_id for e in stand_in.received()}) == EVENTS
    requests = stand_in.requests()
    times = [request.at_ms for request in requests]
    for first, eleventh in zip(times, times[10:], strict=False):
        assert eleventh - first >= 1000
    assert EVENTS / len(requests) > 100
    assert max(request.n_events for request in requests) <= 1000


def test_a_pace_of_one_s_own_is_kept_while_much_waits(tmp_path: Path, stand_in: StandIn) -> None:
    before = len(stand_in.requests())
    env = live(stand_in.url, GATEWAY_RATE_PER_SECOND="5")
    with Gateway(tmp_path, env) as gateway:
        gateway.start()
        # 12 full requests' worth: each event nearly 3 KiB, and a request at most 1 MiB.
        for n in range(8):
            padding = {"words": "x" * 2600}
            events = [backend_event(f"own-{n}-{m}", custom_data=padding) for m in range(600)]
            assert gateway.backend(events).json()["accepted"] == 600
        wait_until(lambda: not any(line.pending for line in gateway.ledger()), 60)
    times = [request.at_ms for request in stand_in.requests()[before:]]
    assert len(times) >= 12
    for first, sixth in zip(times, times[5:], strict=False):
        assert sixth - first >= 900  # large requests take unequally long to arrive
    # And it is used: requests full of large events follow each other without a pause to gather.
    assert (times[-1] - times[0]) / (len(times) - 1) < 600
