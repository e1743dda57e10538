"""Invariants of the waiting room, whatever comes and goes, in any order."""

from __future__ import annotations

from functools import cache

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from consensus.transaction import NONCE_AHEAD_MAX, Transaction
from node.mempool_bodies import VerifiedBodies
from node.mempool_memory import ArrivalLog, Recent
from node.mempool_room import SPARE_MARKS_MAX, Entry, MempoolLimits, NoRoom, WaitingRoom
from node.verifier import InlineVerifier
from tests.node.fake_town import TIME_MS, account, signed

SENDERS = 4
LIMITS = MempoolLimits(transactions_max=12, bytes_max=4_000, per_sender_max=5, per_sender_bytes_max=2_000)

numbers = st.integers(1, SENDERS)
nonces = st.integers(0, 8)


@cache
def transaction(number: int, nonce: int, fee: int, lifetime_ms: int, padding: int) -> Transaction:
    return signed(number, nonce, fee=fee, valid_until_ms=TIME_MS + lifetime_ms, padding=padding)


class Rooms(RuleBasedStateMachine):
    """Random arrivals, departures, commits and passing time."""

    def __init__(self) -> None:
        super().__init__()
        self.room = WaitingRoom(LIMITS)
        self.next_nonce = {account(number): 0 for number in range(1, SENDERS + 1)}
        self.time_ms = TIME_MS
        self.sequence = 0

    @rule(
        number=numbers,
        nonce=nonces,
        fee=st.sampled_from([0, 1, 5, 100]),
        lifetime_ms=st.sampled_from([1, 5, 50]),
        padding=st.sampled_from([0, 0, 500]),
    )
    def arrive(self, number: int, nonce: int, fee: int, lifetime_ms: int, padding: int) -> None:
        item = transaction(number, nonce, fee, lifetime_ms, padding)
        if item.id in self.room.entries or item.body.valid_until_ms < self.time_ms:
            return
        sender = account(number)
        self.sequence += 1
        entry = Entry(transaction=item, sender=sender, priority=fee, sequence=self.sequence, checked=1, source=None)
        before = dict(self.room.entries)
        former = self.room.at(sender, nonce)
        try:
            left = self.room.add(entry, self.next_nonce[sender])
        except NoRoom:
            assert self.room.entries == before, "who is refused changes nothing"
            return
        assert self.next_nonce[sender] <= nonce <= self.next_nonce[sender] + NONCE_AHEAD_MAX
        assert self.room.entries[item.id] is entry
        assert {gone.transaction.id for gone in left} == before.keys() - self.room.entries.keys()
        if former is not None:
            assert former in left
            assert fee * 10 >= former.transaction.body.fee * 11
            assert fee > former.transaction.body.fee

    @rule(number=numbers, count=st.integers(1, 3))
    def commit(self, number: int, count: int) -> None:
        sender = account(number)
        self.next_nonce[sender] += count
        for gone in self.room.advance(sender, self.next_nonce[sender]):
            assert gone.transaction.body.nonce < self.next_nonce[sender]

    @precondition(lambda self: self.room.entries)
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        identity = data.draw(st.sampled_from(sorted(self.room.entries)))
        self.room.remove(self.room.entries[identity])
        assert identity not in self.room.entries

    @rule(passed_ms=st.integers(0, 10))
    def time_passes(self, passed_ms: int) -> None:
        self.time_ms += passed_ms
        self.room.expire(self.time_ms)
        assert all(entry.transaction.body.valid_until_ms >= self.time_ms for entry in self.room.entries.values())

    @invariant()
    def count_and_bytes_are_those_of_the_contents_and_within_limits(self) -> None:
        entries = self.room.entries.values()
        assert self.room.count == len(entries) <= LIMITS.transactions_max
        assert self.room.bytes == sum(len(entry.transaction.raw) for entry in entries) <= LIMITS.bytes_max
        for sender in self.next_nonce:
            own = [entry for entry in entries if entry.sender == sender]
            assert len(own) <= LIMITS.per_sender_max
            assert sum(len(entry.transaction.raw) for entry in own) <= LIMITS.per_sender_bytes_max
            assert len({entry.transaction.body.nonce for entry in own}) == len(own)

    @invariant()
    def who_is_ready_has_all_nonces_before_it(self) -> None:
        heads = {entry.sender: entry for entry in self.room.ready_heads()}
        parked = {entry.sender for entry in self.room.parked_heads()}
        assert heads.keys().isdisjoint(parked)
        assert heads.keys() | parked == {entry.sender for entry in self.room.entries.values()}
        assert self.room.has_ready == bool(heads)
        for sender, next_nonce in self.next_nonce.items():
            nonce = next_nonce
            while (entry := self.room.at(sender, nonce)) is not None:
                assert entry.ready
                nonce += 1
            rest = [entry for entry in self.room.entries.values() if entry.sender == sender]
            assert all(not entry.ready for entry in rest if entry.transaction.body.nonce > nonce)

    @invariant()
    def a_block_is_in_nonce_order_without_gaps_and_unexpired(self) -> None:
        for time_ms in (self.time_ms, self.time_ms + 5):
            expected = dict(self.next_nonce)
            priorities: dict[bytes, int] = {}
            for item in self.room.reap(time_ms=time_ms, bytes_max=10_000, count_max=100):
                assert item.body.sender is not None
                assert item.body.nonce == expected[item.body.sender]
                assert item.body.valid_until_ms >= time_ms
                expected[item.body.sender] += 1
                priorities[item.id] = item.body.fee
            ready = [entry for entry in self.room.ready_heads() if entry.transaction.body.valid_until_ms >= time_ms]
            assert len(priorities) >= len(ready), "everybody whose turn it is stands in a large block"
            if ready:
                assert next(iter(priorities.values())) == max(entry.priority for entry in ready)

    @invariant()
    def stale_marks_are_bounded(self) -> None:
        most = 2 * LIMITS.transactions_max + SPARE_MARKS_MAX + LIMITS.transactions_max
        assert len(self.room._clearing) <= most
        assert len(self.room._expiry) <= most
        assert len(self.room._crowding) <= most

    @invariant()
    def the_largest_sender_is_known(self) -> None:
        shares = [self.room._share(len(queue.by_nonce), queue.bytes) for queue in self.room._queues.values()]
        mark = self.room._most_crowding()
        assert (mark is None) == (not shares)
        assert mark is None or -mark[0] == max(shares)


