"""Blocks are found, completed and judged from whatever peers give; our own are built from the pool."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from consensus.inputs import Step
from node.consensus_messages import BlockOnly, Bodies, ProposalWithBlock, WantBodies
from node.occasion import CLOCK_LOOK_S, occasion
from node.stopped import NodeStopped
from tests.node.bench import PRECOMMIT, PREVOTE, Bench, first_proposer, settled, transaction

PROPOSER = first_proposer(0)


async def test_bodies_come_from_the_pool_without_asking(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with Bench(tmp_path, own=None).running() as bench:
        link = bench.meets(1)
        await bench.mempool.submit([transaction(0)], source=None)
        executed = await bench.block(transaction(0), proposer=PROPOSER)
        link.peer.says(ProposalWithBlock(bench.proposal(0, executed.block), executed.block))
        await trio.sleep(0.2)
        assert bench.driver.height.candidates[executed.id].executed is not None
        assert not link.peer.told(WantBodies)


async def test_who_sent_some_bodies_is_asked_for_the_rest_and_who_is_silent_is_left(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with Bench(tmp_path, own=None).running() as bench:
        silent, source = bench.meets(1), bench.meets(2)
        raws = [transaction(nonce) for nonce in range(3)]
        executed = await bench.block(*raws, proposer=PROPOSER)
        source.peer.says(ProposalWithBlock(bench.proposal(0, executed.block), executed.block))
        await settled()
        for raw in raws:
            await settled()
            source.peer.says(Bodies(1, executed.id, (raw,)))
        await trio.sleep(0.1)
        assert [want.indexes for want in source.peer.told(WantBodies)] == [(0, 1, 2), (1, 2), (2,)]
        assert not silent.peer.told(WantBodies)
        assert bench.driver.height.candidates[executed.id].judged


async def test_a_block_that_this_machine_cannot_execute_is_judged_again_when_others_vote_for_it(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Bench(tmp_path, own=None).running() as bench:
        link = bench.meets(1)
        executed = await bench.block(transaction(0), proposer=PROPOSER)
        with monkeypatch.context() as short_of_memory:
            short_of_memory.setattr("tests.node.register_town.RegisterExecution.deliver", _fails)
            link.peer.says(ProposalWithBlock(bench.proposal(0, executed.block), executed.block))
            await settled()
            link.peer.says(Bodies(1, executed.id, (transaction(0),)))
            await trio.sleep(0.2)
        candidate = bench.driver.height.candidates[executed.id]
        assert not candidate.judged
        assert not candidate.acquiring
        link.peer.says(bench.votes(PRECOMMIT, 0, executed.id, 1, 2, 3))
        with trio.fail_after(5):
            await bench.heights.wait_beyond(0)


def _fails(self: object, transaction: object) -> None:
    raise MemoryError


async def test_a_proposer_leaves_out_what_it_cannot_execute(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with Bench(tmp_path, own=PROPOSER).running() as bench:
        deep = transaction(0, name="too_deep", account=1)
        outcomes = await bench.mempool.submit([deep, transaction(0)], source=None)
        await trio.sleep(1)
        built = bench.driver.height.proposals[0].block_id
        assert len(bench.driver.height.candidates[built].transactions) == 1
        assert outcomes[0].id is not None
        assert bench.mempool.why(outcomes[0].id).code == "tx.undecidable"


async def test_an_invalid_proposal_gets_a_vote_for_nil(tmp_path: Path, autojump_clock: MockClock) -> None:
    own = (PROPOSER + 1) % 4
    async with Bench(tmp_path, own=own).running() as bench:
        link = bench.meets(1)
        early = await bench.block(time_ms=bench.driver.height.parent.time_ms - 1, proposer=PROPOSER)
        link.peer.says(ProposalWithBlock(bench.proposal(0, early.block), early.block))
        await trio.sleep(0.2)
        assert bench.driver.height.own_votes[PREVOTE, 0].block_id is None
        refused = bench.driver.height.candidates[early.id].refused
        assert refused is not None
        assert refused.code == "block.time"


async def test_a_block_that_2_3_decide_and_that_we_refuse_stops_the_node_also_after_a_restart(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    for _ in range(2):
        with pytest.raises(ExceptionGroup) as stopped:  # noqa: PT012
            async with Bench(tmp_path, own=None).running() as bench:
                link = bench.meets(1)
                early = await bench.block(time_ms=1, proposer=PROPOSER)
                link.peer.says(bench.votes(PRECOMMIT, 0, early.id, 1, 2, 3))
                await settled()
                link.peer.says(BlockOnly(early.block))
                await trio.sleep(5)
        assert stopped.group_contains(NodeStopped, match="which this node refuses")


async def test_a_wanted_block_that_comes_twice_is_one(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with Bench(tmp_path, own=None).running() as bench:
        link = bench.meets(1)
        executed = await bench.block()
        link.peer.says(bench.votes(PREVOTE, 0, executed.id, 1, 2, 3))
        await settled()
        link.peer.says(BlockOnly(executed.block), BlockOnly(executed.block))
        await settled()
        assert len(bench.driver.height.candidates) == 1
        assert bench.driver.height.machine.step is not Step.DECIDED


# When a height begins -----------------------------------------------------------------------------------------------


async def _began_after(bench: Bench, due_ms: int | None = None) -> float:
    began = trio.current_time()
    await occasion(bench.driver.height.parent, bench.mempool, bench.evidence, due_ms, bench.now_ms)
    return round(trio.current_time() - began, 3)


async def test_nothing_begins_before_the_block_delay(tmp_path: Path, autojump_clock: MockClock) -> None:
    bench = Bench(tmp_path, own=None, block_delay_ms=700)
    await bench.mempool.submit([transaction(0)], source=None)
    assert await _began_after(bench) == 0.7
    bench.close()


async def test_an_idle_chain_waits_for_a_due_time_or_the_heartbeat(tmp_path: Path, autojump_clock: MockClock) -> None:
    bench = Bench(tmp_path, own=None, heartbeat_ms=60_000)
    assert await _began_after(bench, due_ms=bench.driver.height.parent.time_ms + 20_000) == 20.0
    assert await _began_after(bench) == 40.0
    bench.close()


async def test_a_clock_that_was_set_forward_is_noticed(tmp_path: Path, autojump_clock: MockClock) -> None:
    bench = Bench(tmp_path, own=None, heartbeat_ms=60_000)
    ahead_ms = 0

    def now_ms() -> int:
        return bench.now_ms() + ahead_ms

    async with trio.open_nursery() as nursery:
        nursery.start_soon(occasion, bench.driver.height.parent, bench.mempool, bench.evidence, None, now_ms)
        await trio.sleep(10)
        ahead_ms = 60_000
        began = trio.current_time()
    assert trio.current_time() - began <= CLOCK_LOOK_S
    bench.close()
