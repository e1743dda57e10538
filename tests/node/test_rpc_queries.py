"""Queries by RPC: any height that is kept, refusals with codes, proofs that hold."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio.testing

from consensus import jellyfish
from node.rpc import shapes
from node.rpc.errors import NotFound, QueryFailed
from tests.node.served import ANNA, COINS, STRANGER, address, served, text

PATH = "coin/balance"


async def test_a_query_answers_at_any_height(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    async with served(tmp_path) as town:
        await town.height(2)
        height = (await town.call("broadcast_tx_commit", tx=text(town.payment(9))))["height"]
        arguments = {"address": address(STRANGER)}
        latest = await town.call("query", path=PATH, args=arguments)
        assert latest["answer"] == COINS + 9
        assert (await town.call("query", path=PATH, args=arguments, height=height - 1))["answer"] == COINS
        assert (await town.call("query", path=PATH, args=arguments, height=0))["answer"] == COINS
        with pytest.raises(NotFound):
            await town.call("query", path=PATH, args=arguments, height=10_000)


async def test_what_cannot_be_answered_says_why(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    async with served(tmp_path) as town:
        await town.height(1)
        for path, arguments, code in (
            ("coin/nothing", {}, "query.unknown"),
            ("nothing", {}, "query.unknown"),
            (PATH, {}, "query.bad_arguments"),
            (PATH, {"address": "x"}, "query.bad_arguments"),
        ):
            with pytest.raises(QueryFailed) as failed:
                await town.call("query", path=path, args=arguments)
            assert failed.value.code == code
        with pytest.raises(QueryFailed) as failed:
            await town.call("query", path="coin/accounts", prove=True)
        assert failed.value.code == "query.not_provable"
        with pytest.raises(NotFound):
            await town.call("query", path=PATH, args={"address": address(ANNA)}, height=0, prove=True)


async def test_a_proof_leads_to_the_headers_application_hash(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with served(tmp_path) as town:
        await town.height(2)
        answer = await town.call("query", path=PATH, args={"address": address(ANNA)}, prove=True)
        roots = shapes.module_roots_from_json(answer["proof"]["module_roots"])
        header = town.services.store.header(answer["height"])
        assert jellyfish.application_hash(roots) == header.app_hash
        [entry] = answer["proof"]["entries"]
        root = next(each.root for each in roots if each.module == entry["module"])
        value = bytes.fromhex(entry["value"])
        assert jellyfish.verify(root, bytes.fromhex(entry["key"]), value, shapes.tree_proof_from_json(entry))
