"""The log of events loses nothing and is found by module, name and address."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from consensus.application import Event
from consensus.params import TINY
from node.events import BEGINNING, Cursor, Kind
from node.store import Store
from tests.node.decided import decide, transaction, write_genesis

ADA, BEN = b"a" * 20, b"b" * 20


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(tmp_path / "chain", inline=True)
    write_genesis(store, {"coin": {}}, params=TINY)
    yield store
    store.close()


def _sent(sender: bytes, to: bytes, amount: int = 1) -> Event:
    return Event("coin", "sent", (sender, to, amount))


def test_events_come_in_the_order_of_the_chain(store: Store) -> None:
    begin, first, second, end = (
        Event("vote", "closed", (7,)),
        _sent(ADA, BEN),
        _sent(BEN, ADA),
        Event("coin", "fee", ()),
    )
    store.commit_inline(
        decide(store, {}, transactions=[transaction(0)], events={0: [begin], 1: [first, second], 2: [end]})
    )
    store.commit_inline(decide(store, {}))
    store.commit_inline(decide(store, {}, events={1: [end]}))
    assert store.events_after() == [
        (Cursor(1, 0, 0), begin),
        (Cursor(1, 1, 0), first),
        (Cursor(1, 1, 1), second),
        (Cursor(1, 2, 0), end),
        (Cursor(3, 1, 0), end),
    ]


def test_a_reader_that_resumes_at_any_cursor_misses_nothing(store: Store) -> None:
    dice = random.Random(1)
    for _ in range(12):
        events = {index: [Event("coin", "sent", (n,)) for n in range(dice.randrange(4))] for index in (0, 1)}
        store.commit_inline(decide(store, {}, events=events))
    everything = store.events_after()
    for limit in (1, 2, 7):
        cursor, seen = BEGINNING, []
        while page := store.events_after(cursor, limit=limit):
            assert len(page) <= limit
            seen += page
            cursor = page[-1][0]
        assert seen == everything


def test_events_of_one_module_only(store: Store) -> None:
    store.commit_inline(
        decide(store, {}, events={0: [_sent(ADA, BEN), Event("coins", "sent", ()), Event("vote", "closed", ())]})
    )
    assert [event.module for _, event in store.events_after(module="coin")] == ["coin"]
    assert store.events_after(module="land") == []


def test_places_are_found_by_event_name(store: Store) -> None:
    store.commit_inline(decide(store, {}, events={0: [_sent(ADA, BEN), Event("coin", "sentence", ())]}))
    assert store.search(Kind.EVENT, b"coin.sent") == [Cursor(1, 0, 0)]
    assert store.search(Kind.EVENT, b"coin.sentence") == [Cursor(1, 0, 1)]


def test_places_are_found_by_address_in_any_field_and_by_sender(store: Store) -> None:
    store.commit_inline(
        decide(
            store,
            {},
            transactions=[transaction(0, sender=ADA), transaction(1, sender=BEN)],
            events={2: [Event("coin", "fee", (3,)), _sent(BEN, ADA)], 3: [_sent(ADA, ADA)]},
        )
    )
    assert store.search(Kind.ADDRESS, ADA) == [Cursor(1, 1, 0), Cursor(1, 2, 1), Cursor(1, 3, 0)]
    assert store.search(Kind.ADDRESS, BEN) == [Cursor(1, 2, 0), Cursor(1, 2, 1)]
    assert store.search(Kind.ADDRESS, b"c" * 20) == []


def test_senders_that_are_known_are_not_read_again(store: Store) -> None:

    decided = decide(store, {}, transactions=[transaction(0, sender=ADA)])
    store.commit_inline(dataclasses.replace(decided, senders=(BEN,)))
    assert store.search(Kind.ADDRESS, BEN) == [Cursor(1, 1, 0)]


def test_a_search_goes_on_where_it_stopped_in_both_directions(store: Store) -> None:
    for _ in range(5):
        store.commit_inline(decide(store, {}, events={0: [_sent(ADA, BEN), _sent(BEN, ADA)], 1: [_sent(ADA, ADA)]}))
    everything = store.search(Kind.ADDRESS, ADA)
    assert len(everything) == 15
    for newest_first in (False, True):
        found: list[Cursor] = []
        while page := store.search(
            Kind.ADDRESS, ADA, after=found[-1] if found else None, limit=4, newest_first=newest_first
        ):
            found += page
        assert found == (everything[::-1] if newest_first else everything)


def test_a_key_that_is_no_key_finds_nothing(store: Store) -> None:
    assert store.search(Kind.EVENT, b"x" * 10_000) == []


def test_any_cursor_can_be_asked_for(store: Store) -> None:
    store.commit_inline(decide(store, {}, events={0: [_sent(ADA, BEN)]}))
    place = Cursor(1, 0, 0)
    for low in (Cursor(-5, -1, -1), Cursor(0, 2**80, 0)):
        assert store.search(Kind.ADDRESS, ADA, after=low) == [place]
        assert store.search(Kind.ADDRESS, ADA, after=low, newest_first=True) == []
    for high in (Cursor(2**80, 0, 0), Cursor(1, 0, 1)):
        assert store.search(Kind.ADDRESS, ADA, after=high) == []
        assert store.search(Kind.ADDRESS, ADA, after=high, newest_first=True) == [place]


def test_more_than_the_limit_is_not_asked_for(store: Store) -> None:
    with pytest.raises(AssertionError):
        store.search(Kind.ADDRESS, ADA, limit=1_001)
