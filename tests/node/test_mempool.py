"""Promises of the mempool: what it takes, what it refuses and why, what it gives to a block."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from consensus.application import Inadmissible
from consensus.codec import BadMessage, encode
from consensus.params import DAY_MS, TINY
from consensus.signing import public_key
from consensus.transaction import NONCE_AHEAD_MAX, Body, Message, Transaction
from node.mempool import Mempool, MempoolLimits
from node.mempool_turns import BURST, PER_SECOND, WAITING_MAX
from node.verifier import InlineVerifier, Item
from tests.node.fake_town import (
    CHAIN_ID,
    MINUTE_MS,
    TIME_MS,
    Balances,
    FakeTown,
    account,
    anonymous,
    chain_at,
    seed_of,
    signed,
)

PEER = bytes(32)


class CountingVerifier(InlineVerifier):
    """Verifies really, counts, and can be held up."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.gate: trio.Event | None = None

    async def verify(self, items: Sequence[Item], *, urgent: bool = False) -> list[bool]:
        self.batches.append(len(items))
        if self.gate is not None and not urgent:
            await self.gate.wait()
        return await super().verify(items, urgent=urgent)


class Pool(Mempool):
    """A mempool with its surroundings at hand."""

    def __init__(self, limits: MempoolLimits | None = None, state: Balances | None = None) -> None:
        self.app = FakeTown()
        self.verifier = CountingVerifier()
        self.time_ms = TIME_MS
        self.height = 1
        super().__init__(self.app, self.verifier, limits or MempoolLimits(), lambda: self.time_ms)
        self.set_chain(state or Balances(), chain_at(self.height, time_ms=TIME_MS - 1_000))

    async def take(self, *transactions: Transaction, source: bytes | None = None) -> list[str]:
        """The codes that submitting *transactions* gives."""
        outcomes = await self.submit([transaction.raw for transaction in transactions], source=source)
        return [outcome.code for outcome in outcomes]

    def next_state(self, state: Balances, *committed: Transaction) -> None:
        """A block with *committed* was decided, and *state* follows."""
        self.height += 1
        self.committed([transaction.id for transaction in committed])
        self.set_chain(state, chain_at(self.height, time_ms=self.time_ms))

    def block(self, *, time_ms: int | None = None, bytes_max: int = 2**20, count_max: int = 100) -> list[Transaction]:
        """What a block would hold."""
        return list(self.reap(time_ms=time_ms or self.time_ms, bytes_max=bytes_max, count_max=count_max))


async def test_an_admissible_transaction_waits_for_a_block() -> None:
    pool, transaction = Pool(), signed(1, 0)
    assert await pool.take(transaction) == [""]
    assert (pool.count, pool.bytes) == (1, len(transaction.raw))
    assert pool.get(transaction.id) is not None
    assert [item.id for item in pool.block()] == [transaction.id]
    assert [item.id for item in pool.waiting(5)] == [transaction.id]
    assert pool.why(transaction.id).text == "waits for a block"


async def test_the_signatures_of_a_batch_are_verified_in_one_call() -> None:
    pool = Pool()
    assert await pool.take(*(signed(number, 0) for number in range(1, 51))) == [""] * 50
    assert pool.verifier.batches == [50]


FAR_MS = TIME_MS + DAY_MS + MINUTE_MS


@pytest.mark.parametrize(
    ("transaction", "code"),
    [
        (signed(1, 2), "tx.nonce_used"),
        (signed(1, 3 + NONCE_AHEAD_MAX + 1), "tx.nonce_too_far"),
        (signed(1, 3, valid_until_ms=TIME_MS - 1), "tx.expired"),
        (signed(1, 3, valid_until_ms=FAR_MS), "tx.valid_too_long"),
        (signed(1, 3, chain_id="another-chain"), "tx.wrong_chain"),
        (signed(1, 3, padding=TINY.transaction_bytes_max), "tx.too_large"),
        (signed(1, 3, fee=2**40), "tx.unpayable"),
        (signed(1, 3, message="explode"), "tx.fault"),
    ],
)
async def test_what_can_not_stand_in_a_block_is_refused_before_any_signature(
    transaction: Transaction, code: str
) -> None:
    pool = Pool(state=Balances(nonces={account(1): 3}))
    assert await pool.take(transaction) == [code]
    assert pool.verifier.batches == []
    assert pool.count == 0
    assert pool.counters.refused == {code: 1}


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "bad_message.malformed"),
        (b"\xff" * 100, "bad_message.trailing_bytes"),
        (encode(("not", "ten")), "bad_message.malformed"),
        (signed(1, 0).raw + b"\x00", "bad_message.trailing_bytes"),
        (signed(1, 0).raw.replace(encode(TIME_MS + MINUTE_MS), encode(-1)), "bad_message.out_of_range"),
        (b"\x91" * 60 + b"\xc0", "bad_message.too_deep"),
        (b"\xdc\x00\x0a" + signed(1, 0).raw[1:], "bad_message.not_canonical"),
    ],
)
async def test_bytes_that_are_no_transaction_are_refused_with_the_codecs_code(raw: bytes, code: str) -> None:
    pool = Pool()
    (outcome,) = await pool.submit([raw], source=None)
    assert (outcome.id, outcome.code) == (None, code)
    assert outcome.text


