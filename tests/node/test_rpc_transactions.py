"""Transactions by RPC: prepared, signed elsewhere, assembled, broadcast, waited for, refused with stable codes."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from consensus.application import Result
from consensus.signing import public_key, sign
from consensus.transaction import Transaction
from node.rpc.errors import InvalidParams, TimedOut, TransactionRefused
from node.rpc.shapes import result_json
from tests.node.fake_town import FakeTown
from tests.node.served import ANNA, COINS, STRANGER, Served, address, served, text


async def balance(town: Served, seed: bytes) -> Any:
    """The coins of *seed*'s account."""
    return (await town.call("query", path="coin/balance", args={"address": address(seed)}))["answer"]


async def test_who_only_knows_how_to_sign_can_pay(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    async with served(tmp_path) as town:
        message = {"coin.send": {"to": address(STRANGER), "amount": 42}}
        prepared = await town.call("prepare_tx", messages=[message], signers=[public_key(ANNA).hex()])
        assert prepared["sender"] == address(ANNA)
        assert prepared["nonce"] == 0
        assert prepared["messages"][0]["coin.send"]["amount"] == 42
        signature = sign(ANNA, base64.b64decode(prepared["sign_bytes"]))
        assembled = await town.call("assemble_tx", body=prepared["body"], signatures=[signature.hex()])
        answer = await town.call("broadcast_tx_commit", tx=assembled["tx"])
        assert (answer["code"], answer["result"]["code"], answer["hash"]) == ("", "", assembled["hash"])
        assert await balance(town, STRANGER) == COINS + 42


async def test_the_next_nonce_counts_what_waits(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    async with served(tmp_path) as town:
        await town.height(1)
        await town.services.submit([town.payment(nonce=0).raw, town.payment(nonce=1).raw])
        assert await town.call("next_nonce", address=address(ANNA)) == {"next_nonce": 2}
        prepared = await town.call(
            "prepare_tx",
            messages=[{"coin.send": {"to": address(STRANGER), "amount": 1}}],
            sender=address(ANNA),
            signers=[public_key(ANNA).hex()],
        )
        assert prepared["nonce"] == 2


async def test_what_cannot_be_prepared_says_why(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    async with served(tmp_path) as town:
        signers = [public_key(ANNA).hex()]
        with pytest.raises(TransactionRefused) as refused:
            await town.call("prepare_tx", messages=[{"coin.nothing": {}}], signers=signers)
        assert refused.value.code == "query.unknown_message"
        negative = {"coin.send": {"to": address(STRANGER), "amount": -1}}
        with pytest.raises(TransactionRefused, match="amount"):
            await town.call("prepare_tx", messages=[negative], signers=signers)
        with pytest.raises(TransactionRefused):
            await town.call("prepare_tx", messages=[], signers=signers)
        with pytest.raises(InvalidParams, match="signers"):
            await town.call("prepare_tx", messages=[], sender=address(ANNA))


async def test_what_cannot_be_assembled_says_why(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    async with served(tmp_path) as town:
        message = {"coin.send": {"to": address(STRANGER), "amount": 1}}
        prepared = await town.call("prepare_tx", messages=[message], signers=[public_key(ANNA).hex()])
        with pytest.raises(TransactionRefused) as refused:
            await town.call("assemble_tx", body=prepared["body"], signatures=["00" * 64])
        assert refused.value.code == "tx.signature"
        with pytest.raises(TransactionRefused, match="one signature"):
            await town.call("assemble_tx", body=prepared["body"], signatures=[])
        for body in ("", "AA==", "wA=="):
            with pytest.raises(TransactionRefused):
                await town.call("assemble_tx", body=body, signatures=[])


async def test_a_refused_message_is_in_a_block_with_its_code(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with served(tmp_path) as town:
        answer = await town.call("broadcast_tx_commit", tx=text(town.payment(2 * COINS)))
        assert answer["code"] == ""
        assert answer["result"]["code"] == "coin.short"
        assert "{" not in answer["result"]["text"]
        assert await balance(town, STRANGER) == COINS


async def test_what_is_inadmissible_is_refused_with_its_code(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with served(tmp_path) as town:
        await town.height(1)
        forged = town.payment().raw[:-1] + b"\x00"
        for raw in (b"", b"\xc0", forged, town.payment(chain_id="other").raw, town.payment(seed=STRANGER).raw):
            answer = await town.call("broadcast_tx_commit", tx=base64.b64encode(raw).decode())
            assert answer["code"].split(".")[0] in ("tx", "bad_message")
            assert answer["text"]
            assert "height" not in answer


async def test_check_says_what_the_pool_would_and_hands_nothing_in(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with served(tmp_path) as town:
        await town.height(1)
        checked = await town.call("check_tx", tx=text(town.payment()))
        assert (checked["code"], checked["next_nonce"]) == ("", 0)
        assert (await town.call("check_tx", tx=text(town.payment(chain_id="other"))))["code"] == "tx.wrong_chain"
        assert (await town.call("check_tx", tx="wA=="))["code"].startswith("bad_message")
        assert (await town.call("num_unconfirmed_txs"))["n_txs"] == 0


async def test_waiting_for_a_block_is_bounded(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    async with served(tmp_path) as town:
        started = trio.current_time()
        parked = town.payment(nonce=5)
        with pytest.raises(TimedOut) as late:
            await town.call("broadcast_tx_commit", tx=text(parked), wait_ms=4_000)
        assert late.value.details["hash"] == parked.id.hex()
        assert trio.current_time() - started == pytest.approx(4)


async def test_the_same_bytes_again_find_their_block(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    async with served(tmp_path) as town:
        payment = text(town.payment())
        first = await town.call("broadcast_tx_commit", tx=payment)
        again = await town.call("broadcast_tx_commit", tx=payment)
        assert again == first


async def test_a_run_of_broadcasts_in_a_batch_is_one_submission(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with served(tmp_path) as town:
        await town.height(1)
        submissions: list[int] = []
        submit = town.services.submit

        async def counted(raws: Any) -> Any:
            submissions.append(len(raws))
            return await submit(raws)

        object.__setattr__(town.services, "submit", counted)
        calls = [
            {
                "jsonrpc": "2.0",
                "id": nonce,
                "method": "broadcast_tx_sync",
                "params": {"tx": text(town.payment(nonce=nonce))},
            }
            for nonce in range(5)
        ]
        calls.insert(2, {"jsonrpc": "2.0", "id": "bad", "method": "broadcast_tx_sync", "params": {"tx": "!"}})
        calls.insert(5, {"jsonrpc": "2.0", "id": "health", "method": "health"})
        answers = await town.post(calls)
        assert submissions == [4, 1]
        assert [answer["id"] for answer in answers] == [0, 1, "bad", 2, 3, "health", 4]
        assert answers[2]["error"]["data"]["code"] == "rpc.invalid_params"
        assert [answer["result"]["code"] for answer in answers if answer.get("result")] == [""] * 5


@pytest.mark.parametrize("depth", [6, 60, 200])
async def test_messages_that_no_node_could_decode_are_not_prepared(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, depth: int
) -> None:
    messages: list[Any] = []
    for _ in range(depth):
        messages = [{"governance.propose": {"title": "again", "body_hash": "00" * 32, "messages": messages}}]
    async with served(tmp_path) as town:
        with pytest.raises(TransactionRefused) as refused:
            await town.call("prepare_tx", messages=messages, signers=[public_key(ANNA).hex()])
        assert refused.value.code in ("bad_message.too_deep", "query.bad_arguments")


async def test_where_a_transaction_is_and_why_it_waits(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    async with served(tmp_path) as town:
        await town.height(1)

        async def where(transaction: Transaction) -> Any:
            return await town.call("tx_status", hash=transaction.id.hex())

        paid, late, refused = town.payment(), town.payment(nonce=4), town.payment(chain_id="other")
        assert (await where(paid))["where"] == "nowhere"
        await town.call("broadcast_tx_commit", tx=text(paid))
        found = await where(paid)
        assert (found["where"], found["index"]) == ("block", 0)
        await town.call("broadcast_tx_sync", tx=text(late))
        waits = await where(late)
        assert (waits["where"], waits["next_nonce"], waits["missing_nonces"]) == ("pool", 1, [1, 2, 3])
        assert "nonce 1, 2, 3 is missing" in waits["text"]
        assert waits["brought_by"] == "a client of this node"
        await town.call("broadcast_tx_sync", tx=text(refused))
        assert (await where(refused))["code"] == "tx.wrong_chain"
        await town.services.submit([town.payment(nonce=nonce).raw for nonce in (1, 2, 3)])
        assert "go before it, and 0 others pay more" in (await where(late))["text"]
        assert "it is its turn" in (await where(town.payment(nonce=1)))["text"]
        await town.height(town.services.store.height + 1)
        assert (await where(late))["where"] == "block"


@pytest.mark.parametrize(
    ("declared", "shown"),
    [
        ("the account has too few coins: {has}, and {amount} are needed", "the account has too few coins"),
        ("the account is closed: ask its owner", "the account is closed: ask its owner"),
        (None, "coin.short"),
    ],
)
def test_the_sentence_of_a_stored_refusal_has_no_holes(
    monkeypatch: pytest.MonkeyPatch, declared: str | None, shown: str
) -> None:
    app = FakeTown()
    monkeypatch.setattr(app, "refusal_text", lambda code: declared)
    assert result_json(app, Result("coin.short", 1, 0, ()))["text"] == shown