TestRooms = Rooms.TestCase
TestRooms.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)


def test_marks_stay_bounded_however_often_one_transaction_comes_and_goes() -> None:
    room, item = WaitingRoom(LIMITS), signed(1, 0)
    for sequence in range(3 * SPARE_MARKS_MAX):
        entry = Entry(transaction=item, sender=account(1), priority=1, sequence=sequence, checked=1, source=None)
        room.add(entry, 0)
        room.remove(entry)
    assert len(room._clearing) <= SPARE_MARKS_MAX + 4
    assert len(room._expiry) <= SPARE_MARKS_MAX + 4


def test_what_is_recent_is_bounded_and_the_oldest_goes_first() -> None:
    recent: Recent[int] = Recent(2)
    for number in (1, 2, 1, 3):
        recent.put(bytes([number]), number)
    assert (recent.get(b"\x01"), recent.get(b"\x02"), recent.get(b"\x03")) == (1, None, 3)
    assert recent.pop(b"\x01") == 1
    assert len(recent) == 1


def test_verified_bodies_are_bounded_by_bytes() -> None:
    first, second, huge = signed(1, 0), signed(2, 0), signed(3, 0, padding=1_000)
    bodies = VerifiedBodies(InlineVerifier(), len(first.raw) + len(second.raw) - 1)
    for body in (first, second, second, huge):
        bodies.put(body)
    assert bodies.get(first.id) is None
    assert bodies.get(huge.id) is None
    assert bodies.pop(second.id) is second
    assert bodies.pop(second.id) is None


def test_a_reader_of_arrivals_goes_on_where_it_left_off() -> None:
    log = ArrivalLog(4)
    for number in range(3):
        log.append(bytes([number]))
    ids, place = log.since(0, 2)
    assert (ids, place) == ([b"\x00", b"\x01"], 2)
    for number in range(3, 8):
        log.append(bytes([number]))
    ids, place = log.since(place, 100)
    assert (ids, place) == ([b"\x04", b"\x05", b"\x06", b"\x07"], 8), "what was forgotten is passed over"
    assert log.since(place, 5) == ([], 8)


def test_an_entry_that_was_parked_and_is_ready_again_makes_room_only_once() -> None:
    """Found by the random rooms above: its mark stands twice in the clearing order."""
    low = [signed(1, 0, fee=1), signed(1, 1, fee=1), signed(2, 0, fee=2)]
    large = signed(3, 0, fee=9, padding=len(low[0].raw) + 10)
    room = WaitingRoom(MempoolLimits(bytes_max=sum(len(item.raw) for item in low)))
    sequence = iter(range(100))

    def add(item: Transaction) -> list[Entry]:
        sender = item.body.sender
        assert sender is not None
        entry = Entry(
            transaction=item,
            sender=sender,
            priority=item.body.fee,
            sequence=next(sequence),
            checked=1,
            source=None,
        )
        return room.add(entry, 0)

    for item in low:
        add(item)
    room.remove(room.entries[low[0].id])
    add(low[0])
    assert {entry.transaction.id for entry in add(large)} == {item.id for item in low}
    assert list(room.entries) == [large.id]