def with_bad_signature(transaction: Transaction) -> Transaction:
    return Transaction.decode(transaction.raw[:-1] + bytes([transaction.raw[-1] ^ 1]))


async def test_a_bad_signature_is_refused_and_never_verified_again() -> None:
    pool, forged = Pool(), with_bad_signature(signed(1, 0))
    assert await pool.take(forged, signed(2, 0)) == ["tx.bad_signature", ""]
    assert await pool.take(forged) == ["tx.bad_signature"]
    assert pool.verifier.batches == [2]
    assert pool.knows(forged.id)
    assert pool.why(forged.id).code == "tx.bad_signature"


async def test_all_signatures_of_several_signers_must_hold() -> None:
    seeds = sorted((seed_of(1), seed_of(2), seed_of(3)), key=public_key)
    body = Body(
        chain_id=CHAIN_ID,
        sender=account(1),
        nonce=0,
        valid_until_ms=TIME_MS + 5,
        fee=1,
        fee_payer=None,
        messages=(Message("coin", "send", ()),),
        signers=tuple(public_key(seed) for seed in seeds),
    )
    pool, good = Pool(), body.signed(*seeds)
    assert await pool.take(with_bad_signature(good), good, signed(2, 0)) == ["tx.bad_signature", "", ""]


async def test_the_same_bytes_again_are_accepted_once() -> None:
    pool, transaction = Pool(), signed(1, 0)
    assert await pool.take(transaction, transaction) == ["", ""]
    assert await pool.take(transaction, source=PEER) == [""]
    assert pool.count == 1
    assert pool.verifier.batches == [1]
    assert pool.counters.duplicates == 2
    assert pool.counters.duplicate_bytes == 2 * len(transaction.raw)


async def test_the_same_bytes_from_two_sides_at_once_are_verified_once() -> None:
    pool, transaction = Pool(), signed(1, 0)
    pool.verifier.gate = trio.Event()
    answers: list[str] = []

    async def bring() -> None:
        answers.extend(await pool.take(transaction))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(bring)
        nursery.start_soon(bring)
        await trio.testing.wait_all_tasks_blocked()
        assert pool.knows(transaction.id)
        assert pool.why(transaction.id).text == "is being verified"
        pool.verifier.gate.set()
    assert answers == ["", ""]
    assert pool.verifier.batches == [1]


async def test_a_client_that_leaves_does_not_take_the_transaction_of_another_along() -> None:
    pool, transaction = Pool(), signed(1, 0)
    pool.verifier.gate = trio.Event()
    answers: list[str] = []
    first = trio.CancelScope()

    async def leave() -> None:
        with first:
            await pool.take(transaction)

    async def stay() -> None:
        answers.extend(await pool.take(transaction))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(leave)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(stay)
        await trio.testing.wait_all_tasks_blocked()
        first.cancel()
        pool.verifier.gate.set()
    assert answers == [""]
    assert pool.count == 1


async def test_a_committed_transaction_is_known_as_such() -> None:
    pool, transaction = Pool(), signed(1, 0)
    await pool.take(transaction)
    pool.next_state(Balances(nonces={account(1): 1}), transaction)
    assert pool.count == 0
    assert await pool.take(transaction) == ["tx.committed"]
    assert pool.why(transaction.id).code == "tx.committed"
    assert pool.counters.committed == 1


