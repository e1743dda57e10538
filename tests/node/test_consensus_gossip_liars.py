"""What a liar or a stranger says ends that peer at most, costs little, and is bounded."""

from __future__ import annotations

import dataclasses
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from consensus.block import Block, ModuleRoot
from consensus.chain import transactions_root
from consensus.codec import encode
from consensus.params import TRANSACTIONS_MAX
from consensus.shape import to_bytes
from consensus.signing import sha256
from consensus.vote import Vote, VoteKind
from node import peer_view, votes_ahead
from node.consensus_messages import (
    CHANNEL,
    BlockOnly,
    Bodies,
    ProposalWithBlock,
    Votes,
    to_wire,
)
from node.height import ROUNDS_AHEAD_MAX
from tests.node.bench import (
    PRECOMMIT,
    PREVOTE,
    Bench,
    address,
    first_proposer,
    resigned,
    settled,
    transaction,
    vote,
)

PROPOSER = first_proposer(0)
OTHERS = tuple(number for number in range(1, 4))


@pytest.fixture
async def bench(tmp_path: Path, autojump_clock: MockClock) -> AsyncIterator[Bench]:
    """A full node at height 1, which says nothing of its own."""
    async with Bench(tmp_path, own=None).running() as bench:
        yield bench


def _held(bench: Bench) -> int:
    tally = bench.driver.height.machine.tally
    return sum(len(tally.all_votes(round_, kind)) for round_ in tally.rounds() for kind in VoteKind)


async def _ends(bench: Bench, *messages: object) -> str:
    """The code with which a peer that says *messages* is ended; the node goes on."""
    link = bench.meets(66)
    link.peer.says(*messages)
    await settled()
    assert link.fault is not None
    good = bench.meets(67)
    await bench.decides(good)
    await good.leaves()
    return link.fault.code


async def test_garbage_ends_the_peer_and_nothing_else(bench: Bench, autojump_clock: MockClock) -> None:
    assert await _ends(bench, b"\xc1garbage") == "bad_message.malformed"
    assert await _ends(bench, encode((99, ()))) == "bad_message.unknown"
    assert await _ends(bench, encode((0, (1, 2)))) == "bad_message.malformed"
    assert await _ends(bench, encode((2, ((),)))) == "bad_message.out_of_range"


async def test_a_forged_vote_ends_the_peer(bench: Bench, autojump_clock: MockClock) -> None:
    good = vote(PREVOTE, 1, 0, None, 1)
    assert await _ends(bench, Votes((dataclasses.replace(good, round=1),))) == "bad_message.signature"


async def test_a_vote_of_a_stranger_ends_the_peer(bench: Bench, autojump_clock: MockClock) -> None:
    good = vote(PREVOTE, 1, 0, None, 1)
    assert await _ends(bench, Votes((dataclasses.replace(good, validator=bytes(20)),))) == "bad_message.stranger"


async def test_a_forged_late_precommit_ends_the_peer(bench: Bench, autojump_clock: MockClock) -> None:
    await bench.decides(bench.meets(1))
    late = Vote(kind=PRECOMMIT, height=1, round=0, block_id=None, validator=address(0), signature=bytes(64))
    assert await _ends(bench, Votes((late,))) == "bad_message.signature"


async def test_a_proposal_by_another_than_the_proposer_ends_the_peer(bench: Bench, autojump_clock: MockClock) -> None:
    executed = await bench.block()
    forged = resigned(bench.proposal(0, executed.block), (PROPOSER + 1) % 4)
    assert await _ends(bench, ProposalWithBlock(forged, executed.block)) == "bad_message.signature"


async def test_a_proposal_with_another_block_ends_the_peer(bench: Bench, autojump_clock: MockClock) -> None:
    one, other = await bench.block(), await bench.block(transaction(0))
    assert await _ends(bench, ProposalWithBlock(bench.proposal(0, one.block), other.block)) == "bad_message.proposal"


