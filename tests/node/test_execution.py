"""What is proposed is valid for all by construction; what is checked is exactly what its header says."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from consensus.application import Result
from consensus.block import Block, ModuleRoot
from consensus.chain import transactions_root
from consensus.jellyfish import application_hash
from consensus.params import TINY
from consensus.shape import to_bytes
from consensus.transaction import Transaction
from consensus.validity import InvalidBlock, check_block
from node.execution import SLICE_TRANSACTIONS, Executed, Undecidable
from tests.node.bench import Bench, address, transaction


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    """Makes benches that need not run."""
    made: list[Bench] = []

    def make(**params: Any) -> Bench:
        made.append(Bench(tmp_path, own=None, **params))
        return made[-1]

    yield make
    for one in made:
        one.close()


async def _proposed(
    bench: Bench, transactions: list[Transaction], dropped: list[str], *, until: float = math.inf
) -> Executed:
    parent = bench.driver.height.parent
    return await bench.executor.propose(
        parent,
        time_ms=parent.time_ms + 1_000,
        proposer=address(1),
        last_commit=None,
        reap=lambda _: transactions,
        drop=lambda identity, code, text: dropped.append(code),
        until=until,
    )


def _transactions(count: int, *, name: str = "set") -> list[Transaction]:
    return [Transaction.decode(transaction(nonce, key=nonce, name=name)) for nonce in range(count)]


async def test_a_proposed_block_is_valid_and_checks_to_the_same_results(
    bench: Callable[..., Bench], autojump_clock: MockClock
) -> None:
    one = bench()
    executed = await _proposed(one, _transactions(3), [])
    parent = one.driver.height.parent
    check_block(executed.block, sum(len(t.raw) for t in executed.transactions), parent, one.store.state())
    checked = await one.executor.check(parent, executed.block, executed.transactions)
    assert (checked.block, checked.results, checked.changes) == (executed.block, executed.results, executed.changes)
    assert checked.chain_state == executed.chain_state
    assert executed.id == executed.block.id


async def test_what_cannot_stand_in_the_block_is_dropped_and_the_rest_goes_on(
    bench: Callable[..., Bench], autojump_clock: MockClock
) -> None:
    dropped: list[str] = []
    first, second = _transactions(2)
    executed = await _proposed(bench(), [second, first], dropped)
    assert dropped == ["tx.nonce"]
    assert executed.transactions == (first,)


async def test_a_transaction_larger_than_now_allowed_stands_in_no_block(
    bench: Callable[..., Bench], autojump_clock: MockClock
) -> None:
    """It may come from a pool of a time when the limit was higher; all nodes must judge alike, pool or not."""
    one = bench(transaction_bytes_max=1_024)
    [small] = _transactions(1)
    large = dataclasses.replace(small, raw=bytes(1_025))
    dropped: list[str] = []
    executed = await _proposed(one, [large], dropped)
    assert dropped == ["tx.too_large"]
    with pytest.raises(InvalidBlock) as refused:
        await one.executor.check(one.driver.height.parent, executed.block, [large])
    assert refused.value.code == "block.inadmissible"


async def test_a_full_block_fits_its_limit_with_ids_commit_and_roots(
    bench: Callable[..., Bench], autojump_clock: MockClock
) -> None:
    one = bench(block_bytes_max=120_000, transaction_bytes_max=1_024)
    one.app.module_names = tuple(f"module{number:030}" for number in range(50))
    executed = await _proposed(one, _transactions(1_000), [])
    size = len(to_bytes(executed.block)) + sum(len(t.raw) for t in executed.transactions)
    assert size <= 120_000
    assert len(executed.transactions) > 300


async def test_a_block_ends_at_its_limits_of_count_weight_and_time(
    bench: Callable[..., Bench], autojump_clock: MockClock
) -> None:
    one = bench(block_transactions_max=5)
    assert len((await _proposed(one, _transactions(9), [])).transactions) == 5
    assert len((await _proposed(one, _transactions(3 * SLICE_TRANSACTIONS), [])).transactions) == 5


async def test_a_block_has_room_for_a_heavy_transaction_or_is_full(
    bench: Callable[..., Bench], autojump_clock: MockClock
) -> None:
    one = bench(block_weight_max=1_000, transaction_weight_max=500)
    executed = await _proposed(one, _transactions(20), [])
    assert len(executed.transactions) == 6
    with pytest.raises(InvalidBlock) as refused:
        await one.executor.check(one.driver.height.parent, executed.block, _transactions(11))
    assert refused.value.code == "block.weight"


async def test_building_ends_when_its_time_is_over(bench: Callable[..., Bench], autojump_clock: MockClock) -> None:
    executed = await _proposed(bench(), _transactions(200), [], until=trio.current_time() - 1)
    assert len(executed.transactions) == SLICE_TRANSACTIONS


async def test_what_this_machine_cannot_execute_is_no_verdict(
    bench: Callable[..., Bench], autojump_clock: MockClock
) -> None:
    one = bench()
    good = await _proposed(one, [], [])
    deep = _transactions(1, name="too_deep")
    with pytest.raises(Undecidable) as undecided:
        await _proposed(one, deep, [])
    assert undecided.value.transaction_id == deep[0].id
    with pytest.raises(Undecidable):
        await one.executor.check(one.driver.height.parent, good.block, deep)


def _with_roots(block: Block, roots: tuple[ModuleRoot, ...]) -> Block:
    header = dataclasses.replace(block.header, app_hash=application_hash(roots))
    return dataclasses.replace(block, header=header, module_roots=roots)


def _with_header(block: Block, **changes: object) -> Block:
    return dataclasses.replace(block, header=dataclasses.replace(block.header, **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "code", "text"),
    [
        (
            lambda b: _with_roots(b, (*b.module_roots[:-1], ModuleRoot("register", bytes(32)))),
            "block.app_hash",
            "register",
        ),
        (lambda b: _with_roots(b, b.module_roots[:-1]), "block.app_hash", "register"),
        (lambda b: _with_roots(b, b.module_roots[::-1]), "block.app_hash", "order"),
        (lambda b: _with_header(b, results_hash=bytes(32)), "block.results_hash", "results_hash"),
        (lambda b: _with_header(b, next_validators_hash=bytes(32)), "block.next_validators_hash", "next_validators"),
        (lambda b: _with_header(b, app_hash=bytes(32)), "block.app_hash", "app_hash"),
        (lambda b: _with_header(b, transactions_root=transactions_root([bytes(32)])), "block.header", "header"),
    ],
)
async def test_a_block_that_says_something_else_than_its_execution_is_refused_naming_it(
    change: Callable[[Block], Block], code: str, text: str, bench: Callable[..., Bench], autojump_clock: MockClock
) -> None:
    one = bench()
    executed = await _proposed(one, _transactions(1), [])
    with pytest.raises(InvalidBlock, match=text) as refused:
        await one.executor.check(one.driver.height.parent, change(executed.block), executed.transactions)
    assert refused.value.code == code


async def test_who_is_absent_from_the_last_commit_is_told_to_the_application(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with Bench(tmp_path, own=None).running() as bench:
        await bench.decides(bench.meets(1))
        info = bench.executor._info(
            bench.driver.height.parent,
            time_ms=bench.now_ms(),
            proposer=address(1),
            last_commit=bench.driver.last_commit.commit,
            evidence=(),
        )
        assert info.absent == (address(0),)
        assert bench.executor.next_due_ms() is None
        assert info.params.heartbeat_ms == TINY.heartbeat_ms
        assert bench.store.results(1)[0] == Result("", 0, 0, ())