async def test_a_transaction_that_is_committed_while_it_is_verified_does_not_come_back() -> None:
    pool, transaction = Pool(), signed(1, 0)
    pool.verifier.gate = trio.Event()
    answers: list[str] = []

    async def bring() -> None:
        answers.extend(await pool.take(transaction))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(bring)
        await trio.testing.wait_all_tasks_blocked()
        pool.next_state(Balances(nonces={account(1): 1}), transaction)
        pool.verifier.gate.set()
    assert answers == ["tx.committed"]
    assert pool.count == 0


async def test_a_state_that_came_during_verification_has_the_last_word() -> None:
    pool, transaction = Pool(), signed(1, 0)
    pool.verifier.gate = trio.Event()
    answers: list[str] = []

    async def bring() -> None:
        answers.extend(await pool.take(transaction))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(bring)
        await trio.testing.wait_all_tasks_blocked()
        pool.next_state(Balances(balances={account(1): 9}))
        pool.verifier.gate.set()
    assert answers == ["tx.unpayable"]


async def test_a_nonce_ahead_is_parked_until_the_gap_is_filled() -> None:
    pool = Pool()
    late, early = signed(1, 1), signed(1, 0)
    assert await pool.take(late) == [""]
    assert pool.block() == []
    assert pool.why(late.id).text == "waits for an earlier nonce"
    assert await pool.take(early) == [""]
    assert [item.body.nonce for item in pool.block()] == [0, 1]


async def test_a_gap_that_others_filled_unseen_is_noticed() -> None:
    pool, parked = Pool(), signed(1, 1)
    await pool.take(parked)
    pool.next_state(Balances(nonces={account(1): 1}), signed(1, 0))
    assert pool.block() == [pool.get(parked.id)]


async def test_a_used_nonce_leaves_with_a_reason() -> None:
    pool, mine, other = Pool(), signed(1, 0), signed(1, 0, fee=99)
    await pool.take(mine)
    await pool.bodies.admit([other.raw])
    pool.next_state(Balances(nonces={account(1): 1}), other)
    assert pool.count == 0
    assert pool.why(mine.id).code == "tx.nonce_used"
    assert other.id.hex() in pool.why(mine.id).text


async def test_priority_decides_between_senders_and_nonces_within() -> None:
    pool = Pool()
    await pool.take(
        signed(1, 0, fee=5), signed(1, 1, fee=500), signed(2, 0, fee=50), signed(2, 1, fee=1), signed(3, 0, fee=5)
    )
    assert [(item.body.sender, item.body.nonce) for item in pool.block()] == [
        (account(2), 0),
        (account(1), 0),
        (account(1), 1),
        (account(3), 0),
        (account(2), 1),
    ]


async def test_a_block_is_filled_within_its_bounds() -> None:
    pool = Pool()
    large = signed(1, 0, fee=100, padding=5_000)
    await pool.take(large, signed(1, 1), signed(2, 0), signed(3, 0))
    assert len(pool.block(count_max=2)) == 2
    assert [item.body.sender for item in pool.block(bytes_max=2_000)] == [account(2), account(3)]


async def test_what_leaves_during_a_reap_takes_the_rest_of_its_sender_along() -> None:
    pool = Pool()
    await pool.take(signed(1, 0, fee=100), signed(1, 1), signed(1, 2), signed(2, 0))
    reaped = []
    for item in pool.reap(time_ms=TIME_MS, bytes_max=2**20, count_max=100):
        reaped.append((item.body.sender, item.body.nonce))
        if item.body.sender == account(1):
            pool.drop(item.id, "tx.unpayable", "the account is empty")
    assert reaped == [(account(1), 0), (account(2), 0)]
    assert pool.count == 3


async def test_an_expired_transaction_is_not_reaped_and_leaves() -> None:
    pool = Pool()
    short, long = signed(1, 0, valid_until_ms=TIME_MS + 10), signed(2, 0)
    await pool.take(short, signed(1, 1), long)
    assert len(pool.block(time_ms=TIME_MS + 10)) == 3
    assert [item.id for item in pool.block(time_ms=TIME_MS + 11)] == [long.id]
    pool.time_ms += 11
    pool.next_state(Balances())
    assert pool.why(short.id).code == "tx.expired"
    assert pool.count == 2
    assert pool.counters.expired == 1


