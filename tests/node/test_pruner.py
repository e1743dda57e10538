"""A node forgets while it runs, and says truthfully what it still has."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import trio.testing

from node.config import StoreConfig
from node.pruner import BATCH_HEIGHTS, PAUSE_S, Pruner
from node.retention import BLOCKS, PARTS, STATES, Retention
from node.rpc.errors import NotFound, Pruned
from tests.node.served import ANNA, Served, address, served, text

SHORT = StoreConfig(
    keep_blocks="40 heights",
    keep_results="30 heights",
    keep_events="20 heights",
    keep_index="20 heights",
    keep_states="10 heights",
)


def _short(town: Served) -> Pruner:
    """A pruner that keeps little, over the town's store. Blocks stay longer: evidence may rest on them."""
    return Pruner(town.services.store, town.services.heights, SHORT.retention())


async def _forgotten(town: Served, heights: int) -> None:
    """*heights* are decided, and what is too old then is gone."""
    pruner = _short(town)
    await town.height(heights)
    while await pruner.step():
        pass


async def test_old_heights_go_while_the_node_runs(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    async with served(tmp_path) as town, trio.open_nursery() as nursery:
        await nursery.start(_short(town).run)
        for height in range(BATCH_HEIGHTS, 120, BATCH_HEIGHTS):
            await town.height(height)
            await trio.sleep(PAUSE_S * 3)
            earliest = town.services.store.kept.earliest
            assert earliest[BLOCKS] == 1, "two days have not passed: evidence can rest on every block"
            assert height - 10 - BATCH_HEIGHTS <= earliest[STATES] <= max(0, town.services.store.height - 9)
        nursery.cancel_scope.cancel()


async def test_what_is_pruned_is_said_with_where_it_begins(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with served(tmp_path) as town:
        payment = town.payment()
        height = (await town.call("broadcast_tx_commit", tx=text(payment)))["height"]
        cursor = (await town.call("events", limit=1))["next"]
        await _forgotten(town, 70)
        sync = (await town.call("status"))["sync_info"]
        earliest = town.services.store.kept.earliest
        assert sync["earliest_block_height"] == 1
        assert sync["earliest_state_height"] == earliest[STATES] > height
        assert sync["earliest_results_height"] < sync["earliest_events_height"] == sync["earliest_index_height"]
        assert await town.call("block", height=height)
        for method, params, part in (
            ("block_results", {"height": height}, "results"),
            ("query", {"path": "coin/balance", "args": {"address": address(ANNA)}, "height": height}, "states"),
            ("events", {"after": cursor}, "events"),
        ):
            with pytest.raises(Pruned, match=f"{part} begin at") as error:
                await town.call(method, **params)
            details = error.value.to_json()["data"]
            assert (details["code"], details["kept"]) == ("rpc.pruned", part)
            assert details["earliest_height"] == earliest[part]
        with pytest.raises(NotFound, match=f"below {earliest['index']} are not found here"):
            await town.call("tx", hash=payment.id.hex())
        found = await town.call("tx_search", address=address(ANNA))
        assert (found["transactions"], found["earliest_height"]) == ([], earliest["index"])


async def test_what_is_pinned_stays_until_it_is_let_go(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    async with served(tmp_path) as town:
        store = town.services.store
        await town.height(5)
        with store.kept.pins.hold(5):
            await _forgotten(town, 60)
            assert max(store.kept.earliest.values()) == 5
            assert not await store.prune(50) or store.kept.states.oldest == 5
            assert store.state(5).get("town", b"") is None
        await _forgotten(town, 60)
        assert store.kept.earliest[STATES] > 40


async def test_a_node_that_keeps_all_forgets_nothing(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    async with served(tmp_path) as town:
        everything = Retention.of(**dict.fromkeys(PARTS, "all"))
        pruner = Pruner(town.services.store, town.services.heights, everything)
        await town.height(40)
        assert await pruner.step(), "a start looks whether something is left over"
        assert not await pruner.step()
        assert town.services.store.kept.earliest == {**dict.fromkeys(PARTS, 1), STATES: 0}


def test_settings_reach_the_pruner() -> None:
    assert dataclasses.replace(SHORT, keep_states="all").retention().states.heights is None
