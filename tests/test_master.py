"""The master cookie: what was sealed comes back, what was not is nothing, and it always fits."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import master
from gateway.master import Landing, Master
from gateway.urls import UTM_KEYS

KEY, OTHER = b"k" * 32, b"o" * 32
NOW = 1_764_000_000_000
PLAIN = Master(fbp=f"fb.1.{NOW}.42", fbc=None, first_seen_ms=NOW, landing=None)
LANDING = Landing(
    at_ms=NOW,
    page="https://example.com/a",
    referrer="https://other.example/",
    utm={"utm_source": "ig", "utm_term": "é€😀"},
)
FULL = Master(
    fbp=f"fb.2.{NOW}.{'9' * 20}",
    fbc=f"fb.2.{NOW}.IwAR0.AQICAQMC",
    first_seen_ms=NOW - 1,
    landing=LANDING,
    granted=True,
    clicks=(b"abcd", b"efgh"),
)


@pytest.mark.parametrize("said", [PLAIN, FULL, replace(PLAIN, fbp=f"fb.0.{NOW}.007")])
def test_what_was_sealed_comes_back(said: Master) -> None:
    assert master.unseal(master.seal(said, KEY), KEY) == said


def test_the_same_is_sealed_to_the_same_text() -> None:
    # A hit's answer tells by it whether the browser has the cookie already.
    assert master.seal(FULL, KEY) == master.seal(replace(FULL), KEY)


def test_another_installs_cookie_is_nothing() -> None:
    assert master.unseal(master.seal(FULL, OTHER), KEY) is None


@given(at=st.integers(0, 10_000), bit=st.integers(0, 5))
def test_no_bit_can_be_changed(at: int, bit: int) -> None:
    text = master.seal(FULL, KEY)
    at %= len(text)
    changed = text[:at] + chr(ord(text[at]) ^ (1 << bit)) + text[at + 1 :]

    # The last letter's spare bits say nothing, so it may still be the same cookie.
    assert master.unseal(changed, KEY) in ([None, FULL] if at == len(text) - 1 else [None])


@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda raw: raw.hex()))
def test_rubbish_is_nothing(text: str) -> None:
    assert master.unseal(text, KEY) is None


def test_a_cookie_of_another_version_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(master, "_VERSION", 2)
    later = master.seal(FULL, KEY)
    monkeypatch.undo()

    assert master.unseal(later, KEY) is None


def test_it_does_not_grow_beyond_what_browsers_keep_and_sheds_what_tells_least() -> None:
    long = Landing(
        at_ms=NOW,
        page="https://example.com/" + "p" * 480,
        referrer="https://other.example/" + "r" * 478,
        utm=dict.fromkeys(UTM_KEYS, "長" * 200),
    )
    said = replace(FULL, landing=long, fbc=f"fb.1.{NOW}.{'x' * 500}", clicks=(b"abcd",) * 8)

    text = master.seal(said, KEY)

    assert len(text) <= 3600
    left = master.unseal(text, KEY)
    assert left is not None
    assert left.landing is not None
    assert set(left.landing.utm) == {"utm_source", "utm_medium", "utm_campaign"}
    assert (left.landing.page, left.landing.referrer) == ("", "")
    assert replace(left, landing=long) == said


def test_a_new_fbp_is_known_again_and_a_strangers_is_not() -> None:
    drawn = iter(range(0, 7919 * 2000, 7919))
    numbers = [master.mint(NOW, lambda _below: next(drawn), KEY) for _ in range(2000)]

    assert all(master.minted(NOW, number, KEY) for number in numbers)
    assert not any(master.minted(NOW + 1, number, KEY) for number in numbers)
    assert not any(master.minted(NOW, number, OTHER) for number in numbers)
    assert len(set(numbers)) == len(numbers)


@pytest.mark.parametrize("drawn", [0, 2**32 - 1])
def test_a_number_is_what_meta_takes_for_one(drawn: int) -> None:
    number = master.mint(NOW, lambda _below: drawn, KEY)

    assert number.isdigit()
    assert int(number) < 2**53


def test_the_clicks_before_the_last_are_few_and_each_there_once() -> None:
    before: tuple[bytes, ...] = ()
    for click in [*"abcdefghij", "a"]:
        before = master.earlier(click, before)

    assert before == tuple(master.digest(click) for click in "ajihgfed")