async def test_expiry_goes_by_the_chain_when_the_own_clock_is_late() -> None:
    pool = Pool()
    await pool.take(signed(1, 0, valid_until_ms=TIME_MS + 10))
    pool.time_ms += 11
    chain = chain_at(2, time_ms=pool.time_ms)
    pool.time_ms -= 60_000
    pool.set_chain(Balances(), chain)
    assert pool.count == 0


async def test_a_tenth_more_fee_replaces_a_waiting_transaction() -> None:
    pool, first = Pool(), signed(1, 0, fee=100)
    await pool.take(first)
    assert await pool.take(signed(1, 0, fee=109)) == ["tx.underpriced_replacement"]
    better = signed(1, 0, fee=110)
    assert await pool.take(better) == [""]
    assert [item.id for item in pool.block()] == [better.id]
    assert pool.why(first.id).code == "tx.displaced"
    assert pool.count == 1


async def test_a_free_transaction_is_replaced_by_any_fee_but_not_by_none() -> None:
    pool = Pool()
    await pool.take(signed(1, 0, fee=0))
    assert await pool.take(signed(1, 0, fee=0, message="other")) == ["tx.underpriced_replacement"]
    assert await pool.take(signed(1, 0, fee=1)) == [""]


async def test_a_replaced_head_does_not_park_its_followers() -> None:
    pool = Pool()
    await pool.take(signed(1, 0, fee=10), signed(1, 1), signed(1, 2))
    await pool.take(signed(1, 0, fee=20))
    assert [item.body.nonce for item in pool.block()] == [0, 1, 2]


async def test_a_full_pool_takes_a_higher_priority_for_the_lowest() -> None:
    pool = Pool(MempoolLimits(transactions_max=3))
    low = signed(1, 0, fee=5)
    await pool.take(low, signed(2, 0, fee=7), signed(3, 0, fee=9))
    assert await pool.take(signed(4, 0, fee=5)) == ["tx.pool_full"]
    assert await pool.take(signed(4, 0, fee=6)) == [""]
    assert pool.why(low.id).code == "tx.displaced"
    assert pool.count == 3


async def test_a_full_pool_gives_up_what_is_parked_first() -> None:
    pool = Pool(MempoolLimits(transactions_max=2))
    parked = signed(1, 5, fee=1_000)
    await pool.take(parked, signed(2, 0, fee=5))
    assert await pool.take(signed(3, 0, fee=1)) == [""]
    assert pool.get(parked.id) is None
    assert await pool.take(signed(4, 9, fee=1_000)) == ["tx.pool_full"]


async def test_a_sender_that_fills_the_pool_gives_its_tail_to_others_whatever_it_pays() -> None:
    pool = Pool(MempoolLimits(transactions_max=12))
    rich = [signed(1, nonce, fee=1_000) for nonce in range(10)]
    await pool.take(*rich, signed(2, 0, fee=1_000), signed(3, 0, fee=1_000))
    poor = [signed(number, nonce, fee=1) for number in (4, 5) for nonce in (0, 1)]
    assert [await pool.take(item) for item in poor] == [[""]] * 4
    assert [pool.get(item.id) is not None for item in rich] == [True] * 6 + [False] * 4, "the last nonces went"
    assert pool.why(rich[-1].id).code == "tx.displaced"
    assert pool.count == 12
    assert await pool.take(signed(6, 0, fee=0)) == [""]
    assert await pool.take(signed(1, 5, fee=2_000)) == [""], "its own order is whole: the tail can come again"


async def test_shares_end_where_all_have_the_same() -> None:
    pool = Pool(MempoolLimits(transactions_max=6))
    await pool.take(*[signed(number, nonce, fee=9) for number in (1, 2, 3) for nonce in (0, 1)])
    assert await pool.take(signed(4, 0, fee=1)) == [""], "one against two"
    assert await pool.take(signed(4, 1, fee=1)) == ["tx.pool_full"], "two against two is no reason"
    assert await pool.take(signed(5, 3, fee=1)) == ["tx.pool_full"], "what can't stand in a block yet takes no place"


async def test_a_thousand_transactions_of_one_sender_keep_nobody_out() -> None:
    pool = Pool(MempoolLimits(transactions_max=100))
    await pool.take(*[signed(1, nonce, fee=10**6) for nonce in range(64)])
    await pool.take(*[signed(2, nonce, fee=10**6) for nonce in range(64)])
    assert pool.count == 100
    newcomers = [signed(number, 0, fee=1) for number in range(10, 40)]
    assert await pool.take(*newcomers) == [""] * 30
    assert all(pool.get(item.id) is not None for item in newcomers)