async def test_a_block_with_parts_of_another_ends_the_peer_and_leaves_the_block_acceptable(
    bench: Bench, autojump_clock: MockClock
) -> None:
    executed = await bench.block(transaction(0))
    proposal = bench.proposal(0, executed.block)
    for change in (
        {"transaction_ids": (bytes(32),)},
        {"module_roots": (ModuleRoot("å", bytes(32)),)},
        {"evidence": (b"",)},
    ):
        poisoned = dataclasses.replace(executed.block, **change)
        link = bench.meets(66)
        link.peer.says(ProposalWithBlock(proposal, poisoned))
        await settled()
        assert link.fault is not None
        assert link.fault.code == "bad_message.block"
    assert bench.driver.height.candidates == {}
    assert bench.driver.height.proposals == {}


async def test_more_bodies_than_any_block_holds_end_the_peer(bench: Bench, autojump_clock: MockClock) -> None:
    too_many = Bodies(1, bytes(32), (b"",) * (TRANSACTIONS_MAX + 1))
    assert await _ends(bench, too_many) == "bad_message.out_of_range"


async def test_large_bodies_that_nobody_asked_for_are_not_read(bench: Bench, autojump_clock: MockClock) -> None:
    link = bench.meets(66)
    await settled()
    flood = to_wire(Bodies(1, bytes(32), (bytes(50),) * TRANSACTIONS_MAX))
    for _ in range(20):
        link.peer.said[CHANNEL.id].append(flood)
    tracemalloc.start()
    try:
        link.peer.says()
        await settled()
        assert tracemalloc.get_traced_memory()[1] < len(flood) // 4
    finally:
        tracemalloc.stop()
    assert not link.peer.said[CHANNEL.id], "they were taken from the queue"
    assert link.fault is None, "an answer can be late"


async def test_others_have_their_turn_between_the_messages_of_a_flood(bench: Bench, autojump_clock: MockClock) -> None:
    link = bench.meets(66)
    await settled()
    turns = 0
    flood = [Bodies(1, bytes(32), (b"",)), BlockOnly((await bench.block()).block)] * 10
    link.peer.says(*flood)
    while link.peer.said[CHANNEL.id]:
        await trio.lowlevel.checkpoint()
        turns += 1
    assert turns >= len(flood)


async def test_bodies_of_another_block_end_the_peer(bench: Bench, autojump_clock: MockClock) -> None:
    executed = await bench.block(transaction(0))
    good = bench.meets(1)
    good.peer.says(ProposalWithBlock(bench.proposal(0, executed.block), executed.block))
    await settled()
    liar = bench.meets(66)
    liar.peer.says(Bodies(1, executed.id, (transaction(1),)))
    await settled()
    assert liar.fault is not None
    assert liar.fault.code == "bad_message.bodies"
    good.peer.says(Bodies(1, executed.id, (transaction(0),)), Bodies(1, bytes(32), (transaction(0),)))
    await trio.sleep(0.3)
    assert bench.driver.height.candidates[executed.id].executed is not None


async def test_a_block_with_a_body_that_is_no_transaction_is_invalid_and_who_sent_it_is_not_to_blame(
    bench: Bench,
    autojump_clock: MockClock,
) -> None:
    block = await _block_with_ids(bench, b"no transaction")
    link = bench.meets(1)
    link.peer.says(ProposalWithBlock(bench.proposal(0, block), block))
    await settled()
    link.peer.says(Bodies(1, block.id, (b"no transaction",)))
    await trio.sleep(0.3)
    refused = bench.driver.height.candidates[block.id].refused
    assert refused is not None
    assert refused.code == "block.inadmissible"
    assert link.fault is None


