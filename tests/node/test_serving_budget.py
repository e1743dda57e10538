"""Promises of serving: however fast peers ask and read, answers take no more than their budget, in fair shares."""

from __future__ import annotations

from pathlib import Path

import trio
from trio.testing import MockClock

from node.serving_budget import SAVED_S, TIME_SHARE, Asker, ServingBudget
from node.sync_messages import Genesis, WantGenesis
from tests.node.bench import Bench, settled

RATE, RATE_PER_PEER = 1_000_000, 400_000
SECONDS = 20.0


class Door:
    """Askers at one budget."""

    def __init__(self) -> None:
        self.budget = ServingBudget(bytes_per_second_max=RATE, bytes_per_second_per_peer_max=RATE_PER_PEER)
        self.served: dict[str, int] = {}
        """Bytes, by name."""

    async def asks(self, name: str, size: int, takes_s: float = 0.0) -> None:
        """Without end, for answers of *size* bytes which take so long to make."""
        asker = Asker()

        async def make() -> bytes:
            await trio.sleep(takes_s)
            return bytes(size)

        while True:
            self.served[name] = self.served.get(name, 0) + len(await self.budget.answer(asker, make))

    async def comes_and_goes(self, name: str, size: int) -> None:
        """After each answer it is back as somebody new."""

        async def make() -> bytes:
            return bytes(size)

        while True:
            self.served[name] = self.served.get(name, 0) + len(await self.budget.answer(Asker(), make))

    async def all_(self) -> int:
        """Bytes to whoever asked, while time passes."""
        await trio.sleep(SECONDS)
        return sum(self.served.values())


async def test_one_asker_has_its_own_budget_and_what_it_saved(autojump_clock: MockClock) -> None:
    door = Door()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(door.asks, "one", 50_000)
        served = await door.all_()
        nursery.cancel_scope.cancel()
    assert 0.98 * RATE_PER_PEER * SECONDS <= served <= RATE_PER_PEER * (SECONDS + SAVED_S) + 50_000


async def test_all_askers_together_have_the_whole_budget_in_equal_parts(autojump_clock: MockClock) -> None:
    door = Door()
    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(door.asks, str(number), 50_000)
        served = await door.all_()
        nursery.cancel_scope.cancel()
    assert 0.98 * RATE * SECONDS <= served <= RATE * (SECONDS + SAVED_S) + 50_000
    assert max(door.served.values()) - min(door.served.values()) <= 50_000


async def test_large_answers_to_some_leave_those_who_want_small_ones_their_share(autojump_clock: MockClock) -> None:
    door = Door()
    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(door.asks, f"large {number}", 200_000)
        nursery.start_soon(door.asks, "small", 1_000)
        served = await door.all_()
        nursery.cancel_scope.cancel()
    assert served <= RATE * (SECONDS + SAVED_S) + 200_000
    assert door.served["small"] >= 0.9 * served / 4


async def test_coming_anew_brings_nothing_beyond_the_whole_budget(autojump_clock: MockClock) -> None:
    door = Door()
    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(door.comes_and_goes, f"sybil {number}", 200_000)
        nursery.start_soon(door.asks, "honest", 20_000)
        served = await door.all_()
        nursery.cancel_scope.cancel()
    assert served <= RATE * (SECONDS + SAVED_S) + 200_000
    assert door.served["honest"] > 0


async def test_who_asks_for_little_does_not_wait(autojump_clock: MockClock) -> None:
    door = Door()
    asker = Asker()

    async def make() -> bytes:
        return bytes(1_000)

    for _ in range(100):
        began = trio.current_time()
        await door.budget.answer(asker, make)
        assert trio.current_time() == began
        await trio.sleep(0.01)


async def test_answers_that_are_small_and_much_work_take_a_part_of_the_time(autojump_clock: MockClock) -> None:
    door = Door()
    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(door.asks, str(number), 1, 0.01)
        served = await door.all_()
        nursery.cancel_scope.cancel()
    assert served * 0.01 <= TIME_SHARE * (SECONDS + SAVED_S) + 0.01


async def test_who_goes_while_it_waits_or_is_answered_is_in_nobodys_way(autojump_clock: MockClock) -> None:
    door = Door()
    async with trio.open_nursery() as nursery:
        with trio.move_on_after(SECONDS):
            async with trio.open_nursery() as going:
                for number in range(5):
                    going.start_soon(door.asks, f"goes {number}", 100_000)
                going.start_soon(door.asks, "goes while answered", 1, 0.3)
        nursery.start_soon(door.asks, "stays", 10_000)
        await trio.sleep(2 * SAVED_S)
        before = door.served["stays"]
        await trio.sleep(1)
        assert door.served["stays"] - before >= 0.9 * RATE_PER_PEER
        nursery.cancel_scope.cancel()


async def test_questions_on_the_channel_wait_for_the_budget(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with Bench(tmp_path / "own", own=None, served_bytes_per_second=RATE).running() as bench:
        asker = bench.meets(1)
        size = len(bench.store.genesis_bytes())
        questions = 3 * RATE // size
        asker.peer.says(*[WantGenesis()] * questions)
        await settled()
        at_once = len(asker.peer.told(Genesis))
        assert at_once * size <= RATE * (SAVED_S + 0.5)
        await trio.sleep(1)
        assert at_once < len(asker.peer.told(Genesis)) <= questions
        await trio.sleep(5)
        assert len(asker.peer.told(Genesis)) == questions
