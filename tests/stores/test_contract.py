"""What every store promises, each sentence of the contract; any history of them is test_model's."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeVar

import pytest

from gateway.errors import StoreError
from gateway.outcome import Outcome
from gateway.stores import (
    DEAD_MS,
    DEDUP_MS,
    HOUR_MS,
    LOG_MS,
    NEWEST,
    SWEPT,
    TALLY_MS,
    Delivery,
    Drop,
    Entry,
    Note,
    Settlement,
)

from . import (
    DAY_MS,
    LEASE_MS,
    NOW,
    Opener,
    Store,
    accounts,
    claim,
    claim_one,
    entry,
    join,
    kill,
    note,
    settle,
)

T = TypeVar("T")

pytestmark = pytest.mark.anyio


# put


async def test_put_answers_for_each_entry_in_order(store: Store) -> None:
    entries = [entry("a"), entry("b"), entry("a"), entry("c")]
    answers = await store.put(entries, [], NOW)
    assert answers == [Outcome.PENDING, Outcome.PENDING, Outcome.DUPLICATE, Outcome.PENDING]
    assert [d.body for d in await claim(store)] == [b"a", b"b", b"c"]
    assert await accounts(store) == {"1": {"accepted": 4, "duplicate": 1, "pending": 3}}


async def test_the_first_of_two_copies_is_the_one_that_is_kept(store: Store) -> None:
    await store.put([entry("a", body=b"first"), entry("a", body=b"second")], [], NOW)
    await store.put([entry("a", body=b"third")], [], NOW + 1)
    assert [d.body for d in await claim(store, NOW + 1)] == [b"first"]


@pytest.mark.parametrize("fate", [Outcome.DELIVERED, Outcome.DEAD, Outcome.TOO_OLD])
async def test_a_key_is_remembered_after_its_event_is_settled(store: Store, fate: Outcome) -> None:
    await store.put([entry("a")], [], NOW)
    await settle(store, await claim_one(store), fate)
    assert await store.put([entry("a")], [], NOW) == [Outcome.DUPLICATE]
    assert await claim(store) == []


@pytest.mark.parametrize(
    ("deadline_ms", "remembered_ms"),
    [
        pytest.param(NOW, NOW + DEDUP_MS, id="at-least-the-dedup-window"),
        pytest.param(NOW + DEDUP_MS, NOW + DEDUP_MS + HOUR_MS, id="deadline-at-the-window"),
        pytest.param(NOW + 7 * DAY_MS, NOW + 7 * DAY_MS + HOUR_MS, id="an-hour-past-the-deadline"),
    ],
)
@pytest.mark.parametrize("swept", [False, True], ids=["unswept", "swept"])
async def test_how_long_a_key_is_remembered(
    store: Store, deadline_ms: int, remembered_ms: int, swept: bool
) -> None:
    a = entry("a", deadline_ms=deadline_ms)
    await store.put([a], [], NOW)
    if swept:
        await store.sweep(remembered_ms)
    assert await store.put([a], [], remembered_ms) == [Outcome.DUPLICATE]
    if swept:
        await store.sweep(remembered_ms + 1)
    assert await store.put([a], [], remembered_ms + 1) == [Outcome.PENDING]


async def test_a_duplicate_does_not_prolong_the_memory_of_its_key(store: Store) -> None:
    a = entry("a", deadline_ms=NOW)
    await store.put([a], [], NOW)
    await store.put([a], [], NOW + DEDUP_MS)
    assert await store.put([a], [], NOW + DEDUP_MS + 1) == [Outcome.PENDING]


async def test_everything_outlives_a_restart(reopen: Opener) -> None:
    store = await reopen()
    died = await kill(store, "c", NOW)
    await store.put([entry("a"), entry("b")], [], NOW)
    leased = {d.body: d for d in await claim(store, NOW + LEASE_MS)}
    before = (await accounts(store), await store.events(limit=10), await store.dead())
    await store.close()

    store = await reopen()
    assert (await accounts(store), await store.events(limit=10), await store.dead()) == before
    assert [letter.ref for letter in before[2]] == [died.ref]
    assert await store.put([entry("a"), entry("c")], [], NOW) == [Outcome.DUPLICATE] * 2
    assert await settle(store, leased[b"a"], Outcome.PENDING)
    await store.close()


async def test_copies_put_at_the_same_time_are_kept_once(store: Store) -> None:
    names = [f"event-{n}" for n in range(200)]

    async def client(seed: int) -> list[Outcome]:
        mine = random.Random(seed).sample(names, len(names))
        return [(await store.put([entry(name)], [], NOW))[0] for name in mine]

    answers = await asyncio.gather(*(client(seed) for seed in range(16)))
    assert Counter(outcome for of_one in answers for outcome in of_one) == {
        Outcome.PENDING: 200,
        Outcome.DUPLICATE: 15 * 200,
    }
    assert sorted(d.body.decode() for d in await claim(store)) == sorted(names)
    assert await accounts(store) == {"1": {"accepted": 3200, "duplicate": 3000, "pending": 200}}


async def test_a_put_whose_caller_goes_away_is_finished(store: Store) -> None:
    putting = asyncio.create_task(store.put([entry("a")], [], NOW))
    await asyncio.sleep(0)  # it is on its way
    putting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await putting
    assert await store.put([entry("a")], [], NOW) == [Outcome.DUPLICATE]
    assert len(await claim(store)) == 1


async def test_a_drop_is_counted_and_logged_when_it_has_a_note(store: Store) -> None:
    drops = [
        Drop(pixel="1", outcome=Outcome.BOT, note=note("seen"), reason="headless"),
        Drop(pixel="1", outcome=Outcome.NO_CONSENT),
        Drop(pixel="1", outcome=Outcome.MERGED, note=note("joined")),
        Drop(pixel="2", outcome=Outcome.BOT),
    ]
    assert await store.put([], drops, NOW) == []
    assert await accounts(store) == {
        "1": {"accepted": 3, "bot": 1, "no_consent": 1, "merged": 1},
        "2": {"accepted": 1, "bot": 1},
    }
    assert [
        (e.note.event_id, e.outcome, e.reason, e.at_ms, e.settled_ms)
        for e in await store.events(limit=9)
    ] == [
        ("seen", Outcome.BOT, "headless", NOW, NOW),
        ("joined", Outcome.MERGED, "", NOW, NOW),
    ]
    assert await claim(store) == []


# hold and merge

HELD = entry("a", body=b"page", due_ms=NOW + 10, side="browser")
OTHER = entry("a", body=b"shop", due_ms=NOW + 15, side="backend")


async def outcomes(store: Store) -> dict[str, Outcome]:
    """The log: what became of each event, by its id."""
    return {line.note.event_id: line.outcome for line in await store.events(limit=9)}


async def test_a_held_event_waits_for_its_time_and_is_pending_then(store: Store) -> None:
    assert await store.put([HELD], [], NOW, join) == [Outcome.HELD]
    assert await claim(store, NOW + 9) == []
    assert await outcomes(store) == {"a": Outcome.HELD}
    assert await accounts(store) == {"1": {"accepted": 1, "pending": 1}}
    await store.sweep(NOW + 9)
    assert await outcomes(store) == {"a": Outcome.HELD}
    await store.sweep(NOW + 10)
    assert await outcomes(store) == {"a": Outcome.PENDING}
    assert (await claim_one(store, NOW + 10)).body == b"page"


async def test_the_other_half_is_merged_and_ends_the_hold(store: Store) -> None:
    await store.put([HELD], [], NOW, join)
    assert await store.put([OTHER], [], NOW + 5, join) == [Outcome.MERGED]
    assert await accounts(store) == {"1": {"accepted": 2, "merged": 1, "pending": 1}}
    assert await outcomes(store) == {"page shop": Outcome.PENDING, "a": Outcome.MERGED}
    assert await store.put([OTHER], [], NOW + 5, join) == [Outcome.DUPLICATE]
    delivery = await claim_one(store, NOW + 5)
    assert (delivery.body, delivery.accepted_ms, delivery.attempt) == (b"page shop", NOW, 1)
    assert await settle(store, delivery, Outcome.DELIVERED)
    assert await accounts(store) == {
        "1": {"accepted": 3, "delivered": 1, "merged": 1, "duplicate": 1}
    }


async def test_more_from_the_same_side_is_merged_and_goes_on_waiting(store: Store) -> None:
    await store.put([HELD], [], NOW, join)
    again = [HELD, replace(HELD, body=b"page more", due_ms=NOW + 12), HELD]
    assert await store.put(again, [], NOW + 2, join) == [
        Outcome.DUPLICATE,
        Outcome.MERGED,
        Outcome.DUPLICATE,
    ]
    assert await claim(store, NOW + 9) == []
    assert await store.put([OTHER], [], NOW + 9, join) == [Outcome.MERGED]
    assert (await claim_one(store, NOW + 9)).body == b"page more shop"


@pytest.mark.parametrize(
    ("second", "when"),
    [
        pytest.param(OTHER, NOW + 10, id="when the hold is over"),
        pytest.param(replace(OTHER, side=""), NOW, id="that is not to be merged"),
        pytest.param(replace(OTHER, key=b"z" * 16), NOW, id="of another event"),
    ],
)
async def test_a_copy_is_not_merged(store: Store, second: Entry, when: int) -> None:
    await store.put([HELD], [], NOW, join)
    [answer] = await store.put([second], [], when, join)
    assert answer is not Outcome.MERGED
    assert (await claim(store, NOW + 10))[0].body == b"page"


async def test_without_a_merge_a_copy_of_a_held_event_is_a_duplicate(store: Store) -> None:
    await store.put([HELD], [], NOW, join)
    assert await store.put([OTHER], [], NOW) == [Outcome.DUPLICATE]


async def test_a_claimed_event_is_held_no_longer_whatever_its_lease(store: Store) -> None:
    await store.put([HELD], [], NOW, join)
    await claim_one(store, NOW + 10)
    assert await store.put([OTHER], [], NOW + 11, join) == [Outcome.DUPLICATE]


async def test_the_end_of_an_old_hold_does_not_end_that_of_a_new_event(store: Store) -> None:
    await store.put([replace(HELD, deadline_ms=NOW)], [], NOW, join)
    later = NOW + DEDUP_MS + 1  # nobody has claimed it, and its key is forgotten
    await store.put([replace(HELD, body=b"new", due_ms=later + 10)], [], later, join)
    assert (await claim_one(store, later)).body == b"page"
    assert await store.put([OTHER], [], later, join) == [Outcome.MERGED]
    assert (await claim_one(store, later)).body == b"new shop"


LACKING = entry("a", body=b"-a", side="page", lacks="a word", due_ms=NOW + 90_000)
WHOLE = replace(LACKING, body=b"a", lacks="", due_ms=NOW + 20)


async def test_what_lacks_something_is_held_and_says_so(store: Store) -> None:
    assert await store.put([LACKING], [], NOW, join) == [Outcome.HELD]
    [line] = await store.events(limit=9)
    assert (line.outcome, line.reason) == (Outcome.HELD, "a word")
    assert await claim(store, NOW + 89_999) == []


async def end_by_claim(store: Store, now_ms: int) -> None:
    assert await claim(store, now_ms) == []


async def end_by_sweep(store: Store, now_ms: int) -> None:
    await store.sweep(now_ms)


async def end_by_itself(store: Store, now_ms: int) -> None:
    assert (await accounts(store))["1"]["pending"] == 1, now_ms


@pytest.mark.parametrize("end", [end_by_claim, end_by_sweep, end_by_itself])
@pytest.mark.parametrize(
    ("copy", "outcome"),
    [
        (WHOLE, Outcome.PENDING),
        (replace(WHOLE, due_ms=NOW + 100_000), Outcome.HELD),
        (replace(WHOLE, side=""), Outcome.PENDING),
        (replace(LACKING, due_ms=NOW + 200_000), Outcome.HELD),
        (replace(WHOLE, suppress=True), Outcome.SUPPRESSED),
    ],
)
async def test_what_no_copy_completes_is_dropped_and_the_next_copy_is_new(
    store: Store, end: Callable[[Store, int], Awaitable[None]], copy: Entry, outcome: Outcome
) -> None:
    await store.put([LACKING], [], NOW, join)
    await end(store, NOW + 90_000)
    assert await store.put([copy], [], NOW + 90_000, join) == [outcome]
    first, second = await store.events(limit=9)
    assert (first.outcome, first.reason, first.settled_ms) == (
        Outcome.INVALID,
        "a word",
        NOW + 90_000,
    )
    assert second.outcome is outcome
    waiting = {} if outcome is Outcome.SUPPRESSED else {"pending": 1}
    ended = {Outcome.SUPPRESSED.value: 1} if outcome is Outcome.SUPPRESSED else {}
    assert await accounts(store) == {"1": {"accepted": 2, "invalid": 1, **ended, **waiting}}
    again = Outcome.SUPPRESSED if ended else Outcome.DUPLICATE
    assert await store.put([replace(copy, side="")], [], NOW + 90_000) == [again]


@pytest.mark.parametrize("limit", [1, 2, 3])
@pytest.mark.parametrize("newest", [False, True])
async def test_what_is_dropped_takes_no_place_in_a_claim(
    store: Store, limit: int, newest: bool
) -> None:
    names = ["a", "b", "c", "d"]
    await store.put(
        [
            entry(name, side="page", due_ms=NOW + 10 + n, lacks="a word" if name in "ac" else "")
            for n, name in enumerate(names)
        ],
        [],
        NOW,
        join,
    )
    claimed = await claim(store, NOW + 20, limit=limit, newest=newest)
    order = [b"d", b"b"] if newest else [b"b", b"d"]
    assert [d.body for d in claimed] == order[:limit]


async def test_a_copy_that_has_what_is_lacking_lets_the_event_go(store: Store) -> None:
    await store.put([LACKING], [], NOW, join)
    assert await store.put([replace(WHOLE, side="shop")], [], NOW + 5, join) == [Outcome.MERGED]
    [line, _] = await store.events(limit=9)
    assert (line.outcome, line.reason) == (Outcome.PENDING, "")
    assert (await claim_one(store, NOW + 5)).body == b"-a a"


async def test_a_correction_is_held_for_as_long_as_it_would_be_itself(store: Store) -> None:
    await store.put([LACKING], [], NOW, join)
    assert await store.put([WHOLE], [], NOW + 5, join) == [Outcome.MERGED]
    [line, _] = await store.events(limit=9)
    assert (line.outcome, line.reason) == (Outcome.HELD, "")
    assert await claim(store, NOW + 19) == []
    assert (await claim_one(store, NOW + 20)).body == b"-a a"


async def test_a_whole_copy_that_does_not_wait_ends_the_wait(store: Store) -> None:
    await store.put([LACKING], [], NOW, join)
    at_once = replace(WHOLE, due_ms=NOW + 5)
    assert await store.put([at_once], [], NOW + 5, join) == [Outcome.MERGED]
    assert (await claim_one(store, NOW + 5)).body == b"-a a"


@pytest.mark.parametrize("side", ["page", "shop"])
async def test_two_that_lack_the_same_wait_on_and_are_dropped_together(
    store: Store, side: str
) -> None:
    await store.put([LACKING], [], NOW, join)
    late = replace(LACKING, body=b"-b", side=side, due_ms=NOW + 100_000)
    assert await store.put([late], [], NOW + 5, join) == [Outcome.MERGED]
    assert await claim(store, NOW + 89_999) == []
    assert await claim(store, NOW + 90_000) == []
    assert await accounts(store) == {"1": {"accepted": 2, "merged": 1, "invalid": 1}}


async def test_what_was_dropped_late_does_not_forget_a_later_event_s_key(store: Store) -> None:
    old = replace(LACKING, deadline_ms=NOW + DEDUP_MS - HOUR_MS)
    await store.put([old], [], NOW, join)
    later = NOW + DEDUP_MS + 1
    new = replace(WHOLE, due_ms=later + 20, deadline_ms=later + DAY_MS)
    assert await store.put([new], [], later, join) == [Outcome.HELD]
    assert await claim(store, later) == []
    assert await store.put([replace(new, side="")], [], later) == [Outcome.DUPLICATE]
    assert [d.body for d in await claim(store, later + 20)] == [b"a"]
    assert (await accounts(store))["1"]["invalid"] == 1


async def test_what_lacks_something_outlives_a_restart(reopen: Opener) -> None:
    store = await reopen()
    await store.put([LACKING], [], NOW, join)
    await store.close()
    store = await reopen()
    assert await store.put([replace(WHOLE, side="shop")], [], NOW + 5, join) == [Outcome.MERGED]
    assert (await claim_one(store, NOW + 5)).body == b"-a a"
    await store.close()


async def test_an_event_due_at_once_is_not_held(store: Store) -> None:
    first = replace(HELD, due_ms=NOW)
    assert await store.put([first, OTHER], [], NOW, join) == [Outcome.PENDING, Outcome.DUPLICATE]


@pytest.mark.parametrize("deadlines", [(NOW + 50, NOW + 99), (NOW + 99, NOW + 50)])
async def test_of_two_deadlines_the_earlier_stays(store: Store, deadlines: tuple[int, int]) -> None:
    first, second = deadlines
    await store.put([replace(HELD, deadline_ms=first)], [], NOW, join)
    await store.put([replace(OTHER, deadline_ms=second)], [], NOW, join)
    assert (await claim_one(store)).deadline_ms == NOW + 50


async def test_both_halves_in_one_put_are_merged(store: Store) -> None:
    assert await store.put([HELD, OTHER], [], NOW, join) == [Outcome.HELD, Outcome.MERGED]
    assert (await claim_one(store)).body == b"page shop"


async def test_halves_put_at_the_same_time_are_merged_once_each(store: Store) -> None:
    copies = [replace(HELD, body=f"w{n}".encode()) for n in range(40)]
    answers = await asyncio.gather(*(store.put([copy], [], NOW, join) for copy in copies))
    assert Counter(a for [a] in answers) == {Outcome.HELD: 1, Outcome.MERGED: 39}
    assert await store.put([OTHER], [], NOW, join) == [Outcome.MERGED]
    delivery = await claim_one(store)
    assert set(delivery.body.split()) == {b"shop", *(copy.body for copy in copies)}
    assert await accounts(store) == {"1": {"accepted": 41, "merged": 40, "pending": 1}}


async def test_a_hold_outlives_a_restart(reopen: Opener) -> None:
    store = await reopen()
    await store.put([HELD], [], NOW, join)
    await store.close()
    store = await reopen()
    assert await store.put([OTHER], [], NOW + 1, join) == [Outcome.MERGED]
    assert (await claim_one(store, NOW + 1)).body == b"page shop"
    await store.close()


# suppress

SUPPRESS = replace(HELD, suppress=True)


async def test_a_suppressed_event_and_its_copies_go_nowhere(store: Store) -> None:
    assert await store.put([SUPPRESS], [], NOW, join) == [Outcome.SUPPRESSED]
    assert await store.put([OTHER, HELD], [], NOW + 99, join) == [Outcome.SUPPRESSED] * 2
    assert await claim(store, NOW + DAY_MS) == []
    assert await accounts(store) == {"1": {"accepted": 3, "suppressed": 3}}


@pytest.mark.parametrize("held", [HELD, OTHER], ids=["browser", "backend"])
async def test_a_held_copy_is_suppressed_with_it(store: Store, held: Entry) -> None:
    await store.put([replace(held, note=note("first"))], [], NOW, join)
    assert await store.put([SUPPRESS], [], NOW + 5, join) == [Outcome.SUPPRESSED]
    assert await claim(store, NOW + DAY_MS) == []
    assert await outcomes(store) == {"first": Outcome.SUPPRESSED, "a": Outcome.SUPPRESSED}
    assert await accounts(store) == {"1": {"accepted": 2, "suppressed": 2}}
    assert await store.put([OTHER], [], NOW + 6, join) == [Outcome.SUPPRESSED]


async def test_copies_in_one_put_are_taken_in_their_order(store: Store) -> None:
    more = replace(HELD, body=b"more")
    answers = await store.put([HELD, more, SUPPRESS, more, OTHER], [], NOW, join)
    assert answers == [Outcome.HELD, Outcome.MERGED] + [Outcome.SUPPRESSED] * 3
    assert await accounts(store) == {"1": {"accepted": 5, "merged": 1, "suppressed": 4}}


@pytest.mark.parametrize("number", [1, 127, 128, 129, 300])
async def test_however_many_there_are_each_is_kept_once_and_settled_once(
    store: Store, number: int
) -> None:
    entries = [entry(f"{n:03}") for n in range(number)]
    before = [entry("000"), entry("before")]
    await store.put(before, [], NOW)
    answers = await store.put([*entries, *entries], [], NOW)
    new = [Outcome.DUPLICATE] + [Outcome.PENDING] * (number - 1)
    assert answers == new + [Outcome.DUPLICATE] * number
    deliveries = await claim(store)
    names = ["000", "before", *(f"{n:03}" for n in range(1, number))]
    assert [d.body.decode() for d in deliveries] == names
    delivered = [Settlement(delivery=d, outcome=Outcome.DELIVERED) for d in deliveries]
    gone = replace(deliveries[0], ref=deliveries[-1].ref + 1000)
    delivered += [replace(delivered[0], reason="again"), replace(delivered[0], delivery=gone)]
    assert await store.settle(delivered, NOW) == len(names)
    assert await store.settle(delivered, NOW) == 0
    account = {"accepted": 2 * number + 2, "delivered": number + 1, "duplicate": number + 1}
    assert await accounts(store) == {"1": account}
    events = [e for e in await store.events(limit=1000) if e.outcome is not Outcome.DUPLICATE]
    assert [e.note.event_id for e in events] == names
    assert {(e.outcome, e.attempts) for e in events} == {(Outcome.DELIVERED, 1)}


async def test_what_is_on_its_way_cannot_be_suppressed(store: Store) -> None:
    await store.put([HELD], [], NOW, join)
    assert await store.put([SUPPRESS], [], NOW + 10, join) == [Outcome.DUPLICATE]
    assert (await claim_one(store, NOW + 10)).body == b"page"
    assert await store.put([OTHER], [], NOW + 10, join) == [Outcome.DUPLICATE]


async def test_suppression_is_forgotten_with_its_key(store: Store) -> None:
    await store.put([replace(SUPPRESS, deadline_ms=NOW)], [], NOW, join)
    assert await store.put([OTHER], [], NOW + DEDUP_MS, join) == [Outcome.SUPPRESSED]
    later = NOW + DEDUP_MS + 1
    assert await store.put([replace(OTHER, due_ms=later)], [], later, join) == [Outcome.PENDING]
    assert await store.put([OTHER], [], later, join) == [Outcome.DUPLICATE]


# claim


async def test_a_claim_leases_the_oldest_due_of_its_pixel(store: Store) -> None:
    entries = [
        entry("late", due_ms=NOW + 2),
        entry("first", due_ms=NOW - 5),
        entry("other", pixel="2"),
        entry("second", due_ms=NOW),
        entry("third", due_ms=NOW),
        entry("not yet", due_ms=NOW + 3),
    ]
    await store.put(entries, [], NOW)
    taken = [d.body for d in await claim(store, NOW + 2, limit=3)]
    assert taken == [b"first", b"second", b"third"]
    assert [d.body for d in await claim(store, NOW + 2)] == [b"late"]
    assert [d.body for d in await claim(store, NOW + 2, pixel="2")] == [b"other"]


async def test_a_claim_of_the_newest_begins_at_the_other_end(store: Store) -> None:
    held = entry("held", due_ms=NOW - 1, side="browser")
    await store.put([entry("old", due_ms=NOW - 5), held], [], NOW - 9, join)
    entries = [entry("first"), entry("second"), entry("other", pixel="2")]
    await store.put([*entries, entry("not yet", due_ms=NOW + 1)], [], NOW)
    taken = [d.body for d in await claim(store, limit=3, newest=True)]
    assert taken == [b"second", b"first", b"held"]
    assert [d.body for d in await claim(store, newest=True)] == [b"old"]
    assert await claim(store, newest=True) == []
    assert await store.put([replace(held, side="backend")], [], NOW, join) == [Outcome.DUPLICATE]


async def test_a_claim_of_the_newest_takes_nothing_that_was_tried(store: Store) -> None:
    await store.put([entry(name) for name in ("retried", "given back", "lost")], [], NOW - DAY_MS)
    retried, given_back, _ = await claim(store, NOW)
    await settle(store, retried, Outcome.PENDING, due_ms=NOW + LEASE_MS)
    await settle(store, given_back, Outcome.PENDING, due_ms=NOW - DAY_MS, count=False)
    await store.put([entry("fresh", due_ms=NOW + 1)], [], NOW + 1)
    later = NOW + LEASE_MS
    assert [d.body for d in await claim(store, later, newest=True)] == [b"fresh", b"given back"]
    assert [(d.body, d.attempt) for d in await claim(store, later)] == [
        (b"retried", 2),
        (b"lost", 2),
    ]


@pytest.mark.parametrize(("max_bytes", "taken"), [(0, 1), (10, 1), (21, 1), (22, 2), (99, 3)])
async def test_the_newest_stay_within_max_bytes(store: Store, max_bytes: int, taken: int) -> None:
    await store.put([entry(name, body=b"0123456789") for name in "abc"], [], NOW)
    assert len(await claim(store, max_bytes=max_bytes, newest=True)) == taken


async def test_a_claim_of_the_newest_passes_over_so_many_and_no_more(store: Store) -> None:
    await store.put([entry(str(n), due_ms=NOW) for n in range(NEWEST)], [], NOW)
    again = [
        Settlement(delivery=d, outcome=Outcome.PENDING, due_ms=NOW + 2)
        for d in await claim(store, limit=NEWEST)
    ]
    await store.settle(again[1:], NOW)
    await store.put([entry("fresh", due_ms=NOW + 1)], [], NOW)
    assert [d.body for d in await claim(store, NOW + 2, newest=True)] == [b"fresh"]
    await store.settle(again[:1], NOW)
    await store.put([entry("fresher", due_ms=NOW + 1)], [], NOW)
    assert await claim(store, NOW + 2, newest=True) == []


async def test_a_delivery_says_all_about_its_event(store: Store) -> None:
    await store.put([entry("a", body=b"\x00{}", deadline_ms=NOW + 9)], [], NOW - 7)
    delivery = await claim_one(store)
    assert delivery == Delivery(
        ref=delivery.ref,
        pixel="1",
        body=b"\x00{}",
        attempt=1,
        accepted_ms=NOW - 7,
        deadline_ms=NOW + 9,
        lease_ms=NOW + LEASE_MS,
    )


@pytest.mark.parametrize(
    ("max_bytes", "taken"),
    [(0, 1), (10, 1), (11, 1), (21, 1), (22, 2), (32, 2), (33, 3), (99, 3)],
)
async def test_bodies_and_their_commas_stay_within_max_bytes(
    store: Store, max_bytes: int, taken: int
) -> None:
    await store.put([entry(name, body=b"0123456789") for name in "abc"], [], NOW)
    assert len(await claim(store, max_bytes=max_bytes)) == taken
    assert len(await claim(store)) == 3 - taken


async def test_a_lease_holds_until_it_runs_out_and_the_next_attempt_is_counted(
    store: Store,
) -> None:
    await store.put([entry("a")], [], NOW)
    first = await claim_one(store)
    assert await claim(store, NOW + LEASE_MS - 1) == []
    second = await claim_one(store, NOW + LEASE_MS)
    assert (second.ref, second.attempt) == (first.ref, 2)


async def test_concurrent_claims_share_nothing(store: Store) -> None:
    await store.put([entry(str(n)) for n in range(100)], [], NOW)
    claims = await asyncio.gather(*(claim(store, limit=10) for _ in range(12)))
    assert sorted(int(d.body) for claimed in claims for d in claimed) == list(range(100))


async def test_a_ref_is_never_used_twice(reopen: Opener) -> None:
    store = await reopen()
    await store.put([entry("a")], [], NOW)
    old = await claim_one(store)
    assert await settle(store, old, Outcome.DELIVERED)
    for _ in range(3):
        await store.sweep(NOW + LOG_MS + 1)
    await store.close()

    store = await reopen()
    await store.put([entry("b")], [], NOW)
    assert not await settle(store, old, Outcome.DELIVERED)
    assert (await claim_one(store)).ref != old.ref
    await store.close()


@pytest.mark.parametrize("side", ["", "page"])
async def test_a_recall_brings_forward_what_is_due_late_and_nothing_else(
    store: Store, side: str
) -> None:
    dues = {"now": NOW, "edge": NOW + 50, "late": NOW + 51, "other": NOW + DAY_MS}
    made = [entry(name, due_ms=due_ms, side=side) for name, due_ms in dues.items()]
    await store.put([*made, entry("x", pixel="2", due_ms=NOW + DAY_MS)], [], NOW, join)
    assert await store.recall("1", after_ms=NOW + 50, due_ms=NOW + 20) == 2
    assert await store.recall("1", after_ms=NOW + 50, due_ms=NOW + 20) == 0
    assert [d.body for d in await claim(store, NOW + 19)] == [b"now"]
    assert [d.body for d in await claim(store, NOW + 20)] == [b"late", b"other"]
    assert [d.body for d in await claim(store, NOW + 50)] == [b"edge"]
    assert await claim(store, NOW + 50, pixel="2") == []
    assert await accounts(store) == {
        "1": {"accepted": 4, "pending": 4},
        "2": {"accepted": 1, "pending": 1},
    }


async def test_a_lease_that_is_recalled_is_void_but_for_what_was_delivered(store: Store) -> None:
    await store.put([entry("a"), entry("b")], [], NOW)
    a, b = await claim(store)
    assert await store.recall("1", after_ms=NOW, due_ms=NOW + 9) == 2
    assert not await settle(store, a, Outcome.DEAD)
    assert await settle(store, b, Outcome.DELIVERED)
    again = await claim_one(store, NOW + 9)
    assert (again.ref, again.attempt) == (a.ref, 2)


async def test_a_recall_of_thousands_takes_several_steps(store: Store) -> None:
    late = NOW + DAY_MS
    for batch in range(3):
        await store.put([entry(f"{batch}-{n}", due_ms=late) for n in range(1000)], [], NOW)
    assert await store.recall("1", after_ms=NOW, due_ms=NOW) == SWEPT
    assert await store.recall("1", after_ms=NOW, due_ms=NOW) == 3000 - SWEPT
    assert len(await claim(store, limit=9999)) == 3000


# settle


async def test_a_delivered_event_is_gone_and_counted_once(store: Store) -> None:
    await store.put([entry("a")], [], NOW)
    delivery = await claim_one(store)
    twice = [Settlement(delivery=delivery, outcome=Outcome.DELIVERED)] * 2
    assert await store.settle(twice, NOW + 5) == 1
    assert await store.settle(twice, NOW + 6) == 0
    assert await claim(store, NOW + DAY_MS) == []
    assert await accounts(store) == {"1": {"accepted": 1, "delivered": 1}}
    [line] = await store.events(limit=9)
    assert (line.outcome, line.settled_ms, line.attempts) == (Outcome.DELIVERED, NOW + 5, 1)


async def test_a_delivery_counts_even_after_its_lease_ran_out(store: Store) -> None:
    await store.put([entry("a")], [], NOW)
    first = await claim_one(store)
    second = await claim_one(store, NOW + LEASE_MS)
    assert await settle(store, first, Outcome.DELIVERED)
    for fate in (Outcome.DELIVERED, Outcome.PENDING, Outcome.DEAD, Outcome.TOO_OLD):
        assert not await settle(store, second, fate)
    assert await accounts(store) == {"1": {"accepted": 1, "delivered": 1}}
    assert await store.dead() == []


@pytest.mark.parametrize("fate", [Outcome.PENDING, Outcome.DEAD, Outcome.TOO_OLD])
async def test_a_settlement_under_a_lost_lease_changes_nothing(store: Store, fate: Outcome) -> None:
    await store.put([entry("a")], [], NOW)
    stale = await claim_one(store)
    current = await claim_one(store, NOW + LEASE_MS)
    before = (await accounts(store), await store.events(limit=9))
    assert not await settle(store, stale, fate, due_ms=NOW, reason="late")
    assert (await accounts(store), await store.events(limit=9)) == before
    assert await store.dead() == []
    assert await claim(store, NOW + LEASE_MS) == []
    assert await settle(store, current, fate, due_ms=NOW)


@pytest.mark.parametrize("fate", [Outcome.PENDING, Outcome.DEAD, Outcome.TOO_OLD])
async def test_a_lease_is_proved_by_its_end_and_its_attempt(store: Store, fate: Outcome) -> None:
    await store.put([entry("a")], [], NOW)
    first = await claim_one(store)
    await settle(store, first, Outcome.PENDING, due_ms=NOW + 1, count=False)
    second = await claim_one(store, NOW + 1)
    assert (first.attempt, second.attempt) == (1, 1)
    for other in (first, replace(second, attempt=2)):
        assert not await settle(store, other, fate)
    assert await settle(store, second, fate)


@pytest.mark.parametrize(("count", "attempt"), [(True, 2), (False, 1)], ids=["counted", "free"])
async def test_a_retry_is_due_when_it_says(store: Store, count: bool, attempt: int) -> None:
    await store.put([entry("a")], [], NOW)
    delivery = await claim_one(store)
    due = NOW + 5000
    assert await settle(store, delivery, Outcome.PENDING, reason="busy", due_ms=due, count=count)
    [line] = await store.events(limit=9)
    assert (line.outcome, line.settled_ms, line.reason) == (Outcome.PENDING, 0, "busy")
    assert line.attempts == attempt - 1
    assert await claim(store, due - 1) == []
    assert (await claim_one(store, due)).attempt == attempt
    assert await accounts(store) == {"1": {"accepted": 1, "pending": 1}}


async def test_a_retry_told_twice_counts_once(store: Store) -> None:
    await store.put([entry("a")], [], NOW)
    delivery = await claim_one(store)
    again = Settlement(
        delivery=delivery, outcome=Outcome.PENDING, due_ms=delivery.lease_ms, count=False
    )
    assert await store.settle([again, again], NOW) == 1
    assert (await claim_one(store, delivery.lease_ms)).attempt == 1


async def test_a_death_moves_the_event_to_the_dead_letters(store: Store) -> None:
    delivery = await kill(store, "a", NOW, reason="100: bad value")
    [letter] = await store.dead()
    assert (letter.ref, letter.pixel, letter.body) == (delivery.ref, "1", b"a")
    assert (letter.accepted_ms, letter.died_ms, letter.attempts) == (NOW, NOW, 1)
    assert (letter.reason, letter.note) == ("100: bad value", note("a"))
    assert await claim(store, NOW + DAY_MS) == []
    assert not await settle(store, delivery, Outcome.DEAD)
    assert await accounts(store) == {"1": {"accepted": 1, "dead": 1}}
    [line] = await store.events(limit=9)
    assert (line.outcome, line.settled_ms, line.reason) == (Outcome.DEAD, NOW, "100: bad value")


@pytest.mark.parametrize("fate", [Outcome.TOO_OLD, Outcome.ERASED])
async def test_a_drop_after_the_fact_removes_the_event(store: Store, fate: Outcome) -> None:
    await store.put([entry("a")], [], NOW)
    delivery = await claim_one(store)
    assert await settle(store, delivery, fate, reason="deadline")
    assert not await settle(store, delivery, fate)
    assert await claim(store, NOW + DAY_MS) == []
    assert await store.dead() == []
    assert await accounts(store) == {"1": {"accepted": 1, fate: 1}}
    [line] = await store.events(limit=9)
    assert (line.outcome, line.reason) == (fate, "deadline")


async def test_settle_answers_how_many_were_still_ours(store: Store) -> None:
    await store.put([entry(name) for name in "abcd"], [], NOW)
    a, b, c, d = await claim(store)
    await settle(store, a, Outcome.DELIVERED)
    fates = zip(
        (a, b, c, d),
        (Outcome.DELIVERED, Outcome.PENDING, Outcome.DEAD, Outcome.TOO_OLD),
        strict=True,
    )
    settlements = [Settlement(delivery=of, outcome=fate) for of, fate in fates]
    assert await store.settle(settlements, NOW) == 3
    assert await accounts(store) == {
        "1": {"accepted": 4, "delivered": 1, "pending": 1, "dead": 1, "too_old": 1}
    }


# records


async def test_a_logged_event_says_what_its_note_says(store: Store) -> None:
    full = Note(
        event_name="Purchase",
        event_id="ü-1",
        source="backend",
        host="shop.example",
        keys=("em", "ph"),
        custom={"value": 12.5, "num_items": 3, "order_id": "A1", "first": True},
        agent="Firefox on Linux",
        warnings=("currency assumed",),
    )
    await store.put([replace(entry("a"), note=full)], [], NOW)
    [line] = await store.events(limit=9)
    assert (line.pixel, line.at_ms, line.outcome) == ("1", NOW, Outcome.PENDING)
    assert (line.settled_ms, line.attempts, line.reason) == (0, 0, "")
    assert line.note == full
    assert line.ref == (await claim_one(store)).ref


async def test_the_log_answers_its_newest_lines_oldest_first(store: Store) -> None:
    await store.put([entry(name) for name in "abcab"], [], NOW)

    async def found(
        limit: int = 9, outcome: Outcome | None = None, event_id: str | None = None
    ) -> list[str]:
        lines = await store.events(limit=limit, outcome=outcome, event_id=event_id)
        assert lines == sorted(lines, key=lambda line: line.ref)
        return [f"{line.note.event_id} {line.outcome}" for line in lines]

    assert await found(limit=2) == ["a duplicate", "b duplicate"]
    assert await found(limit=2, outcome=Outcome.PENDING) == ["b pending", "c pending"]
    assert await found(event_id="a") == ["a pending", "a duplicate"]
    assert await found(limit=1, event_id="a") == ["a duplicate"]
    assert await found(outcome=Outcome.PENDING, event_id="a") == ["a pending"]
    assert await found(event_id="z") == []


async def test_dead_letters_are_listed_newest_first_all_or_by_ref(store: Store) -> None:
    a = await kill(store, "a", NOW)
    b = await kill(store, "b", NOW + 1)
    c = await kill(store, "c", NOW + 2)
    assert [letter.ref for letter in await store.dead()] == [c.ref, b.ref, a.ref]
    named = await store.dead([a.ref, 10**9, c.ref, a.ref])
    assert [letter.ref for letter in named] == [c.ref, a.ref]
    assert await store.dead([]) == []


async def test_an_account_of_hours_holds_what_was_accepted_in_them(store: Store) -> None:
    hour = NOW // HOUR_MS
    await store.put([entry("a"), entry("b"), entry("b"), entry("x", pixel="2")], [], NOW)
    await store.put([entry("c")], [Drop(pixel="1", outcome=Outcome.BOT)], NOW + HOUR_MS)
    later = NOW + 2 * HOUR_MS
    a, _, c = await claim(store, later)
    await settle(store, a, Outcome.DELIVERED, later)
    await settle(store, c, Outcome.DEAD, later)

    async def counts(first: int, end: int, pixel: str = "1") -> tuple[int, int, int, int, int]:
        line = await store.account(pixel, range(hour + first, hour + end))
        assert (line.pixel, line.adds_up) == (pixel, True)
        dropped = sum(line.dropped.values())
        return line.accepted, line.delivered, dropped, line.dead, line.pending

    assert await counts(0, 1) == (3, 1, 1, 0, 1)
    assert await counts(1, 2) == (2, 0, 1, 1, 0)
    assert await counts(0, 2) == (5, 1, 2, 1, 1)
    assert await counts(0, 1, pixel="2") == (1, 0, 0, 0, 1)
    assert await counts(2, 9) == await counts(-9, 0) == await counts(0, 1, "3") == (0,) * 5


async def test_the_oldest_that_waits_is_known_by_its_acceptance(store: Store) -> None:
    assert await store.oldest_ms() is None
    await store.put([entry("a"), entry("x", pixel="2", due_ms=NOW + 9)], [], NOW)
    await store.put([entry("b"), entry("a")], [], NOW + 5)
    a, b = await claim(store, NOW + 5)
    assert await store.oldest_ms() == NOW
    assert await settle(store, a, Outcome.PENDING, due_ms=NOW + DAY_MS)
    [x] = await claim(store, NOW + 9, pixel="2")
    assert await settle(store, x, Outcome.DELIVERED)
    assert await store.oldest_ms() == NOW  # though it is due last
    [a] = await claim(store, NOW + DAY_MS, limit=1)
    a, b = sorted([a, *await claim(store, NOW + 2 * DAY_MS, limit=1)], key=lambda d: d.accepted_ms)
    assert await settle(store, a, Outcome.DEAD)
    assert await store.oldest_ms() == NOW + 5
    assert await settle(store, b, Outcome.DELIVERED)
    assert await store.oldest_ms() is None
    await store.revive([a.ref], NOW + DAY_MS)
    assert await store.oldest_ms() == NOW


async def test_the_oldest_is_known_among_thousands_that_are_due_before_it(store: Store) -> None:
    await store.put([entry("old", due_ms=NOW + DAY_MS)], [], NOW)
    for batch in range(6):
        made = [entry(f"{batch}-{n}", due_ms=NOW + 5) for n in range(1000)]
        await store.put(made, [], NOW + 5)
    assert await store.oldest_ms() == NOW
    [*_, old] = await claim(store, NOW + DAY_MS, limit=10_000)
    assert old.body == b"old"
    assert await settle(store, old, Outcome.DELIVERED)
    assert await store.oldest_ms() == NOW + 5


async def test_a_revived_event_starts_anew(store: Store) -> None:
    died = await kill(store, "a", NOW, reason="bad")
    later = NOW + 3 * HOUR_MS
    assert await store.revive([died.ref, died.ref, 10**9], later) == 1
    assert await store.dead() == []
    assert await accounts(store) == {"1": {"accepted": 1, "pending": 1}}
    [line] = await store.events(limit=9)
    assert (line.outcome, line.settled_ms, line.attempts, line.reason) == ("pending", 0, 0, "")

    revived = await claim_one(store, later)
    assert revived == replace(died, lease_ms=later + LEASE_MS)
    assert await settle(store, revived, Outcome.DELIVERED, later)
    assert await accounts(store) == {"1": {"accepted": 1, "delivered": 1}}


async def test_a_lease_from_before_a_death_does_not_bind_the_revived(store: Store) -> None:
    died = await kill(store, "a", NOW)
    await store.revive([died.ref], died.lease_ms)
    assert not await settle(store, died, Outcome.DEAD, died.lease_ms)
    assert (await claim_one(store, died.lease_ms)).attempt == 1


async def test_a_discarded_letter_stays_counted_as_dead(store: Store) -> None:
    died = await kill(store, "a")
    assert await store.discard([died.ref, died.ref, 10**9]) == 1
    assert await store.dead() == []
    assert await store.revive([died.ref], NOW) == 0
    assert await accounts(store) == {"1": {"accepted": 1, "dead": 1}}


# upkeep


async def swept(store: Store, now_ms: int) -> None:
    """Long enough that everything past its time is gone."""
    for _ in range(4):
        await store.sweep(now_ms)


async def test_the_sweep_forgets_old_lines_that_are_final(store: Store) -> None:
    await store.put([entry("a"), entry("b"), entry("a")], [], NOW)
    await settle(store, (await claim(store, limit=1))[0], Outcome.DELIVERED)
    before = await accounts(store)

    await swept(store, NOW + LOG_MS)
    assert len(await store.events(limit=9)) == 3
    await swept(store, NOW + LOG_MS + 1)
    assert [line.note.event_id for line in await store.events(limit=9)] == ["b"]
    assert await accounts(store) == before


async def test_one_sweep_keeps_up_with_what_was_put(store: Store) -> None:
    await store.put([entry(str(n)) for n in range(3000)], [], NOW)
    await store.put([entry("0")] * 3000, [], NOW)
    for delivery in await claim(store, limit=3000):
        await settle(store, delivery, Outcome.DELIVERED)
    await store.sweep(NOW + LOG_MS + 1)
    assert await store.events(limit=9) == []


async def test_the_sweep_forgets_old_dead_letters(store: Store) -> None:
    await kill(store, "a", NOW)
    await kill(store, "b", NOW + 1)
    await swept(store, NOW + DEAD_MS)
    assert len(await store.dead()) == 2
    await swept(store, NOW + DEAD_MS + 1)
    assert [letter.body for letter in await store.dead()] == [b"b"]
    assert await accounts(store) == {"1": {"accepted": 2, "dead": 2}}


async def test_an_event_can_be_revived_and_die_after_its_line_was_forgotten(store: Store) -> None:
    died = await kill(store, "a")
    later = NOW + LOG_MS + 1
    await swept(store, later)
    assert await store.events(limit=9) == []
    assert await store.revive([died.ref], later) == 1
    [line] = await store.events(limit=9)
    assert (line.ref, line.at_ms, line.note) == (died.ref, NOW, note("a"))
    assert await settle(store, await claim_one(store, later), Outcome.DEAD, later)
    assert [letter.note for letter in await store.dead()] == [note("a")]


async def test_the_ledger_adds_up_when_its_hours_are_forgotten(store: Store) -> None:
    await store.put([entry("a"), entry("b", pixel="2"), entry("c"), entry("a")], [], NOW)
    await settle(store, (await claim(store))[0], Outcome.DELIVERED)
    before = await accounts(store)
    later = NOW + TALLY_MS + 2 * HOUR_MS
    await swept(store, later)
    assert await accounts(store) == before
    for delivery in await claim(store, later):
        await settle(store, delivery, Outcome.TOO_OLD, later)
    await swept(store, later + HOUR_MS)
    assert await accounts(store) == {
        "1": {"accepted": 3, "delivered": 1, "duplicate": 1, "too_old": 1},
        "2": {"accepted": 1, "pending": 1},
    }


async def test_a_probe_of_a_working_store_leaves_no_trace(store: Store) -> None:
    await store.probe()
    assert await store.ledger() == []
    assert await store.events(limit=9) == []


async def test_close_finishes_what_was_handed_in(reopen: Opener) -> None:
    store = await reopen()
    puts = [asyncio.create_task(store.put([entry(str(n))], [], NOW)) for n in range(50)]
    await asyncio.sleep(0)  # all are on their way
    await store.close()
    assert [await put for put in puts] == [[Outcome.PENDING]] * 50
    await store.close()
    with pytest.raises(StoreError):
        await store.put([entry("late")], [], NOW)
    store = await reopen()
    assert len(await claim(store)) == 50
    await store.close()