async def test_a_proposer_that_signs_ever_new_blocks_has_one_place_a_round(
    bench: Bench, autojump_clock: MockClock
) -> None:
    link = bench.meets(66)
    for number in range(40):
        block = (await bench.block(proposer=PROPOSER, time_ms=bench.now_ms() + 1_000 + number)).block
        link.peer.says(ProposalWithBlock(bench.proposal(0, block), block))
        await settled(3)
    height = bench.driver.height
    assert len(height.candidates) == len(height.proposals) == len(height.timely) == 1
    assert link.fault is None


async def test_a_block_of_an_earlier_round_can_be_decided_whatever_was_proposed_since(
    bench: Bench, autojump_clock: MockClock
) -> None:
    link = bench.meets(1)
    early = (await bench.block(proposer=PROPOSER)).block
    link.peer.says(ProposalWithBlock(bench.proposal(0, early), early))
    await trio.sleep(0.3)
    for round_ in range(1, ROUNDS_AHEAD_MAX):
        block = (await bench.block(time_ms=bench.now_ms() + 1_000 + round_)).block
        link.peer.says(ProposalWithBlock(bench.proposal(round_, block), block))
        await settled()
    link.peer.says(bench.votes(PRECOMMIT, ROUNDS_AHEAD_MAX, None, 1, 2))
    await trio.sleep(0.1)
    assert bench.driver.height.machine.round == ROUNDS_AHEAD_MAX
    link.peer.says(bench.votes(PRECOMMIT, 0, early.id, 1, 2, 3))
    with trio.fail_after(5):
        await bench.heights.wait_beyond(0)
    assert bench.store.header(1).id == early.id


async def test_proposals_of_far_rounds_wait_for_votes_to_bring_us_there(
    bench: Bench, autojump_clock: MockClock
) -> None:
    link = bench.meets(1)
    block = (await bench.block()).block
    link.peer.says(ProposalWithBlock(bench.proposal(ROUNDS_AHEAD_MAX + 5, block), block))
    await settled()
    assert bench.driver.height.proposals == {}


async def test_one_vote_said_many_times_at_once_is_verified_and_logged_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    verified = 0
    real = Vote.verify

    def counted(self: Vote, chain_id: str, public_key: bytes) -> bool:
        nonlocal verified
        verified += 1
        return real(self, chain_id, public_key)

    monkeypatch.setattr(Vote, "verify", counted)
    link = bench.meets(66)
    same = vote(PREVOTE, 1, 0, None, 1)
    for _ in range(5):
        link.peer.says(Votes((same,) * 100))
    await settled()
    assert verified == 1
    assert _held(bench) == 1


async def test_votes_for_ever_later_rounds_are_bounded_and_an_honest_one_is_heard_later(
    bench: Bench, autojump_clock: MockClock
) -> None:
    link = bench.meets(66)
    for start in range(10, 400, 10):
        link.peer.says(Votes(tuple(vote(PREVOTE, 1, start + more, None, 3) for more in range(10))))
    await settled()
    heard = bench.driver.height.machine.tally.rounds()
    assert max(heard) < 10 + votes_ahead.BURST
    await trio.sleep(10)
    link.peer.says(Votes((vote(PREVOTE, 1, 500, None, 3),)))
    await settled()
    assert max(bench.driver.height.machine.tally.rounds()) == 500


async def test_unverified_votes_leave_no_trace(bench: Bench, autojump_clock: MockClock) -> None:
    link = bench.meets(66)
    link.peer.says(bench.votes(PREVOTE, 0, None, 1), bench.votes(PREVOTE, 0, bytes(32), 1))
    await settled()
    random_ids = [bytes([number]) * 32 for number in range(1, 200)]
    forged = dataclasses.replace(vote(PREVOTE, 1, 0, None, 1), signature=bytes(64))
    for block_id in random_ids:  # a third vote of a liar is not wanted, so its signature is not looked at
        link.peer.says(Votes((dataclasses.replace(forged, block_id=block_id),)))
    await settled()
    assert link.fault is None
    assert len(bench.gossip.views[link.peer.id]._due) == 2


