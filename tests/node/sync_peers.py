"""Peers for tests of block sync: a chain that the others decided, and who serves it, honestly or not."""

from __future__ import annotations

from pathlib import Path

import trio

from consensus.inputs import Step
from node.consensus_messages import Status
from node.sync_messages import DecidedHeight, NoHeight, WantHeight
from tests.node.bench import Bench, FakePeer, transaction

HEIGHTS = 6


class Chain:
    """Heights that the others decided."""

    def __init__(self, answers: list[DecidedHeight]) -> None:
        self.answers = answers

    def answer(self, height: int) -> DecidedHeight:
        """What an honest peer says of *height*."""
        return self.answers[height - 1]


async def decided_chain(folder: Path) -> Chain:
    """Block n sets register n."""
    answers = []
    async with Bench(folder, own=None).running() as bench:
        link = bench.meets(1)
        for number in range(HEIGHTS):
            await bench.decides(link, transaction(number, key=number))
            block = bench.store.block(number + 1)
            raws = bench.store.block_transactions(number + 1)
            answers.append(DecidedHeight(block, raws, bench.store.commit_of(number + 1)[0]))
    return Chain(answers)


class Server:
    """A connected peer that says it is ahead, and answers as the test tells it."""

    def __init__(self, bench: Bench, number: int, claims: int = HEIGHTS + 1) -> None:
        self.bench = bench
        self.link = bench.meets(number)
        self.peer: FakePeer = self.link.peer
        self.claims = claims
        self.asked: list[int] = []
        """Heights, as they were asked."""
        self._looked_at = 0

    def claim(self) -> None:
        """It says where it is."""
        self.peer.says(Status(self.claims, -1, Step.WAIT, (), (), 0))

    def pending(self) -> list[int]:
        """Heights asked since the last look."""
        wants = self.peer.told(WantHeight)
        new = [want.height for want in wants[self._looked_at :]]
        self._looked_at = len(wants)
        self.asked += new
        return new

    async def serves(self, chain: Chain, *, late_s: float = 0.0) -> None:
        """It answers honestly, each time after *late_s*, while bytes flow."""
        while True:
            self.claim()
            for height in self.pending():
                await self._work(late_s)
                known = height <= len(chain.answers)
                self.peer.says(chain.answer(height) if known else NoHeight(height, 1))
            await trio.sleep(0.05)

    async def _work(self, late_s: float) -> None:
        for _ in range(round(late_s)):
            self.peer.bytes_received += 1_000
            await trio.sleep(1)


async def caught_up(bench: Bench, within_s: float = 60) -> None:
    """*bench* has all heights."""
    with trio.fail_after(within_s):
        await bench.heights.wait_beyond(HEIGHTS - 1)
    assert bench.store.block_transactions(HEIGHTS) == (transaction(HEIGHTS - 1, key=HEIGHTS - 1),)
