"""Whole engines under random kills and splits: safety first, then everything heals and liveness is demanded."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import trio
import trio.testing

from tests.node.small_net import SmallNet

SIZE = 4
STEPS = 40
PATIENCE_HEIGHTS = 60
SEEDS = range(12)


class World:
    """What a seed does to a small net."""

    def __init__(self, net: SmallNet, dice: random.Random, nursery: trio.Nursery) -> None:
        self.net = net
        self.dice = dice
        self.nursery = nursery
        self.cut: set[tuple[int, int]] = set()
        self.submitted = 0
        self.accepted: dict[int, int] = {}
        """Register → engine that took it and still lives."""

    async def step(self) -> None:
        """Something happens, and a while passes."""
        await self.dice.choice((self._submit, self._submit, self._kill, self._start, self._cut, self._mend))()
        await trio.sleep(self.dice.choice((0.01, 0.05, 0.2, 1.0)))
        self.net.assert_one_history()

    async def heal(self) -> None:
        """Every engine runs, every link works."""
        for one, other in sorted(self.cut):
            self.net.heal((one,), (other,))
        self.cut.clear()
        for number in range(SIZE):
            if number not in self.net.engines:
                await self.net.start(self.nursery, number)

    async def _submit(self) -> None:
        if self.net.engines:
            number = self.dice.choice(sorted(self.net.engines))
            key = self.submitted
            self.submitted += 1
            await self.net.sets(number, key, 100, account=1000 + key)
            self.accepted[key] = number

    async def _kill(self) -> None:
        if self.net.engines:
            number = self.dice.choice(sorted(self.net.engines))
            await self.net.kill(number)
            self.accepted = {key: at for key, at in self.accepted.items() if at != number}

    async def _start(self) -> None:
        stopped = sorted(set(range(SIZE)) - set(self.net.engines))
        if stopped:
            await self.net.start(self.nursery, self.dice.choice(stopped))

    async def _cut(self) -> None:
        one, other = sorted(self.dice.sample(range(SIZE), 2))
        self.cut.add((one, other))
        self.net.split((one,), (other,))

    async def _mend(self) -> None:
        if self.cut:
            one, other = self.dice.choice(sorted(self.cut))
            self.cut.discard((one, other))
            self.net.heal((one,), (other,))


@pytest.mark.parametrize("seed", SEEDS)
async def test_kills_and_splits_never_fork_and_healing_brings_everything_on_the_chain(
    seed: int, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    net = SmallNet(tmp_path, heartbeat_ms=500)
    async with trio.open_nursery() as nursery:
        await net.start(nursery)
        world = World(net, random.Random(seed), nursery)
        for _ in range(STEPS):
            await world.step()
        await world.heal()
        reached = max(engine.store.height for engine in net.engines.values())
        await net.height(reached + 3, within_s=180)
        net.assert_one_history()
        # What an engine took and did not lose in a kill of its own is on the chain soon.
        for _ in range(PATIENCE_HEIGHTS):
            if world.accepted.keys() <= net.registers(0).keys():
                break
            await net.height(net.engines[0].store.height + 1)
        assert world.accepted.keys() <= net.registers(0).keys(), [net.engines[n].mempool.count for n in range(SIZE)]
        nursery.cancel_scope.cancel()