async def test_messages_for_the_next_height_are_kept_within_bounds(bench: Bench, autojump_clock: MockClock) -> None:
    link = bench.meets(66)
    ahead = Votes(tuple(vote(PREVOTE, 2, 0, None, number) for number in OTHERS) * 100)
    for _ in range(100):
        link.peer.says(ahead)
    await trio.sleep(0.01)
    view = bench.gossip.views[link.peer.id]
    assert 0 < view._later_bytes <= peer_view.LATER_BYTES_MAX
    assert len(view._later) <= peer_view.LATER_MESSAGES_MAX


async def test_stale_and_unasked_messages_mean_nothing(bench: Bench, autojump_clock: MockClock) -> None:
    link = bench.meets(1)
    block = await bench.decides(link)
    executed = await bench.block(transaction(0))
    old = bench.proposal(0, block, height=1)
    link.peer.says(
        ProposalWithBlock(old, block),
        BlockOnly(executed.block),
        Votes((vote(PREVOTE, 1, 0, None, 0), vote(PREVOTE, 7, 0, None, 0))),
        Bodies(1, block.id, ()),
    )
    await settled()
    assert link.fault is None
    assert bench.driver.height.candidates == {}


async def test_a_late_precommit_fills_the_commit_and_the_next_proposal_carries_it(
    bench: Bench, autojump_clock: MockClock
) -> None:
    link = bench.meets(1)
    block = await bench.decides(link)
    assert bench.driver.last_commit.commit is not None
    index = bench.driver.height.parent.last_validators.index_of(address(0))
    assert index is not None
    assert bench.driver.last_commit.commit.entries[index] is None
    link.peer.says(
        Votes((vote(PRECOMMIT, 1, 0, bytes(32), 0),)),  # for another block: an equivocation fills nothing
        Votes((vote(PRECOMMIT, 1, 3, block.id, 0),)),
        Votes((vote(PRECOMMIT, 1, 0, block.id, 0),)),
    )
    await settled()
    assert bench.driver.last_commit.commit.entries[index] is not None
    link.peer.says(Votes((vote(PRECOMMIT, 1, 0, None, 0),)))
    await bench.decides(link)
    last_commit = bench.store.block(2).last_commit
    assert last_commit is not None
    assert last_commit.entries[index] is not None


async def test_a_precommit_that_comes_while_the_block_is_being_stored_is_not_lost(
    bench: Bench, autojump_clock: MockClock
) -> None:
    link = bench.meets(1)
    executed = await bench.block()
    real = bench.store.commit
    index = bench.driver.height.parent.validators.index_of(address(0))
    assert index is not None

    async def slowly(decided: object) -> None:
        link.peer.says(Votes((vote(PRECOMMIT, 1, 0, executed.id, 0),)))
        await settled()
        await real(decided)  # type: ignore[arg-type]

    bench.store.commit = slowly  # type: ignore[method-assign]
    link.peer.says(bench.votes(PRECOMMIT, 0, executed.id, 1, 2, 3))
    await settled()
    link.peer.says(BlockOnly(executed.block))
    await bench.heights.wait_beyond(0)
    assert bench.driver.last_commit.commit is not None
    assert bench.driver.last_commit.commit.entries[index] is not None


async def test_the_largest_messages_fit_the_channel(bench: Bench, autojump_clock: MockClock) -> None:
    view = bench.gossip
    assert len(to_bytes((await bench.block()).block)) < 1_024
    assert view._status().votes


async def _block_with_ids(bench: Bench, *raws: bytes) -> Block:
    """A block whose header commits to the ids of *raws*, whatever they are."""
    good = (await bench.block()).block
    ids = tuple(sha256(raw) for raw in raws)
    header = dataclasses.replace(good.header, transactions_root=transactions_root(ids))
    return dataclasses.replace(good, header=header, transaction_ids=ids)
