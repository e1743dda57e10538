"""Xian asked its own RPC for the validator set, and gave no updates on an error: nodes could go on with two sets.

Here updates are a result of execution. Whoever can't compute them stops, and whoever computes others refuses the block;
what fails alike on all nodes, a defect of a module, changes nothing on any.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from city.modules.validators import Validators
from city.testing import Town
from consensus.application import BlockInfo, BlockOutcome, State
from consensus.validators import Update
from node.stopped import NodeStopped
from node.store import Store
from tests.node.register_town import RegisterExecution, RegisterTown
from tests.node.small_net import SmallNet

POWER = 20


class Failing(RegisterTown):
    """Where there are updates to give, *fails* decides what comes of them."""

    def __init__(self, fails: Callable[[BlockOutcome], BlockOutcome]) -> None:
        self._fails = fails

    def execute(self, state: State, block: BlockInfo) -> RegisterExecution:
        execution = super().execute(state, block)
        end = execution.end

        def ends() -> BlockOutcome:
            outcome = end()
            return self._fails(outcome) if outcome.validator_updates else outcome

        execution.end = ends  # type: ignore[method-assign]
        return execution


class FailingNet(SmallNet):
    """Some engines host an application that fails; what an engine stopped with is kept, and the others go on."""

    def __init__(self, folder: Path, failing: Iterable[int], fails: Callable[[BlockOutcome], BlockOutcome]) -> None:
        super().__init__(folder)
        self.failing = set(failing)
        self.stopped_with: dict[int, BaseException] = {}
        self._fails = fails

    def application(self, number: int) -> RegisterTown:
        return Failing(self._fails) if number in self.failing else RegisterTown()

    async def _run(self, number: int, *, task_status: trio.TaskStatus[None]) -> None:
        try:
            await super()._run(number, task_status=task_status)
        except* (OSError, MemoryError, NodeStopped) as stopped:
            first: BaseException = stopped
            while isinstance(first, BaseExceptionGroup):
                first = first.exceptions[0]
            self.stopped_with[number] = first
            self.engines.pop(number)

    def power(self, number: int) -> int:
        """The power of validator 1 in the set of the next height, as *number*, which does not run, has stored it."""
        store = Store.open(self.folder / f"node{number}" / "data" / "chain", inline=True)
        chain = store.chain_state()
        store.close()
        assert chain is not None
        return max(member.power for member in chain.validators.validators)


def _raises(error: Exception) -> Callable[[BlockOutcome], BlockOutcome]:
    def fails(outcome: BlockOutcome) -> BlockOutcome:
        raise error

    return fails


def _gives_none(outcome: BlockOutcome) -> BlockOutcome:
    return BlockOutcome(result=outcome.result)


def _updates(town: Town) -> tuple[Update, ...]:
    assert town.last is not None
    return town.last.validator_updates


@pytest.mark.parametrize(
    ("fails", "stopped_with"),
    [
        (_raises(OSError("the node's own RPC does not answer")), "the node's own RPC does not answer"),
        (_raises(MemoryError("none left")), "none left"),
        (_gives_none, "It computes something else than the others"),
    ],
    ids=["raises", "no memory", "gives none"],
)
async def test_xian_a_node_that_fails_at_the_updates_stops_and_the_others_have_them(
    fails: Callable[[BlockOutcome], BlockOutcome],
    stopped_with: str,
    tmp_path: Path,
    autojump_clock: trio.testing.MockClock,
) -> None:
    net = FailingNet(tmp_path, [3], fails)
    async with trio.open_nursery() as nursery:
        await net.start(nursery)
        await net.height(2)
        await net.powers(0, 1, POWER)
        await net.height(net.engines[0].store.height + 4, 0, 1, 2)
        assert stopped_with in str(net.stopped_with.pop(3))
        assert not net.stopped_with
        assert net.power(3) == 10
        net.failing.clear()
        await net.start(nursery, 3)
        await net.height(net.engines[0].store.height + 2)
        net.assert_one_history()
        await net.kill(0, 1, 2, 3)
    assert [net.power(number) for number in range(4)] == [POWER] * 4


async def test_xian_where_all_fail_at_the_updates_nobody_goes_on_without_them(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    net = FailingNet(tmp_path, range(4), _raises(OSError("no answer")))
    async with trio.open_nursery() as nursery:
        await net.start(nursery)
        await net.height(2)
        await net.powers(0, 1, POWER)
        await trio.sleep(60)
        assert len(net.stopped_with) >= 2, "the others can't make a round without them"
        assert {str(error) for error in net.stopped_with.values()} == {"no answer"}
        heights = {engine.store.height for engine in net.engines.values()}
        await trio.sleep(60)
        assert {engine.store.height for engine in net.engines.values()} == heights
        await net.kill(*net.engines)
    assert [net.power(number) for number in range(4)] == [10] * 4


def test_xian_a_module_that_fails_after_some_updates_gives_none_and_the_failure_is_a_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    carry_out = Validators._carry_out

    def fails_afterwards(module: Validators, *arguments: Any) -> None:
        carry_out(module, *arguments)
        raise ZeroDivisionError

    key, town = b"k" * 32, Town()
    monkeypatch.setattr(Validators, "_carry_out", fails_afterwards)
    town.stranger().sends("validators.apply", public_key=key, name="k")
    town.govern("validators.admit", public_key=key)
    assert _updates(town) == ()
    (failure,) = town.query("town/failed_work")["rows"]
    assert failure["value"]["name"] == "carry_out_changes"
    assert town.query("validators/validator_set")["rows"] == []
    monkeypatch.undo()
    town.block()
    assert _updates(town) == (Update(key, 10),)
