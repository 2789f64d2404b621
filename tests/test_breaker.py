"""When a pixel goes on, waits, or asks with one event only."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.backoff import LONGEST_MS
from gateway.breaker import AWAY, Breaker
from gateway.capi import Fate, Verdict

DELIVERED = Verdict(fate=Fate.DELIVERED)
FAILED = Verdict(fate=Fate.RETRY)
EARLY = Verdict(fate=Fate.SPLIT, alone=Fate.RETRY, early=True)
POISON = Verdict(fate=Fate.SPLIT, alone=Fate.DEAD)
FLAKY = Verdict(fate=Fate.SPLIT, alone=Fate.RETRY)
THROTTLED = Verdict(fate=Fate.RETRY, lane=True)
PAUSED = Verdict(fate=Fate.PAUSE, lane=True)
VERDICTS = [DELIVERED, FAILED, EARLY, POISON, FLAKY, THROTTLED, PAUSED]

answers = st.lists(st.tuples(st.sampled_from(VERDICTS), st.sampled_from([1, 1000])), max_size=40)


def after(told: list[tuple[Verdict, int]]) -> Breaker:
    breaker = Breaker()
    for verdict, count in told:
        breaker, _ = breaker.heed(verdict, count, 0.5)
    return breaker


@given(answers, st.sampled_from([(DELIVERED, 1), (DELIVERED, 1000), (POISON, 1), (EARLY, 1)]))
def test_an_answer_about_the_events_closes_it_whatever_came_before(
    told: list[tuple[Verdict, int]], last: tuple[Verdict, int]
) -> None:
    breaker, wait_ms = after(told).heed(*last, 0.5)
    assert (breaker, wait_ms) == (Breaker(), 0)
    assert not breaker.probing


@given(answers, st.sampled_from(VERDICTS), st.sampled_from([1, 1000]), st.floats(0, 0.999))
def test_no_wait_is_longer_than_an_hour_and_no_failure_s_than_five_minutes(
    told: list[tuple[Verdict, int]], verdict: Verdict, count: int, draw: float
) -> None:
    breaker, wait_ms = after(told).heed(verdict, count, draw)
    assert 0 <= wait_ms <= (3_600_000 if verdict.lane else LONGEST_MS)
    assert wait_ms == 0 or breaker.probing


@pytest.mark.parametrize("failure", [FAILED, FLAKY])
def test_a_few_failures_are_no_outage_and_then_probes_come_ever_more_rarely(
    failure: Verdict,
) -> None:
    breaker, waits = Breaker(), []
    for n in range(1, 20):
        breaker, wait_ms = breaker.heed(failure, 1, 0.5)
        waits.append(wait_ms)
        assert breaker.away is breaker.probing is (n >= AWAY)
    assert waits[: AWAY - 1] == [0] * (AWAY - 1)
    assert waits[AWAY - 1 : AWAY + 3] == [500, 1000, 2000, 4000]
    assert waits[-1] == LONGEST_MS // 2


def test_a_batch_that_is_to_be_halved_says_nothing_yet() -> None:
    failing = after([(FAILED, 1)] * 3)
    assert failing.heed(FLAKY, 1000, 0.5) == (failing, 0)


@pytest.mark.parametrize(("refusal", "waits"), [(THROTTLED, [1, 2, 4, 8]), (PAUSED, [2, 4, 8, 15])])
def test_a_refused_pixel_waits_ever_longer_and_goes_on_with_one_event(
    refusal: Verdict, waits: list[int]
) -> None:
    breaker, minutes = Breaker(), []
    for _ in waits:
        breaker, wait_ms = breaker.heed(refusal, 1, 0.5)
        minutes.append(wait_ms // 60_000)
        assert breaker.probing
        assert not breaker.away
    assert minutes == waits
    # Not a thousand events at once to a Graph that fails as soon as it does not refuse any more.
    assert breaker.heed(FAILED, 1, 0.5)[0].away


def test_meta_s_own_word_on_how_long_to_wait_counts() -> None:
    assert Breaker().heed(replace(THROTTLED, wait_ms=7), 1, 0.5)[1] == 7


def test_a_new_token_ends_the_refusals_and_has_one_try_at_an_outage() -> None:
    assert not after([(PAUSED, 1)] * 3).with_new_token().probing
    away = after([(FAILED, 1)] * 9).with_new_token()
    assert not away.probing
    assert away.heed(FAILED, 1, 0.5)[0].away
