"""Whatever moment a validator is killed at, it comes back where it was, keeps its lock, and contradicts nothing."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from consensus.block import Block
from consensus.inputs import Step, VoteReceived
from consensus.vote import Proposal, VoteKind
from node.consensus_log import OwnVote, to_record
from node.consensus_messages import BlockOnly, Bodies, ProposalWithBlock, Votes
from node.wal import Wal
from tests.node.bench import (
    PRECOMMIT,
    PREVOTE,
    Bench,
    Link,
    address,
    first_proposer,
    settled,
    transaction,
    vote,
)

PROPOSER = first_proposer(0)
NEXT_PROPOSER = first_proposer(1)
OTHER = next(number for number in range(4) if number not in (PROPOSER, NEXT_PROPOSER))
"""Proposes in neither of the first two rounds."""


class Killed(Exception):
    """The process is gone."""


class Calls:
    """Counts the calls of what a height writes, and kills the process before or after one of them."""

    NAMES = frozenset({"append", "sync", "reset", "sign_vote", "sign_proposal", "commit"})

    def __init__(self, kill_at: float = float("inf"), *, after: bool = False) -> None:
        self.count = 0
        self._kill_at = kill_at
        self._after = after

    def wrap(self, real: Any) -> Any:
        """*real* with its writing methods counted."""
        return _Counted(real, self)

    def enter(self) -> bool:
        """Counts a call; whether the process dies after it."""
        self.count += 1
        hit = self.count - 1 == self._kill_at
        if hit and not self._after:
            raise Killed
        return hit


class _Counted:
    def __init__(self, real: Any, calls: Calls) -> None:
        self._real = real
        self._calls = calls

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._real, name)
        if name not in Calls.NAMES:
            return method
        if inspect.iscoroutinefunction(method):
            return partial(self._await, method)
        return partial(self._call, method)

    async def _await(self, method: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        dies = self._calls.enter()
        result = await method(*args)
        if dies:
            raise Killed
        return result

    def _call(self, method: Callable[..., Any], *args: Any) -> Any:
        dies = self._calls.enter()
        result = method(*args)
        if dies:
            raise Killed
        return result


class Life:
    """One validator through deaths and restarts, and all that it ever said."""

    def __init__(self, folder: Path, own: int) -> None:
        self.folder = folder
        self.own = own
        self.links: list[Link] = []
        self.epoch = trio.current_time()

    async def lives(self, script: Callable[[Bench, Link], Awaitable[None]], calls: Calls) -> bool:
        """It runs *script*; whether it lived to the end."""
        lived = False
        try:
            bench = Bench(
                self.folder,
                own=self.own,
                epoch=self.epoch,
                wrap_wal=calls.wrap,
                wrap_signer=calls.wrap,
                wrap_store=calls.wrap,
            )
            async with bench.running():
                link = bench.meets(9)
                self.links.append(link)
                await script(bench, link)
                lived = True
        except* Killed:
            lived = False
        return lived

    def said(self) -> dict[tuple[VoteKind, int, int], set[bytes | None]]:
        """What it voted, by kind, height and round; more than one value each would be a double vote."""
        said: dict[tuple[VoteKind, int, int], set[bytes | None]] = {}
        for link in self.links:
            for message in link.peer.told(Votes):
                for cast in message.votes:
                    if cast.validator == address(self.own):
                        said.setdefault((cast.kind, cast.height, cast.round), set()).add(cast.block_id)
        return said

    def proposed(self) -> dict[tuple[int, int], set[bytes]]:
        """Likewise for its proposals."""
        proposed: dict[tuple[int, int], set[bytes]] = {}
        for link in self.links:
            for message in link.peer.told(ProposalWithBlock):
                proposal: Proposal = message.proposal
                if proposal.round == 0:
                    proposed.setdefault((proposal.height, proposal.round), set()).add(proposal.block_id)
        return proposed

    def assert_honest(self) -> None:
        """It contradicted itself nowhere."""
        assert all(len(values) == 1 for values in self.said().values()), self.said()
        assert all(len(values) == 1 for values in self.proposed().values()), self.proposed()


async def _until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(60):
        while not condition():  # noqa: ASYNC110  # a machine gives no sign
            await trio.sleep(0.05)


async def _proposes_and_decides(bench: Bench, link: Link) -> None:
    """The validator builds and proposes block 1 with a transaction; the others follow whatever it said."""
    if bench.store.height >= 1:
        return
    height = bench.driver.height
    await bench.mempool.submit([transaction(0)], source=None)
    with trio.move_on_after(10):
        await _until(lambda: 0 in height.proposals)
    proposal = height.proposals.get(0)
    others = [number for number in range(4) if number != PROPOSER]
    if proposal is not None:
        link.peer.says(bench.votes(PREVOTE, 0, proposal.block_id, *others))
        link.peer.says(bench.votes(PRECOMMIT, 0, proposal.block_id, *others))
        await _until(lambda: bench.store.height >= 1)
    await settled()


class _LockedBlocks:
    """Blocks of height 1 that stay the same in all lives."""

    def __init__(self) -> None:
        self.shown: Block | None = None
        self.decided: Block | None = None
        self.rival: Block | None = None

    async def make(self, bench: Bench) -> tuple[Block, Block, Block]:
        """The one that its proposer shows us first, the one that gets the polka, and that of the next round."""
        if self.shown is None:
            time_ms = bench.now_ms() + 200
            self.shown = (await bench.block(proposer=PROPOSER, time_ms=time_ms)).block
            self.decided = (await bench.block(transaction(0), proposer=PROPOSER, time_ms=time_ms)).block
            self.rival = (await bench.block(proposer=NEXT_PROPOSER, time_ms=time_ms + 5)).block
        assert self.decided is not None
        assert self.rival is not None
        return self.shown, self.decided, self.rival


async def _locks_what_it_was_not_shown(blocks: _LockedBlocks, bench: Bench, link: Link) -> None:
    """A lying proposer shows us another block than the one that gets 2/3; in the next round there is a rival."""
    shown, polka, rival = await blocks.make(bench)
    others = [number for number in range(4) if number != OTHER]
    machine = bench.driver.height.machine
    link.peer.says(ProposalWithBlock(bench.proposal(0, shown), shown))
    await trio.sleep(0.3)
    link.peer.says(bench.votes(PREVOTE, 0, polka.id, *others), BlockOnly(polka))
    await settled()
    link.peer.says(BlockOnly(polka), Bodies(1, polka.id, (transaction(0),)))
    await trio.sleep(0.3)
    link.peer.says(bench.votes(PRECOMMIT, 0, None, *others))
    await _until(lambda: machine.round >= 1)
    link.peer.says(ProposalWithBlock(bench.proposal(1, rival), rival))
    await trio.sleep(0.3)
    link.peer.says(bench.votes(PREVOTE, 1, rival.id, *others[:2]))
    await _until(lambda: machine.round > 1 or machine.step >= Step.PREVOTE)
    await settled()


async def _calls_of(folder: Path, own: int, script: Callable[[Bench, Link], Awaitable[None]]) -> int:
    calls = Calls()
    life = Life(folder, own)
    assert await life.lives(script, calls)
    life.assert_honest()
    return calls.count


@pytest.mark.parametrize("after", [False, True])
async def test_a_proposer_killed_at_any_write_of_a_height_decides_it_and_says_nothing_twice(
    after: bool, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    count = await _calls_of(tmp_path / "whole", PROPOSER, _proposes_and_decides)
    assert count > 10
    for kill_at in range(count):
        life = Life(tmp_path / f"killed{kill_at}", PROPOSER)
        assert not await life.lives(_proposes_and_decides, Calls(kill_at, after=after)), kill_at
        assert await life.lives(_proposes_and_decides, Calls())
        life.assert_honest()


@pytest.mark.parametrize("after", [False, True])
async def test_a_lock_survives_a_kill_at_any_write_though_another_block_was_prevoted(
    after: bool, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    blocks = _LockedBlocks()
    script = partial(_locks_what_it_was_not_shown, blocks)
    count = await _calls_of(tmp_path / "whole", OTHER, script)
    assert blocks.decided is not None
    assert blocks.rival is not None
    kept = 0
    for kill_at in range(count):
        life = Life(tmp_path / f"killed{kill_at}", OTHER)
        assert not await life.lives(script, Calls(kill_at, after=after)), kill_at
        spoken = life.said().get((PRECOMMIT, 1, 0)) == {blocks.decided.id}
        assert await life.lives(script, Calls())
        life.assert_honest()
        if spoken:
            kept += 1
            assert life.said().get((PREVOTE, 1, 1)) in (None, {None}), "it voted against its lock"
    assert kept > 3


async def test_a_block_that_was_only_prevoted_is_back_after_a_restart(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with Bench(tmp_path, own=OTHER).running() as bench:
        link = bench.meets(9)
        executed = await bench.block(transaction(0), proposer=PROPOSER)
        link.peer.says(ProposalWithBlock(bench.proposal(0, executed.block), executed.block))
        await settled()
        link.peer.says(Bodies(1, executed.id, (transaction(0),)))
        await trio.sleep(0.3)
        assert bench.driver.height.machine.step is Step.PREVOTE
    async with Bench(tmp_path, own=OTHER).running() as bench:
        height = bench.driver.height
        assert height.complete_proposal(0) == (bench.proposal(0, executed.block), executed.block)
        assert height.machine.step is Step.PREVOTE
        bench.meets(9).peer.says(
            bench.votes(PREVOTE, 0, executed.id, PROPOSER, NEXT_PROPOSER),
            bench.votes(PRECOMMIT, 0, executed.id, PROPOSER, NEXT_PROPOSER),
        )
        await bench.heights.wait_beyond(0)
        assert bench.store.block_transactions(1) == (transaction(0),)


async def test_records_of_decided_heights_mean_nothing(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    async with Bench(tmp_path, own=None).running() as bench:
        await bench.decides(bench.meets(9))
    wal = Wal.open(tmp_path / "consensus.wal")
    wal.append(to_record(1, VoteReceived(vote(PREVOTE, 1, 7, None, 2))))
    wal.close()
    async with Bench(tmp_path, own=None).running() as bench:
        assert bench.driver.height.number == 2
        assert bench.driver.height.machine.tally.rounds() == []


async def test_a_log_that_does_not_explain_our_vote_stops_the_node(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    bench = Bench(tmp_path, own=OTHER)
    bench.close()
    wal = Wal.open(tmp_path / "consensus.wal")
    wal.append(to_record(1, OwnVote(vote(PREVOTE, 1, 0, None, OTHER))))
    wal.close()
    with pytest.raises(ExceptionGroup) as stopped:
        async with Bench(tmp_path, own=OTHER).running():
            pass
    assert stopped.group_contains(AssertionError, match="is lost", depth=2)
