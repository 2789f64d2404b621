"""How fast requests leave, and when they are tried again."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import backoff
from gateway.pace import Pace

ARRIVALS = st.lists(
    st.floats(0, 5_000, allow_nan=False) | st.just(0.0), min_size=1, max_size=120
).map(sorted)


def starts(per_second: float, arrivals: list[float]) -> list[float]:
    pace, booked = Pace(per_second), []
    for now_ms in arrivals:
        start, pace = pace.book(now_ms)
        booked.append(start)
    return booked


@given(arrivals=ARRIVALS, per_second=st.sampled_from([0.1, 0.5, 1.0, 1.5, 2.0, 10.0, 33.0, 1000.0]))
def test_no_second_holds_more_starts_than_the_rate(
    arrivals: list[float], per_second: float
) -> None:
    booked = starts(per_second, arrivals)

    for first in booked:
        assert sum(first <= start < first + 1_000 for start in booked) <= math.ceil(per_second)


@given(arrivals=ARRIVALS, per_second=st.sampled_from([1.0, 10.0, 100.0]))
def test_nothing_starts_before_it_came_and_order_is_kept(
    arrivals: list[float], per_second: float
) -> None:
    booked = starts(per_second, arrivals)

    assert all(start >= came for start, came in zip(booked, arrivals, strict=True))
    assert booked == sorted(booked)


def test_a_backlog_leaves_at_nearly_the_rate() -> None:
    booked = starts(10, [0.0] * 101)

    assert booked[0] == 0
    assert 10_000 <= booked[-1] <= 11_000


def test_idle_time_is_not_saved_up() -> None:
    booked = starts(10, [0.0, 60_000.0, 60_000.0, 60_000.0])

    assert booked[1] == 60_000
    assert booked[3] - booked[1] >= 200


def test_a_pace_is_a_value() -> None:
    pace = Pace(10)

    assert pace.book(5) == pace.book(5)
    assert pace == Pace(10)


@pytest.mark.parametrize(
    ("attempt", "most_ms"),
    [(1, 1_000), (2, 2_000), (3, 4_000), (9, 256_000), (10, 300_000), (10_000, 300_000)],
)
def test_backoff_doubles_up_to_five_minutes(attempt: int, most_ms: int) -> None:
    assert backoff.full_jitter_ms(attempt, 0.0) == 0
    assert backoff.full_jitter_ms(attempt, 0.5) == most_ms // 2
    assert most_ms - 1 <= backoff.full_jitter_ms(attempt, 1 - 2**-53) <= most_ms


@given(attempt=st.integers(1, 10**6), draw=st.floats(0, 1, exclude_max=True))
def test_backoff_stays_within_its_bounds(attempt: int, draw: float) -> None:
    assert 0 <= backoff.full_jitter_ms(attempt, draw) <= backoff.LONGEST_MS
