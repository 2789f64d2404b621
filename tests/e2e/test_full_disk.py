"""A disk that fills up: new events are 503, what was taken is delivered once, and all heals by itself."""

from pathlib import Path

from disk import filled, small_disk

from .harness import Gateway, StandIn, backend_event, live, page_event, wait_until


def test_a_full_disk_refuses_new_events_delivers_the_old_ones_once_and_heals(
    tmp_path: Path, stand_in: StandIn
) -> None:
    ids = [f"disk-{n}" for n in range(300)]
    with small_disk(tmp_path / "disk") as disk, Gateway(disk, live(stand_in.url)) as gateway:
        gateway.start()
        key = gateway.api_key
        stand_in.faults(error="service")
        try:
            for n in range(0, 300, 50):
                events = [backend_event(event_id) for event_id in ids[n : n + 50]]
                assert gateway.backend(events, key).status_code == 202
            with filled(disk):
                refused = gateway.hit(page_event("refused-1"))
                assert refused.status_code == 503
                assert int(refused.headers["retry-after"]) >= 5
                assert gateway.backend(backend_event("refused-2"), key).status_code == 503
                ready = gateway.admin("/readyz")
                assert ready.status_code == 503
                assert "the store is full" in ready.json()["failing"][0]
                stand_in.faults()
                wait_until(lambda: len(stand_in.arrivals("disk-")) == 300, 60)
                wait_until(lambda: not any(line.pending for line in gateway.ledger()), 60)
        finally:
            stand_in.faults()
        assert gateway.admin("/readyz").status_code == 200
        assert gateway.hit(page_event("healed")).status_code == 204
        stand_in.one("healed")
        assert sorted(stand_in.arrivals("disk-")) == sorted(ids)
        assert stand_in.arrivals("refused-") == []
        gateway.settled()
        [line] = gateway.ledger()
        assert (line.accepted, line.delivered) == (301, 301)