async def test_a_sender_has_a_share_of_the_bytes_too() -> None:
    pool = Pool(MempoolLimits(per_sender_bytes_max=2_000))
    assert await pool.take(signed(1, 0, padding=1_000), signed(1, 1, padding=1_000)) == ["", "tx.sender_full"]
    assert await pool.take(signed(1, 0, fee=20, padding=1_500)) == [""], "a replacement counts for what it replaces"


async def test_a_replacement_leaves_the_other_transactions_of_its_sender_as_they_were() -> None:
    pool = Pool()
    await pool.take(*[signed(1, nonce, fee=10) for nonce in range(5)])
    better = signed(1, 2, fee=11)
    assert await pool.take(better) == [""]
    assert [item.body.nonce for item in pool.block()] == [0, 1, 2, 3, 4]
    assert pool.block()[2].id == better.id
    assert pool.counters.displaced == 1


async def test_a_pool_is_bounded_in_bytes_and_makes_room_all_or_nothing() -> None:
    small = [signed(number, 0, fee=number) for number in (1, 2, 3)]
    pool = Pool(MempoolLimits(bytes_max=sum(len(item.raw) for item in small)))
    await pool.take(*small)
    assert await pool.take(signed(4, 0, fee=3, padding=400)) == ["tx.pool_full"]
    assert pool.count == 3
    assert await pool.take(signed(4, 0, fee=9, padding=100)) == [""]
    assert [item.body.sender for item in pool.block()] == [account(4), account(3)]


async def test_a_sender_has_a_share_and_its_earlier_nonces_count_more() -> None:
    pool = Pool(MempoolLimits(per_sender_max=2))
    last = signed(1, 2)
    assert await pool.take(signed(1, 1), last) == ["", ""]
    assert await pool.take(signed(1, 3)) == ["tx.sender_full"]
    assert await pool.take(signed(1, 0)) == [""]
    assert pool.get(last.id) is None
    assert [item.body.nonce for item in pool.block()] == [0, 1]


async def test_what_no_machine_may_execute_again_stays_out() -> None:
    pool, transaction = Pool(), signed(1, 0)
    await pool.take(transaction)
    pool.drop(transaction.id, "tx.undecidable", "it needs too much memory")
    assert pool.count == 0
    assert await pool.take(transaction) == ["tx.undecidable"]


async def test_what_was_dropped_for_now_may_come_again() -> None:
    pool, transaction = Pool(), signed(1, 0)
    await pool.take(transaction)
    pool.drop(transaction.id, "tx.unpayable", "the account is empty")
    assert pool.why(transaction.id).code == "tx.unpayable"
    assert await pool.take(transaction) == [""]
    assert pool.why(transaction.id).code == ""


async def test_an_unknown_id_is_called_so() -> None:
    assert Pool().why(bytes(32)).code == "tx.unknown"


async def test_anonymous_transactions_wait_each_for_itself() -> None:
    pool, ballots = Pool(), [anonymous("ballot-1"), anonymous("ballot-2")]
    assert await pool.take(*ballots) == ["", ""]
    assert {item.id for item in pool.block()} == {ballot.id for ballot in ballots}
    pool.next_state(Balances(), ballots[0])
    assert pool.count == 1


