"""Sending and following against nodes that decide what they are told to."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from devnet import load
from devnet.accounts import account
from devnet.batches import Signed
from devnet.facts import Observer
from devnet.follow import Disagreement, Follower, heights_of
from devnet.ledger import Block, Ledger, report
from devnet.workload import Workload
from tests.devnet.fake_node import Chain, FakeNode, serving


def transfers(count: int) -> list[Signed]:
    """*count* signed transfers that are valid for ever."""
    workload = Workload("a-chain", [account("a-chain", index) for index in range(20)])
    return list(workload.signed(count, nonces=[0] * 20, valid_until_ms=2**50))


@asynccontextmanager
async def sending(*nodes: FakeNode) -> AsyncIterator[tuple[load.Sender, trio.Nursery]]:
    """A sender to *nodes*, closed once all that ran in the nursery has ended: nothing may be under way then."""
    sender = load.Sender(Ledger(), [node.url for node in nodes])
    try:
        async with trio.open_nursery() as nursery:
            yield sender, nursery
            nursery.cancel_scope.cancel()
    finally:
        await sender.close()


async def until(condition: object) -> None:
    """Lets others run until *condition* () holds; at most five seconds."""
    assert callable(condition)
    with trio.fail_after(5):
        while not condition():  # noqa: ASYNC110 - the fakes have nothing to wait for
            await trio.sleep(0.002)


async def test_transfers_go_to_all_nodes_in_turn_at_the_rate() -> None:
    chain = Chain()
    nodes = [FakeNode(chain) for _ in range(4)]
    async with serving(*nodes), sending(*nodes) as (sender, nursery):
        started = trio.current_time()
        await load.at_rate(sender, nursery, iter(transfers(100)), 400)
        assert trio.current_time() - started >= 0.2
        await until(lambda: sum(len(node.pool) for node in nodes) == 100)
        assert all(node.pool for node in nodes)
        await until(lambda: report(sender.ledger)["accepted"] == 100)


async def test_what_an_absent_node_was_sent_goes_to_another() -> None:
    chain = Chain()
    here, away = FakeNode(chain), FakeNode(chain, silent=True)
    async with serving(here, away), sending(away, here) as (sender, nursery):
        ledger = sender.ledger
        [transfer] = transfers(1)
        ledger.send(transfer, due=0.0, now=trio.current_time() - 10, node=0)
        ledger.entries[transfer.id].accepted = True
        nursery.start_soon(sender.resend, nursery)
        await until(lambda: here.pool == [transfer.id])
        assert ledger.resent == 1


async def test_a_window_bounds_what_is_open() -> None:
    chain = Chain()
    node = FakeNode(chain)
    async with serving(node), sending(node) as (sender, nursery):
        ledger = sender.ledger
        nursery.start_soon(load.up_to, sender, nursery, iter(transfers(300)), 100)
        await until(lambda: len(node.pool) == 100)
        assert ledger.open == 100
        ledger.block(Block(1, 1, tuple(node.pool), None), now=1.0)
        await until(lambda: len(node.pool) == 200)
        await until(lambda: report(ledger)["accepted"] == 200)


async def test_each_height_is_told_once_whoever_had_it_first() -> None:
    chain = Chain(codes={"b": "coin.short"})
    nodes = [FakeNode(chain), FakeNode(chain)]
    told: list[Block] = []
    async with serving(*nodes), trio.open_nursery() as nursery:
        follower = Follower(1, told.append, poll_seconds=0.002)
        for node in nodes:
            nursery.start_soon(follower.follow, node.url)
        chain.decide(["a", "b"])
        chain.decide([])
        await until(lambda: follower.heights == {node.url: 2 for node in nodes})
        nursery.cancel_scope.cancel()
    assert [(block.height, block.ids, block.codes) for block in told] == [
        (1, ["a", "b"], ["", "coin.short"]),
        (2, [], []),
    ]


async def test_nodes_that_decide_differently_are_found_out() -> None:
    chain = Chain()
    chain.decide(["a"])
    nodes = [FakeNode(chain), FakeNode(chain, salt="other")]
    async with serving(*nodes):
        with pytest.RaisesGroup(pytest.RaisesExc(Disagreement, match="height 1")):
            async with trio.open_nursery() as nursery:
                follower = Follower(1, lambda block: None, poll_seconds=0.002)
                for node in nodes:
                    nursery.start_soon(follower.follow, node.url)


async def test_heights_are_those_of_the_nodes_that_answer() -> None:
    chain = Chain()
    chain.decide([])
    node = FakeNode(chain)
    async with serving(node):
        assert await heights_of([node.url, "http://127.0.0.1:1"]) == {node.url: 1}


async def test_an_observer_knows_how_fast_blocks_and_transactions_come() -> None:
    chain = Chain()
    node = FakeNode(chain)
    for _ in range(5):
        chain.decide(["a", "b"])
    async with serving(node):
        observer = Observer(node.url)
        await observer._learn(5)
        assert observer._block_time_ms() == 100
        assert observer._rate() == 20.0
        await observer.close()
