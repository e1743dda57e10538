"""Reads of the chain by RPC: what was decided, in the promised shapes."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
import trio.testing

from consensus import merkle
from consensus.signing import public_key
from node.rpc import shapes
from node.rpc.errors import InvalidParams, NotFound, Pending
from tests.node.served import ANNA, CHAIN_ID, STRANGER, VALIDATOR, address, served, text


async def test_status_says_who_and_how_far(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    async with served(tmp_path) as town:
        await town.height(2)
        status = await town.call("status")
        sync = status["sync_info"]
        header = (await town.call("header"))["header"]
        assert status["node_info"]["network"] == CHAIN_ID
        assert sync["catching_up"] is False
        assert (sync["latest_block_height"], sync["latest_block_hash"]) == (header["height"], header["hash"])
        assert (sync["latest_app_hash"], sync["latest_block_time_ms"]) == (header["app_hash"], header["time_ms"])
        assert status["validator_info"]["power"] == 10
        assert status["validator_info"]["signing"] == "yes"
        assert status["validator_info"]["public_key"] == public_key(VALIDATOR).hex()


async def test_a_header_is_found_by_height_and_by_hash_and_reads_back(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with served(tmp_path) as town:
        await town.height(2)
        by_height = (await town.call("header", height=1))["header"]
        assert await town.call("header", hash=by_height["hash"]) == {"header": by_height}
        assert shapes.header_from_json(by_height) == town.services.store.header(1)
        with pytest.raises(InvalidParams, match="not both"):
            await town.call("header", height=1, hash=by_height["hash"])
        with pytest.raises(NotFound):
            await town.call("header", hash="00" * 32)


async def test_a_height_that_is_not_decided_is_not_found(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with served(tmp_path) as town:
        await town.height(1)
        for method in ("header", "block", "block_results", "commit", "light_block", "validators", "consensus_params"):
            with pytest.raises(NotFound):
                await town.call(method, height=1_000)
            with pytest.raises(NotFound):
                await town.call(method, height=0)


async def test_a_transaction_is_found_with_its_result_and_proof(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with served(tmp_path) as town:
        payment = town.payment(7)
        answer = await town.call("broadcast_tx_commit", tx=text(payment))
        found = await town.call("tx", hash=payment.id.hex(), prove=True)
        assert (found["height"], found["index"]) == (answer["height"], answer["index"])
        assert base64.b64decode(found["tx"]) == payment.raw
        assert found["result"]["code"] == ""
        assert found["body"]["sender"] == address(ANNA)
        assert found["body"]["messages"][0]["coin.send"]["amount"] == 7
        proof = found["proof"]
        siblings = tuple(bytes.fromhex(sibling) for sibling in proof["siblings"])
        whole = merkle.Proof(proof["index"], proof["total"], siblings)
        assert merkle.verify(bytes.fromhex(proof["root"]), payment.id, whole)


async def test_a_block_has_its_bodies_and_results(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    async with served(tmp_path) as town:
        payment = town.payment()
        height = (await town.call("broadcast_tx_commit", tx=text(payment)))["height"]
        block = await town.call("block", height=height)
        assert block["block_id"] == block["block"]["header"]["hash"]
        assert block["block"]["transactions"] == [text(payment)]
        assert block["block"]["transaction_ids"] == [payment.id.hex()]
        results = await town.call("block_results", height=height)
        bare = await town.call("block_results", height=height, events=False)
        assert [result["code"] for result in bare["transactions"]] == [it["code"] for it in results["transactions"]]
        assert not any("events" in result for result in bare["transactions"])
        assert [event["name"] for event in results["transactions"][0]["events"]] == ["sent"]
        assert results["begin"]["code"] == results["end"]["code"] == ""


async def test_light_blocks_read_back_as_the_facts_that_they_show(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with served(tmp_path) as town:
        await town.height(3)
        store = town.services.store
        shown = await town.call("light_block", height=2)
        commit, canonical = store.commit_of(2)
        assert shapes.commit_from_json(shown["commit"]) == commit
        assert shown["commit"]["canonical"] is canonical is True
        assert shapes.validators_from_json(shown["validators"]).hash == store.header(2).validators_hash
        assert shapes.validators_from_json(shown["next_validators"]).hash == store.header(2).next_validators_hash
        assert (await town.call("commit", height=2))["commit"] == shown["commit"]


async def test_what_waits_is_shown_and_is_pending_until_decided(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with served(tmp_path) as town:
        await town.height(1)
        parked = town.payment(nonce=3)
        assert (await town.call("broadcast_tx_sync", tx=text(parked)))["code"] == ""
        assert await town.call("num_unconfirmed_txs") == {"n_txs": 1, "total_bytes": len(parked.raw)}
        assert (await town.call("unconfirmed_txs"))["txs"] == [text(parked)]
        with pytest.raises(Pending):
            await town.call("tx", hash=parked.id.hex())
        with pytest.raises(NotFound):
            await town.call("tx", hash="11" * 32)


async def test_search_pages_through_all_that_touched_an_address(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with served(tmp_path) as town:
        sent = [town.payment(amount, nonce=amount - 1) for amount in range(1, 6)]
        for payment in sent:
            await town.call("broadcast_tx_commit", tx=text(payment))
        found, after = [], None
        while True:
            page = await town.call("tx_search", address=address(STRANGER), limit=2, after=after)
            found += [each["hash"] for each in page["transactions"]]
            after = page["next"]
            if after is None:
                break
        assert list(dict.fromkeys(found)) == [payment.id.hex() for payment in sent]
        by_event = await town.call("tx_search", event="coin.sent")
        assert [each["hash"] for each in by_event["transactions"]] == [payment.id.hex() for payment in sent]
        assert (await town.call("tx_search", event="coin.nothing"))["transactions"] == []
        with pytest.raises(InvalidParams):
            await town.call("tx_search")


async def test_a_search_reads_each_block_once_and_lets_others_have_their_turn(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many transactions of a block are found, and however many blocks."""
    async with served(tmp_path) as town:
        for nonce in (1, 2, 3):
            await town.call("broadcast_tx_sync", tx=text(town.payment(5, nonce=nonce)))
        for nonce in (0, 4):
            await town.call("broadcast_tx_commit", tx=text(town.payment(5, nonce=nonce)))
        turns = 0
        reads: list[tuple[int, int]] = []
        read = town.services.store.block_transactions

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await trio.lowlevel.checkpoint()

        def noted(height: int) -> tuple[bytes, ...]:
            reads.append((height, turns))
            return read(height)

        monkeypatch.setattr(town.services.store, "block_transactions", noted)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(other)
            found = (await town.call("tx_search", event="coin.sent"))["transactions"]
            nursery.cancel_scope.cancel()
        heights = sorted({each["height"] for each in found})
        assert (len(found), len(heights)) == (5, 2)
        assert [height for height, _ in reads] == heights
        assert reads[0][1] < reads[1][1]


async def test_the_rest_of_the_reads_answer(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    async with served(tmp_path) as town:
        await town.height(3)
        assert await town.call("health") == {}
        genesis = await town.call("genesis")
        assert genesis["hash"] == town.services.genesis.hash.hex()
        assert genesis["document"].encode() == town.services.genesis.raw
        validators = await town.call("validators", height=1)
        assert (validators["total"], validators["total_power"]) == (1, 10)
        assert (await town.call("validators", page=2, per_page=1))["validators"] == []
        assert (await town.call("consensus_params"))["params"]["heartbeat_ms"] == 1_000
        chain = await town.call("blockchain", min_height=2, max_height=3)
        assert [header["height"] for header in chain["headers"]] == [3, 2]
        assert (await town.call("consensus_state"))["height"] >= 3
        assert (await town.call("net_info"))["node_id"] == town.services.network.node_id.hex()