class TestAnonymous:
    """What has no sender pays nothing, and its check may be dear: it waits apart from all else."""

    def checks(self, pool: Pool) -> int:
        """How often the application has been asked."""
        return pool.app.admissions

    async def test_a_flood_of_them_costs_a_bounded_number_of_checks_a_second(
        self, autojump_clock: trio.testing.MockClock
    ) -> None:
        pool = Pool()
        flood = [anonymous(f"ballot-{number}") for number in range(500)]

        async def bring(start: int) -> None:
            while True:
                await pool.submit([item.raw for item in flood[start : start + 50]], source=bytes([start // 50]) * 32)
                await trio.sleep(0.01)

        with trio.move_on_after(5):
            async with trio.open_nursery() as nursery:
                for start in range(0, 500, 50):
                    nursery.start_soon(bring, start)
        assert self.checks(pool) <= BURST + 5 * PER_SECOND + 1

    async def test_they_hold_up_neither_others_nor_those_of_another_peer(
        self, autojump_clock: trio.testing.MockClock
    ) -> None:
        pool = Pool()
        async with trio.open_nursery() as nursery:
            for number in range(200):
                nursery.start_soon(partial(pool.submit, [anonymous(f"crowd-{number}").raw], source=PEER))
            await trio.testing.wait_all_tasks_blocked(0.001)
            assert pool._anonymous.waiting <= WAITING_MAX
            began = trio.current_time()
            assert await pool.take(signed(1, 0), source=PEER) == [""]
            assert trio.current_time() == began, "what has a sender waits for nothing"
            assert await pool.take(anonymous("one-of-another"), source=bytes([9]) * 32) == [""]
            assert trio.current_time() - began < 3 / PER_SECOND
        assert pool.counters.refused["tx.anonymous_busy"] > 100

    async def test_one_that_came_from_elsewhere_meanwhile_is_checked_once(
        self, autojump_clock: trio.testing.MockClock
    ) -> None:
        pool, ballot = Pool(), anonymous("ballot")
        codes: list[str] = []

        async def bring(source: bytes) -> None:
            codes.extend(await pool.take(ballot, source=source))

        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(bring, bytes([number]) * 32)
        assert codes == [""] * 5
        assert (self.checks(pool), pool.count, pool.counters.duplicates) == (1, 1, 4)

    async def test_who_gives_up_waiting_leaves_the_turn_to_the_next(
        self, autojump_clock: trio.testing.MockClock
    ) -> None:
        pool = Pool()
        await pool.take(*[anonymous(f"first-{number}") for number in range(WAITING_MAX)])
        with trio.move_on_after(0.01):
            await pool.take(*[anonymous(f"gone-{number}") for number in range(100)], source=PEER)
        assert await pool.take(anonymous("last")) == [""]
        assert pool._anonymous.waiting == 0


async def test_who_pays_for_others_has_a_share_too() -> None:
    pool = Pool(MempoolLimits(per_payer_max=3))
    paid = [signed(number, 0, payer=50) for number in (1, 2, 3)]
    assert await pool.take(*paid) == [""] * 3
    assert await pool.take(signed(4, 0, payer=50)) == ["tx.payer_full"]
    assert await pool.take(signed(4, 0, payer=51), signed(50, 0)) == ["", ""]
    assert await pool.take(signed(1, 0, fee=20, payer=50)) == [""], "a replacement takes no further place"
    pool.next_state(Balances({account(2): 1}), paid[1])
    assert await pool.take(signed(5, 0, payer=50)) == [""]


class TestWaitForWork:
    """When an idle chain learns that there is something to do."""

    async def waits(self, pool: Pool) -> bool:
        """Whether there is no work now."""
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pool.wait_for_work)
                await trio.testing.wait_all_tasks_blocked()
                if not nursery.child_tasks:
                    return False
                scope.cancel()
        return True

    async def test_an_executable_transaction_is_work_at_once(self) -> None:
        pool = Pool()
        assert await self.waits(pool)
        await pool.take(signed(1, 0))
        assert not await self.waits(pool)

    async def test_parked_and_expired_transactions_are_no_work(self) -> None:
        pool = Pool()
        await pool.take(signed(1, 1), signed(2, 0, valid_until_ms=TIME_MS + 5))
        assert not await self.waits(pool)
        pool.time_ms += 6
        assert await self.waits(pool)

    async def test_who_waits_is_woken_by_an_arrival(self) -> None:
        pool = Pool()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pool.wait_for_work)
            await trio.testing.wait_all_tasks_blocked()
            await pool.take(signed(1, 0))

    async def test_what_the_latest_state_forbids_is_no_work_and_leaves(self) -> None:
        pool, poor = Pool(), signed(1, 0, fee=50)
        await pool.take(poor, signed(1, 1, fee=50))
        pool.next_state(Balances(balances={account(1): 10}))
        assert await self.waits(pool)
        assert pool.why(poor.id).code == "tx.unpayable"

    async def test_after_a_block_only_as_much_is_checked_again_as_is_needed(self) -> None:
        pool = Pool()
        await pool.take(*(signed(number, 0) for number in range(1, 200)))
        before = pool.app.admissions
        pool.next_state(Balances(nonces={account(1): 1}), signed(1, 0))
        assert not await self.waits(pool)
        assert pool.app.admissions == before + 1


class TestBodies:
    """Bodies of proposed blocks."""

    async def test_what_the_pool_has_is_not_verified_again(self) -> None:
        pool = Pool()
        known, fresh = signed(1, 0), signed(2, 0)
        await pool.take(known)
        bodies = await pool.bodies.admit([known.raw, fresh.raw])
        assert [body.id for body in bodies] == [known.id, fresh.id]
        assert bodies[0] is pool.get(known.id)
        assert await pool.bodies.admit([fresh.raw]) == [bodies[1]]
        assert pool.verifier.batches == [1, 1]
        assert pool.count == 1, "a body does not enter the pool"

    async def test_a_block_does_not_wait_behind_the_pool(self) -> None:
        pool = Pool()
        pool.verifier.gate = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pool.take, signed(1, 0))
            await trio.testing.wait_all_tasks_blocked()
            assert len(await pool.bodies.admit([signed(2, 0).raw])) == 1
            nursery.cancel_scope.cancel()

    async def test_a_body_that_comes_again_by_gossip_is_not_verified_again(self) -> None:
        pool, body = Pool(), signed(2, 0)
        await pool.bodies.admit([body.raw])
        assert await pool.take(body, signed(3, 0)) == ["", ""]
        assert pool.verifier.batches == [1, 1]
        assert pool.count == 2

    async def test_bodies_are_found_wherever_this_node_has_them(self) -> None:
        pool, kept, waiting, unknown = Pool(), signed(1, 0), signed(2, 0), signed(3, 0)
        pending, lie = signed(4, 0), with_bad_signature(signed(5, 0))
        await pool.bodies.admit([kept.raw])
        await pool.take(waiting)
        pool.verifier.gate = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pool.take, pending, lie)
            await trio.testing.wait_all_tasks_blocked()
            found = await pool.bodies.find([item.id for item in (lie, kept, waiting, unknown, pending)])
            assert [item and item.id for item in found] == [None, kept.id, waiting.id, None, pending.id]
            assert pool.count == 1
            assert [item.id for item in await pool.bodies.admit([pending.raw])] == [pending.id]
            pool.verifier.gate.set()
        assert pool.verifier.batches == [1, 1, 2, 2], "what a block needs at once is not asked a third time"
        assert pool.count == 2

    async def test_a_body_that_the_pool_would_refuse_is_still_a_body(self) -> None:
        pool = Pool(MempoolLimits(transactions_max=1))
        await pool.take(signed(1, 0))
        assert len(await pool.bodies.admit([signed(2, 30, fee=0, valid_until_ms=5).raw])) == 1

    @pytest.mark.parametrize(
        ("transaction", "code"),
        [
            (with_bad_signature(signed(1, 0)), "tx.bad_signature"),
            (signed(1, 0, chain_id="another"), "tx.wrong_chain"),
        ],
    )
    async def test_an_inadmissible_body_is_named(self, transaction: Transaction, code: str) -> None:
        with pytest.raises(Inadmissible, match=transaction.id.hex()) as caught:
            await Pool().bodies.admit([signed(2, 0).raw, transaction.raw])
        assert caught.value.code == code

    async def test_a_malformed_body_is_named(self) -> None:
        with pytest.raises(BadMessage, match="e3b0c442"):
            await Pool().bodies.admit([b""])


def test_the_codes_of_refusals_never_change() -> None:
    found = set()
    for name in ("mempool", "mempool_room", "mempool_gate", "mempool_memory", "mempool_turns"):
        source = (Path(__file__).parent.parent.parent / "node" / f"{name}.py").read_text()
        found |= set(re.findall(r'"(tx\.[a-z_]+)"', source))
    assert found == {
        "tx.anonymous_busy",
        "tx.bad_signature",
        "tx.committed",
        "tx.displaced",
        "tx.expired",
        "tx.fault",
        "tx.nonce_too_far",
        "tx.nonce_used",
        "tx.payer_full",
        "tx.pool_full",
        "tx.sender_full",
        "tx.too_large",
        "tx.undecidable",
        "tx.underpriced_replacement",
        "tx.unknown",
        "tx.valid_too_long",
        "tx.wrong_chain",
    }
