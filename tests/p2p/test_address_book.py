"""The book stays within bounds, forgets what is dead, and no single source can take it over."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.address import PeerAddress
from p2p.address_book import (
    ANCHORS_MAX,
    BUCKET_ENTRIES_MAX,
    FAILURES_MAX,
    FRESH_MS,
    GIVES_WAY_FAILURES,
    NEW_BUCKETS,
    NEW_BUCKETS_PER_SOURCE,
    RETRY_BASE_MS,
    TRIED_BUCKETS,
    TRIED_BUCKETS_PER_GROUP,
    AddressBook,
    BadBook,
)

NOW = 1_800_000_000_000


def address(number: int, host: str | None = None) -> PeerAddress:
    return PeerAddress(number.to_bytes(32, "big"), host or f"10.{number >> 8 & 255}.{number & 255}.1", 26656)


def book(seed: int = 1) -> AddressBook:
    return AddressBook(dice=random.Random(seed))


def nobody(node_id: bytes) -> bool:
    return False


def test_what_was_heard_is_not_passed_on_until_it_was_reached() -> None:
    known = book()
    assert known.add(address(1), source="10.9.9.9")
    assert known.to_share(10, skip=nobody) == []
    known.reached(address(1), NOW)
    assert known.to_share(10, skip=nobody) == [address(1)]
    known.failed(address(1), NOW)
    assert known.to_share(10, skip=nobody) == []


def test_a_stranger_can_not_redirect_a_node_that_was_reached() -> None:
    known = book()
    known.reached(address(1), NOW)
    assert not known.add(address(1, "6.6.6.6"))
    assert known.get(address(1).node_id) is not None
    assert known.to_dial(NOW, skip=nobody) == address(1)


def test_a_new_node_whose_address_fails_may_get_another() -> None:
    known = book()
    known.add(address(1))
    assert not known.add(address(1, "10.7.7.7"))
    known.failed(address(1), NOW)
    assert known.add(address(1, "10.7.7.7"))
    assert known.to_dial(NOW, skip=nobody) == address(1, "10.7.7.7")


def test_failures_pause_and_at_last_forget() -> None:
    known = book()
    known.add(address(1))
    now = NOW
    for failure in range(FAILURES_MAX):
        assert known.to_dial(now, skip=nobody) == address(1)
        known.failed(address(1), now)
        pause = RETRY_BASE_MS << failure
        if failure < FAILURES_MAX - 1:
            assert known.to_dial(now + pause - 1, skip=nobody) is None
            assert known.next_dial_ms(now, skip=nobody) == pause
            now += pause
    assert len(known) == 0
    assert known.next_dial_ms(now, skip=nobody) is None


def test_a_tried_node_that_fails_for_long_is_new_again() -> None:
    known = book()
    known.reached(address(1), NOW)
    for _ in range(FAILURES_MAX):
        known.failed(address(1), NOW)
    entry = known.get(address(1).node_id)
    assert entry is not None
    assert not entry.tried


def test_failures_at_another_address_do_not_count() -> None:
    known = book()
    known.reached(address(1), NOW)
    known.failed(address(1, "10.1.1.1"), NOW)
    entry = known.get(address(1).node_id)
    assert entry is not None
    assert entry.failures == 0


def test_our_own_address_never_enters() -> None:
    known = book()
    known.own_id = address(1).node_id
    assert not known.add(address(1))
    known.reached(address(1), NOW)
    assert len(known) == 0


def test_one_source_fills_only_its_buckets() -> None:
    known = book()
    for number in range(5_000):
        known.add(address(number, "66.6.1.1"), source="66.6.6.6")
    assert len(known) <= NEW_BUCKETS_PER_SOURCE * BUCKET_ENTRIES_MAX
    honest = sum(known.add(address(number), source="10.0.0.1") for number in range(10_000, 10_100))
    assert honest >= 70, "most buckets are out of its reach"


def test_one_source_network_fills_a_sixteenth_whatever_networks_it_invents() -> None:
    known = book()
    for number in range(10_000):
        known.add(address(number), source=f"66.6.{number % 250}.7")
    assert len(known) <= NEW_BUCKETS_PER_SOURCE * BUCKET_ENTRIES_MAX == NEW_BUCKETS * BUCKET_ENTRIES_MAX // 16


def test_one_network_fills_a_sixteenth_of_those_that_were_reached() -> None:
    known = book()
    for number in range(10_000):
        known.reached(address(number, f"66.6.{number % 250}.{number % 200}"), NOW)
    share = TRIED_BUCKETS_PER_GROUP * BUCKET_ENTRIES_MAX
    assert known.tried <= share == TRIED_BUCKETS * BUCKET_ENTRIES_MAX // 16


def test_who_fills_a_bucket_is_drawn_no_more_often_than_who_stands_in_another() -> None:
    known = book()
    for number in range(10_000):
        known.add(address(number, f"66.6.{number % 250}.1"), source="66.6.6.6")
    honest = {address(20_000 + number).node_id for number in range(8)}
    for number in range(8):
        known.add(address(20_000 + number), source=f"10.{number}.0.1")
    drawn = [known.to_dial(NOW, skip=nobody) for _ in range(1_000)]
    share = sum(found is not None and found.node_id in honest for found in drawn) / 1_000
    assert share > 0.35, "eight honest entries against a hundred and twenty-eight"


def test_networks_that_are_connected_already_are_avoided_while_there_are_others() -> None:
    known = book()
    for number in range(50):
        known.reached(address(number, f"66.6.{number}.1"), NOW)
    known.reached(address(99, "9.9.9.9"), NOW)
    for _ in range(20):
        assert known.to_dial(NOW, skip=nobody, groups={"66.6.0.0/16"}) == address(99, "9.9.9.9")
    assert known.to_dial(NOW, skip=lambda node_id: node_id == address(99).node_id, groups={"66.6.0.0/16"}) is not None


def full_bucket() -> tuple[AddressBook, list[PeerAddress], PeerAddress]:
    """A book with a full tried bucket, what stands there, and one more that was reached and belongs there."""
    known = book()
    numbers = iter(range(10_000))
    standing: list[PeerAddress] = []
    while True:
        one = address(next(numbers), "66.6.1.1")
        before = known.tried
        known.reached(one, NOW)
        if known.tried == before:
            return known, standing, one
        standing.append(one)


def test_who_answers_is_not_displaced_and_who_does_not_is_after_a_test() -> None:
    known, standing, challenger = full_bucket()
    entry = known.get(challenger.node_id)
    assert entry is None or not entry.tried
    assert known.to_test(NOW + 1, skip=nobody) is None, "who was just reached needs no test"
    known.reached(challenger, NOW)
    incumbent = known.to_test(NOW + FRESH_MS, skip=nobody)
    assert incumbent in standing
    known.tested(incumbent, NOW + FRESH_MS, there=True)
    assert known.get(incumbent.node_id).tried  # type: ignore[union-attr]
    known.reached(challenger, NOW + FRESH_MS)
    incumbent = known.to_test(NOW + 3 * FRESH_MS, skip=nobody)
    assert incumbent in standing
    known.tested(incumbent, NOW + 3 * FRESH_MS, there=False)
    assert known.get(challenger.node_id).tried  # type: ignore[union-attr]
    former = known.get(incumbent.node_id)
    assert former is None or not former.tried


def test_a_dead_one_makes_room_without_a_test() -> None:
    known, standing, challenger = full_bucket()
    for _ in range(GIVES_WAY_FAILURES):
        for one in standing:
            known.failed(one, NOW)
    known.reached(challenger, NOW)
    assert known.get(challenger.node_id).tried  # type: ignore[union-attr]


def test_new_ones_are_tested_when_nobody_is_challenged() -> None:
    known = book()
    known.add(address(1))
    assert known.to_test(NOW, skip=nobody) == address(1)
    known.tested(address(1), NOW, there=True)
    assert known.tried == 1
    assert known.to_test(NOW, skip=nobody) is None


def test_anchors_are_dialled_first_after_a_restart_and_once() -> None:
    saved: list[bytes] = []
    known = AddressBook(dice=random.Random(1), save=saved.append)
    friends = [address(number, f"80.{number}.0.1") for number in range(ANCHORS_MAX + 2)]
    for friend in friends:
        known.reached(friend, NOW)
    known.keep_anchors([friend.node_id for friend in friends])
    for number in range(1_000, 11_000):
        known.reached(address(number, f"{number % 200}.6.6.6"), NOW)
    known.keep_anchors([])
    known.save()
    again = AddressBook(dice=random.Random(2), saved=saved[-1])
    dialled: set[bytes] = set()
    for friend in friends[:ANCHORS_MAX]:
        found = again.to_dial(NOW, skip=dialled.__contains__)
        assert found == friend
        dialled.add(friend.node_id)


def test_the_book_is_bounded_whatever_is_poured_in() -> None:
    known = book()
    for number in range(6_000):
        known.add(address(number), source=f"10.{number % 251}.0.1")
        if number % 3 == 0:
            known.reached(address(number), NOW)
    assert len(known) <= (NEW_BUCKETS + TRIED_BUCKETS) * BUCKET_ENTRIES_MAX
    assert sum(entry.tried for entry in known) <= TRIED_BUCKETS * BUCKET_ENTRIES_MAX


def test_the_saved_book_comes_back_and_is_saved_only_when_changed() -> None:
    saved: list[bytes] = []
    known = AddressBook(dice=random.Random(1), save=saved.append)
    known.save()
    assert saved == []
    known.add(address(1), source="10.1.1.1")
    known.reached(address(2), NOW)
    known.save()
    known.save()
    assert len(saved) == 1
    again = AddressBook(dice=random.Random(2), saved=saved[0])
    assert list(again) == list(known)
    again.forget(address(1).node_id)
    assert [entry.address for entry in again] == [address(2)]


@given(st.binary(min_size=1, max_size=200))
def test_a_damaged_file_is_named_as_such(saved: bytes) -> None:
    with pytest.raises(BadBook, match="delete it"):
        AddressBook(dice=random.Random(1), saved=saved)


@given(st.lists(st.tuples(st.sampled_from(["add", "reached", "failed", "forget"]), st.integers(0, 40)), max_size=200))
def test_entries_and_buckets_always_agree(acts: list[tuple[str, int]]) -> None:
    known = book()
    for act, number in acts:
        where = address(number, f"10.0.{number % 4}.1")
        match act:
            case "add":
                known.add(where, source=f"10.{number % 3}.0.1")
            case "reached":
                known.reached(where, NOW)
            case "failed":
                known.failed(where, NOW)
            case _:
                known.forget(where.node_id)
    filed = [node_id for bucket in known._buckets.values() for node_id in bucket]
    assert sorted(filed) == sorted(entry.node_id for entry in known)
