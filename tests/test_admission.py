"""Who stands for whom, and how much each may send."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admission import Admission, Callers, Limiter

NOW = 1_764_000_000_000.0


@pytest.mark.parametrize(
    ("address", "caller"),
    [
        pytest.param("203.0.114.7", "203.0.114.7", id="ipv4"),
        pytest.param("::ffff:203.0.114.7", "203.0.114.7", id="ipv4-on-an-ipv6-socket"),
        pytest.param("2a02:ed00:1:2:3:4:5:6", "2a02:ed00:1:2::/64", id="ipv6"),
        pytest.param("2a02:ed00:1:2:ffff::", "2a02:ed00:1:2::/64", id="ipv6-same-customer"),
        pytest.param("8.8.8.8", None, id="trusted"),
        pytest.param("::ffff:8.8.8.8", None, id="trusted-on-an-ipv6-socket"),
        pytest.param("2a06:98c0::1", None, id="trusted-ipv6"),
        pytest.param("127.0.0.1", None, id="loopback"),
        pytest.param("172.17.0.1", None, id="bridge-of-containers"),
        pytest.param("100.64.0.1", "100.64.0.1", id="carrier-grade-nat"),
        pytest.param("fd00::1", None, id="private-ipv6"),
        pytest.param("fe80::1%eth0", None, id="link-local"),
        pytest.param("unknown", None, id="a-proxy-s-wording"),
        pytest.param("", None, id="nothing"),
    ],
)
def test_whom_an_address_stands_for(address: str, caller: str | None) -> None:
    assert Callers(["8.8.8.0/24", "2a06:98c0::/29"]).of(address) == caller


def test_a_burst_passes_then_one_each_gap_and_no_refusal_costs_anything() -> None:
    limiter = Limiter(per_second=100, burst=5)
    assert [limiter.take("a", NOW) for _ in range(7)] == [0, 0, 0, 0, 0, 10, 10]
    assert limiter.take("a", NOW + 9) == 1
    assert limiter.take("a", NOW + 10) == 0
    assert limiter.take("a", NOW + 10) == 10
    assert limiter.take("b", NOW + 10) == 0


def test_a_bucket_fills_up_and_never_beyond() -> None:
    limiter = Limiter(per_second=100, burst=5)
    for _ in range(5):
        limiter.take("a", NOW)
    later = NOW + 3_600_000
    assert [bool(limiter.take("a", later)) for _ in range(6)] == [False] * 5 + [True]


def test_a_clock_that_is_set_back_shuts_nobody_out() -> None:
    limiter = Limiter(per_second=100, burst=5)
    limiter.take("a", NOW)
    assert 0 < limiter.take("a", NOW - 3_600_000) <= 10


def test_a_million_callers_leave_a_bounded_table_that_forgets_the_longest_unasked() -> None:
    limiter = Limiter(per_second=1, burst=1, callers=100)
    limiter.take("busy", NOW)
    for n in range(1_000_000):
        limiter.take(str(n), NOW)
        if n % 50 == 0:
            assert limiter.take("busy", NOW) > 0
    assert len(limiter) == 100


@given(
    st.lists(st.floats(0, 5000), min_size=1, max_size=200), st.integers(1, 50), st.integers(1, 500)
)
def test_nobody_gets_more_than_the_burst_and_the_rate(
    gaps: list[float], burst: int, per_second: int
) -> None:
    limiter = Limiter(per_second=per_second, burst=burst)
    now = NOW
    granted = []
    for gap in gaps:
        now += gap
        if limiter.take("a", now) == 0:
            granted.append(now)
    for first, at in enumerate(granted):
        for n, until in enumerate(granted[first:]):
            assert n + 1 <= burst + (until - at) * per_second / 1000 + 1.001


def test_whoever_stands_for_many_is_not_limited_and_zero_limits_nobody() -> None:
    strict = Admission(Callers(), Limiter(per_second=1, burst=1))
    assert [strict.wait_ms("10.0.0.1", NOW) for _ in range(3)] == [0, 0, 0]
    assert [strict.wait_ms("203.0.114.7", NOW) for _ in range(3)] == [0, 1000, 1000]
    assert strict.wait_ms("2a02:ed00::1", NOW) == 0
    assert strict.wait_ms("2a02:ed00::2", NOW) > 0
    free = Admission(Callers(), None)
    assert [free.wait_ms("203.0.114.7", NOW) for _ in range(3)] == [0, 0, 0]
