"""The driver decides height after height, and what goes wrong at ours ends it, not a peer's word."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from consensus.evidence import DuplicateVote
from consensus.inputs import Step
from consensus.validity import commit_from_votes
from consensus.vote import VoteKind
from node.consensus_driver import Synced
from node.consensus_messages import BlockOnly, ProposalWithBlock, Votes
from node.height import Candidate
from node.last_commit import LastCommit
from tests.node.bench import PRECOMMIT, PREVOTE, Bench, address, commit_of, first_proposer, settled, transaction, vote

PROPOSER = first_proposer(0)


async def test_round_0_begins_at_once_on_its_proposal(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with Bench(tmp_path, own=None, heartbeat_ms=60_000).running() as bench:
        assert bench.driver.height.machine.step is Step.WAIT
        executed = await bench.block(transaction(0), proposer=PROPOSER)
        bench.meets(1).peer.says(ProposalWithBlock(bench.proposal(0, executed.block), executed.block))
        await settled()
        assert bench.driver.height.machine.round == 0


async def test_an_untimely_proposal_gets_nil_and_is_decided_if_the_others_want_it(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    own = (PROPOSER + 1) % 4
    async with Bench(tmp_path, own=own).running() as bench:
        link = bench.meets(1)
        executed = await bench.block(proposer=PROPOSER, time_ms=bench.now_ms() + 60_000)
        link.peer.says(ProposalWithBlock(bench.proposal(0, executed.block), executed.block))
        await trio.sleep(0.2)
        assert bench.driver.height.own_votes[PREVOTE, 0].block_id is None
        others = [number for number in range(4) if number != own]
        link.peer.says(bench.votes(PRECOMMIT, 0, executed.id, *others))
        await bench.heights.wait_beyond(0)


async def test_a_double_vote_is_counted_once_and_noticed(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with Bench(tmp_path, own=None).running() as bench:
        link = bench.meets(1)
        link.peer.says(bench.votes(PREVOTE, 0, None, 1), bench.votes(PREVOTE, 0, bytes(32), 1))
        link.peer.says(bench.votes(PREVOTE, 0, None, 1))
        await settled()
        assert bench.driver.equivocations == 1


async def test_a_proposer_that_is_locked_proposes_its_valid_block_again(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    own = first_proposer(1)
    async with Bench(tmp_path, own=own).running() as bench:
        link = bench.meets(1)
        executed = await bench.block(proposer=PROPOSER)
        link.peer.says(ProposalWithBlock(bench.proposal(0, executed.block), executed.block))
        others = [number for number in range(4) if number != own]
        await trio.sleep(0.2)
        link.peer.says(bench.votes(PREVOTE, 0, executed.id, *others), bench.votes(PRECOMMIT, 0, None, *others))
        with trio.fail_after(10):
            while 1 not in bench.driver.height.proposals:  # noqa: ASYNC110  # a machine gives no sign
                await trio.sleep(0.1)
        again = bench.driver.height.proposals[1]
        assert (again.block_id, again.pol_round) == (executed.id, 0)
        assert link.peer.told(ProposalWithBlock)[-1].proposal == again


async def test_results_of_blocks_that_nobody_needs_are_dropped(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with Bench(tmp_path, own=None).running() as bench:
        link = bench.meets(1)
        executed = await bench.block(proposer=PROPOSER)
        link.peer.says(ProposalWithBlock(bench.proposal(0, executed.block), executed.block))
        await trio.sleep(0.2)
        candidates = bench.driver.height.candidates
        assert candidates[executed.id].executed is not None
        link.peer.says(bench.votes(PREVOTE, 3, None, 1, 2))
        await settled()
        assert candidates[executed.id].executed is None
        link.peer.says(bench.votes(PRECOMMIT, 0, executed.id, 1, 2, 3))
        await bench.heights.wait_beyond(0)
        assert bench.store.header(1).id == executed.id, "computed again"


async def test_a_synced_block_of_a_decided_height_is_ignored(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with Bench(tmp_path, own=None).running() as bench:
        executed = await bench.block()
        synced = Synced(Candidate(executed.block, []), commit_of(bench, executed.block, 1, 2, 3))
        await bench.decides(bench.meets(1))
        await bench.driver.apply(synced)
        assert bench.store.height == 1


async def test_what_comes_after_the_decision_starts_nothing(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with Bench(tmp_path, own=None).running() as bench:
        link = bench.meets(1)
        executed = await bench.block(proposer=PROPOSER)
        other = await bench.block(proposer=PROPOSER, time_ms=bench.now_ms() + 500)
        real = bench.store.commit

        async def slowly(decided: object) -> None:
            link.peer.says(ProposalWithBlock(bench.proposal(0, other.block), other.block))
            await trio.sleep(1)
            await real(decided)  # type: ignore[arg-type]

        bench.store.commit = slowly  # type: ignore[method-assign]
        link.peer.says(bench.votes(PRECOMMIT, 0, executed.id, 1, 2, 3))
        await settled()
        link.peer.says(BlockOnly(executed.block))
        await bench.heights.wait_beyond(0)
        assert link.fault is None
        assert bench.driver.height.candidates == {}


async def test_a_log_that_cannot_be_written_ends_the_node(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ExceptionGroup) as stopped:  # noqa: PT012
        async with Bench(tmp_path).running() as bench:

            def full() -> None:
                raise OSError("disk full")

            monkeypatch.setattr(bench.wal, "sync", full)
            await trio.sleep(5)
    assert stopped.group_contains(OSError, match="disk full")


async def test_the_commit_takes_nil_votes_and_those_for_its_block(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with Bench(tmp_path, own=None).running() as bench:
        before = bench.driver.last_commit
        assert not before.lacks(vote(PRECOMMIT, 0, 0, None, 1)), "block 1 carries none"
        executed = await bench.block()
        members = bench.driver.height.parent.validators
        commit = commit_of(bench, executed.block, 1, 2, 3)
        last = LastCommit(members, commit)
        good = vote(PRECOMMIT, 1, 0, None, 0)
        assert last.lacks(good)
        for other in (
            vote(VoteKind.PREVOTE, 1, 0, None, 0),
            vote(PRECOMMIT, 2, 0, None, 0),
            vote(PRECOMMIT, 1, 1, None, 0),
            vote(PRECOMMIT, 1, 0, bytes(32), 0),
            vote(PRECOMMIT, 1, 0, executed.id, 1),
        ):
            assert not last.lacks(other)
        assert last.take(good) is None
        assert not last.lacks(good)
        assert last.commit is not None
        index = members.index_of(address(0))
        assert index is not None
        entry = last.commit.entries[index]
        assert entry is not None
        assert not entry.for_block


async def test_who_told_us_otherwise_than_a_synced_commit_says_is_convicted(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """The two votes of a liar went to two sides of a split; afterwards only the commit of the other side arrives."""
    async with Bench(tmp_path, own=None).running() as bench:
        executed = await bench.block()
        bench.meets(1).peer.says(bench.votes(PRECOMMIT, 0, None, 0, 1))
        await settled()
        await bench.driver.apply(
            Synced(Candidate(executed.block, []), commit_of(bench, executed.block, 1, 2, 3)),
        )
        lie = DuplicateVote.of(vote(PRECOMMIT, 1, 0, None, 1), vote(PRECOMMIT, 1, 0, executed.id, 1))
        assert bench.evidence.ripe() == [lie]
        assert bench.driver.equivocations == 1


async def test_who_told_us_otherwise_than_the_next_block_says_is_convicted(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with Bench(tmp_path, own=None).running() as bench:
        link = bench.meets(1)
        members = bench.driver.height.parent.validators
        link.peer.says(bench.votes(PRECOMMIT, 0, None, 0))
        block = await bench.decides(link)
        assert bench.evidence.ripe() == []
        votes = [vote(PRECOMMIT, 1, 0, block.id, number) for number in range(4)]
        bench.driver.last_commit.commit = commit_from_votes(members, votes, 1, 0, block.id)  # as the proposer has it
        await bench.decides(link)
        assert bench.evidence.ripe() == [DuplicateVote.of(vote(PRECOMMIT, 1, 0, None, 0), votes[0])]


async def test_a_vote_after_the_decision_that_contradicts_one_before_it_convicts_once(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with Bench(tmp_path, own=None).running() as bench:
        link = bench.meets(1)
        block = await bench.decides(link)
        late = vote(PRECOMMIT, 1, 0, None, 1)
        link.peer.says(Votes((late,)), Votes((late,)), Votes((vote(PRECOMMIT, 1, 0, bytes(32), 1),)))
        await settled()
        assert bench.evidence.ripe() == [DuplicateVote.of(late, vote(PRECOMMIT, 1, 0, block.id, 1))]
        assert bench.driver.equivocations == 1
        link.peer.says(Votes((replace(vote(PRECOMMIT, 1, 0, None, 2), signature=bytes(64)),)))
        await link.ended.wait()
        assert link.fault is not None, "a forged one convicts nobody"
        assert len(bench.evidence) == 1
