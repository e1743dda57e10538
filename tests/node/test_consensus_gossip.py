"""Peers get what they lack, once, and what comes early or late still counts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from consensus.inputs import Step
from consensus.vote import VoteKind
from node import peer_view
from node.consensus_messages import (
    BODIES_BYTES_MAX,
    BlockOnly,
    Bodies,
    Held,
    ProposalWithBlock,
    Status,
    Votes,
    WantBlock,
    WantBodies,
)
from tests.node.bench import (
    PRECOMMIT,
    PREVOTE,
    Bench,
    address,
    first_proposer,
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


def _nothing(height: int, round_: int = 0, step: Step = Step.PROPOSE) -> Status:
    """The status of a peer that holds nothing of *height*."""
    return Status(height, round_, step, (), (), 0)


def _held(bench: Bench) -> int:
    tally = bench.driver.height.machine.tally
    return sum(len(tally.all_votes(round_, kind)) for round_ in tally.rounds() for kind in VoteKind)


# Supplying ---------------------------------------------------------------------------------------------------------


async def test_a_peer_that_lacks_votes_and_proposal_gets_them_and_not_at_once_again(
    bench: Bench, autojump_clock: MockClock
) -> None:
    source, other = bench.meets(1), bench.meets(2)
    executed = await bench.block(proposer=PROPOSER)
    source.peer.says(ProposalWithBlock(bench.proposal(0, executed.block), executed.block))
    source.peer.says(bench.votes(PREVOTE, 0, executed.id, 1, 2))
    await trio.sleep(0.3)
    other.peer.says(_nothing(1))
    await settled()
    other.peer.says(_nothing(1))
    await settled()
    assert [len(message.votes) for message in other.peer.told(Votes)] == [2]
    assert len(other.peer.told(ProposalWithBlock)) == 1
    await trio.sleep(peer_view.RESEND_S + 0.2)
    assert len(other.peer.told(ProposalWithBlock)) == 2, "it still lacks it"
    assert not source.peer.told(Votes), "it said nothing of what it lacks"


async def test_a_peer_that_shows_what_it_holds_gets_only_the_rest(bench: Bench, autojump_clock: MockClock) -> None:
    source, other = bench.meets(1), bench.meets(2)
    source.peer.says(bench.votes(PREVOTE, 0, None, 1, 2, 3))
    await trio.sleep(0.3)
    index = bench.driver.height.parent.validators.index_of(address(2))
    assert index is not None
    other.peer.says(Status(1, 0, Step.PREVOTE, (), (Held(0, PREVOTE, bytes([1 << index]), None),), 0))
    await settled()
    sent = {vote.validator for message in other.peer.told(Votes) for vote in message.votes}
    assert {address(1), address(3)} <= sent


async def test_who_holds_a_liars_other_vote_gets_the_one_of_the_quorum(bench: Bench, autojump_clock: MockClock) -> None:
    source, other = bench.meets(1), bench.meets(2)
    source.peer.says(bench.votes(PREVOTE, 0, bytes(32), 1, 2, 3), bench.votes(PREVOTE, 0, None, 1))
    await trio.sleep(0.3)
    other.peer.says(Status(1, 0, Step.PREVOTE, (), (Held(0, PREVOTE, b"\x0f", None),), 0))
    await settled()
    sent = {(v.validator, v.block_id) for message in other.peer.told(Votes) for v in message.votes}
    assert (address(1), bytes(32)) in sent


async def test_a_peer_that_has_forgotten_a_vote_that_it_sent_gets_it_back(
    bench: Bench, autojump_clock: MockClock
) -> None:
    """Later votes of the same maker displaced it while its round was to come."""
    link = bench.meets(1)
    link.peer.says(bench.votes(PRECOMMIT, 1, None, 2))
    await trio.sleep(0.3)
    link.peer.says(_nothing(1, 1))
    await settled()
    assert not link.peer.told(Votes)
    await trio.sleep(peer_view.HOLDS_S + 1)
    assert vote(PRECOMMIT, 1, 1, None, 2) in [vote for message in link.peer.told(Votes) for vote in message.votes]


async def test_statuses_show_rounds_votes_and_complete_proposals(bench: Bench, autojump_clock: MockClock) -> None:
    link = bench.meets(1)
    executed = await bench.block(proposer=PROPOSER)
    link.peer.says(ProposalWithBlock(bench.proposal(0, executed.block), executed.block))
    link.peer.says(bench.votes(PREVOTE, 0, executed.id, 1, 2, 3))
    await trio.sleep(1.2)
    status: Status = link.peer.told(Status)[-1]
    assert (status.height, status.round, status.proposals) == (1, 0, (0,))
    held = next(held for held in status.votes if (held.round, held.kind) == (0, PREVOTE))
    assert held.decided == executed.id
    assert held.mask[0].bit_count() == 3


async def test_a_block_is_given_with_its_proposal_or_alone_or_not_at_all(
    bench: Bench, autojump_clock: MockClock
) -> None:
    link = bench.meets(1)
    first, second = await bench.block(proposer=PROPOSER), await bench.block(transaction(0), proposer=PROPOSER)
    link.peer.says(ProposalWithBlock(bench.proposal(0, first.block), first.block))
    link.peer.says(bench.votes(PRECOMMIT, 0, second.id, 1, 2, 3))
    await settled()
    link.peer.says(BlockOnly(second.block))
    await settled()
    asker = bench.meets(2)
    asker.peer.says(WantBlock(1, first.id), WantBlock(1, second.id), WantBlock(1, bytes(32)))
    await settled()
    assert [message.block.id for message in asker.peer.told(ProposalWithBlock)] == [first.id]
    assert [message.block.id for message in asker.peer.told(BlockOnly)] == [second.id]


async def test_a_block_is_not_given_again_and_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """A question of some bytes would cost us a block of half a megabyte each time."""
    monkeypatch.setattr(peer_view, "ASKS_BURST_BYTES", 10 * peer_view.ASK_BYTES)
    link = bench.meets(1)
    block = (await bench.block(proposer=PROPOSER)).block
    link.peer.says(ProposalWithBlock(bench.proposal(0, block), block))
    await settled()
    asker = bench.meets(2)
    asker.peer.says(*[WantBlock(1, block.id)] * 100)
    await settled()
    assert len(asker.peer.told(ProposalWithBlock)) == 10


async def test_bodies_are_given_for_the_height_in_progress_and_the_last_as_many_as_fit(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    link = bench.meets(1)
    raws = [transaction(nonce) for nonce in range(3)]
    block = await bench.decides(link, *raws)
    asker = bench.meets(2)
    asker.peer.says(WantBodies(1, block.id, (0, 2, 9)), WantBodies(1, bytes(32), (0,)), WantBodies(7, block.id, (0,)))
    await settled()
    assert [message.transactions for message in asker.peer.told(Bodies)] == [(raws[0], raws[2])]
    monkeypatch.setattr("node.consensus_gossip.BODIES_BYTES_MAX", len(raws[0]) + 6)
    asker.peer.says(WantBodies(1, block.id, (0, 1, 2)))
    await settled()
    assert asker.peer.told(Bodies)[-1].transactions == (raws[0],)
    assert BODIES_BYTES_MAX <= 2**20


async def test_who_asks_for_bodies_without_end_gets_them_no_faster_than_any_honest_peer_needs(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    monkeypatch.setattr(peer_view, "ASKS_BURST_BYTES", 10 * peer_view.ASK_BYTES)
    link, asker = bench.meets(1), bench.meets(2)
    block = await bench.decides(link, *(transaction(nonce) for nonce in range(3)))
    asker.peer.says(*[WantBodies(1, block.id, (0, 1, 2))] * 100)
    await settled()
    assert len(asker.peer.told(Bodies)) == 10
    await trio.sleep(peer_view.ASK_BYTES / peer_view.ASKS_BYTES_PER_S)
    asker.peer.says(WantBodies(1, block.id, (0, 1, 2)))
    await settled()
    assert len(asker.peer.told(Bodies)) == 11, "later there is more"


async def test_the_same_body_is_not_asked_for_twice_at_once(bench: Bench, autojump_clock: MockClock) -> None:
    link, asker = bench.meets(1), bench.meets(2)
    block = await bench.decides(link, transaction(0))
    asker.peer.says(WantBodies(1, block.id, (0,) * 1_000))
    await settled()
    assert not asker.peer.told(Bodies)
    assert asker.fault is not None
    assert asker.fault.code == "bad_message.bodies"


async def test_what_came_for_the_next_height_counts_when_it_begins(bench: Bench, autojump_clock: MockClock) -> None:
    link = bench.meets(1)
    ahead = tuple(vote(PREVOTE, 2, 0, None, number) for number in OTHERS)
    link.peer.says(Votes(ahead))
    await settled()
    assert _held(bench) == 0
    await bench.decides(link)
    await trio.sleep(0.1)
    assert _held(bench) == 3
    assert bench.driver.height.number == 2


async def test_a_peer_above_us_is_known_to_be_ahead_until_it_is_not(bench: Bench, autojump_clock: MockClock) -> None:
    link = bench.meets(1)
    link.peer.says(_nothing(5))
    await settled()

    assert bench.gossip.views[link.peer.id].ahead_since is not None
    link.peer.says(_nothing(1))
    await settled()
    assert bench.gossip.views[link.peer.id].ahead_since is None
    await link.leaves()
    assert bench.gossip.views == {}


async def test_the_missing_block_is_asked_of_one_peer_after_the_other(bench: Bench, autojump_clock: MockClock) -> None:
    first, second = bench.meets(1), bench.meets(2)
    executed = await bench.block(transaction(0))
    first.peer.says(bench.votes(PRECOMMIT, 0, executed.id, 1, 2, 3))
    await trio.sleep(1)
    assert first.peer.told(WantBlock)
    assert second.peer.told(WantBlock)
    second.peer.says(BlockOnly(executed.block))
    await settled()
    assert second.peer.told(WantBodies), "who sent the block is asked for its bodies first"
    second.peer.says(Bodies(1, executed.id, (transaction(0),)))
    await bench.heights.wait_beyond(0)
