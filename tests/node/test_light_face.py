"""What else the light client shows and takes: documents, numbers, WebSockets refused; transactions on their way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest
import trio
import trio.testing

from consensus.transaction import Body, Message
from node.config import RpcConfig
from node.light import passing
from node.light.passing import PassedOn
from node.light.server import serve_light
from node.light.source import SourceRefused
from node.rpc import shapes
from node.rpc.errors import InvalidParams, NotShown, TimedOut, TransactionRefused
from tests.node.light_net import DirectSource, Proxy, honest, proxy
from tests.node.served import ANNA, STRANGER, Served, address, served, text
from tests.node.test_divergence_pool import attack

Clock = trio.testing.MockClock


async def http(light: Proxy, method: str, path: str) -> tuple[int, Any]:
    """Status and JSON of a request to the light client."""
    status, body = await Served.http(cast(Served, light), method, path)  # asks nothing of a town but its server
    return status, json.loads(body)


async def test_documents_and_reads_by_get(tmp_path: Path, autojump_clock: Clock) -> None:
    async with served(tmp_path) as town, proxy(tmp_path / "light", honest(town)) as light:
        await town.height(3)
        status, shown = await http(light, "GET", "/header?height=2")
        assert (status, shown["result"]["header"]["height"]) == (200, 2)
        status, shown = await http(light, "GET", "/net_info")
        assert (status, shown["error"]["data"]["code"]) == (501, "light.unverifiable")
        status, shown = await http(light, "GET", "/openrpc.json")
        assert shown["info"]["title"] == "Allting light client of served-1"
        assert {"query", "tx_search"} <= {method["name"] for method in shown["methods"]}
        _, body = await Served.http(cast(Served, light), "GET", "/metrics")
        assert b"allting_light_height 2.0" in body
        assert b"allting_light_witnesses 2.0" in body
        assert b"allting_light_diverged 0.0" in body


async def test_a_real_client_is_served_and_a_websocket_is_refused(tmp_path: Path) -> None:
    """By a sentence with a code."""
    async with served(tmp_path) as town, proxy(tmp_path / "light", honest(town)) as light, trio.open_nursery() as own:
        url = await own.start(serve_light, light.light, RpcConfig(listen="127.0.0.1:0"))
        port = int(url.rpartition(":")[2])
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(
            b"GET /websocket HTTP/1.1\r\nhost: 127.0.0.1\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
            b"sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        with trio.fail_after(20):
            answer = b""
            while b"light.unverifiable" not in answer:
                part = await stream.receive_some()
                assert part, answer
                answer += part
        await stream.aclose()
        own.cancel_scope.cancel()


async def test_a_transaction_that_waits_long_is_said_to_wait(tmp_path: Path, autojump_clock: Clock) -> None:
    """The node's time is up, not ours; the nonce counts as taken."""
    async with served(tmp_path) as town:
        await town.height(2)
        slow = DirectSource(town, "http://slow")
        honest_call = slow.call

        async def call(method: str, **how: Any) -> Any:
            if method == "broadcast_tx_commit":
                raise SourceRefused("not yet", code="rpc.timed_out", data={})
            return await honest_call(method, **how)

        sources = [slow, *honest(town, 1)]
        for source in sources:
            source.call = call  # type: ignore[method-assign]  # as a node whose pool is full of others does
        async with proxy(tmp_path / "light", sources) as light:
            with pytest.raises(TimedOut):
                await light.call("broadcast_tx_commit", tx=text(town.payment()), wait_ms=10)
            assert (await light.call("next_nonce", address=address(ANNA)))["next_nonce"] == 1


async def test_refusals_of_all_nodes_come_with_what_they_said(tmp_path: Path, autojump_clock: Clock) -> None:
    async with served(tmp_path) as town:
        await town.height(2)
        sources = honest(town, 2)

        async def call(method: str, **how: Any) -> Any:
            raise SourceRefused("too many calls", code="rpc.limited", data={})

        for source in sources:
            source.call = call  # type: ignore[method-assign]  # a node that limits us
        async with proxy(tmp_path / "light", sources) as light:
            with pytest.raises(NotShown) as refusal:
                await light.call("broadcast_tx_commit", tx=text(town.payment()))
            assert refusal.value.details["reason"] == "rpc.limited"
            assert len(refusal.value.details["said"]) == 2


async def test_a_node_that_answers_for_another_transaction_lies(tmp_path: Path, autojump_clock: Clock) -> None:
    async with served(tmp_path) as town:
        await town.height(2)

        def other(method: str, answer: Any) -> Any:
            return {**answer, "hash": "00" * 32} if method == "broadcast_tx_sync" else answer

        async with proxy(tmp_path / "light", [DirectSource(town, "http://liar", other), *honest(town)]) as light:
            payment = text(town.payment())
            assert (await light.call("broadcast_tx_sync", tx=payment))["code"] in ("", "mempool.known", "tx.known")
            assert list(light.light.sources.dropped) == ["http://liar"]


async def test_prepared_bytes_are_made_here(tmp_path: Path, autojump_clock: Clock) -> None:
    """From a proved account, whatever the node would prepare."""
    async with served(tmp_path) as town, proxy(tmp_path / "light", honest(town)) as light:
        await town.height(2)
        message = {"coin.send": {"to": address(STRANGER), "amount": 5}}
        signers = [town.payment().body.signers[0].hex()]
        here = await light.call("prepare_tx", messages=[message], signers=signers, valid_until_ms=5)
        assert here == await town.call("prepare_tx", messages=[message], signers=signers, valid_until_ms=5)
        assert "prepare_tx" not in light.sources[0].methods()
        with pytest.raises(TransactionRefused):
            await light.call("prepare_tx", messages=[{"coin.nothing": {}}], signers=signers)


async def test_evidence_is_handed_to_every_node(tmp_path: Path, autojump_clock: Clock) -> None:
    """What each made of it is its word."""
    async with served(tmp_path) as town, proxy(tmp_path / "light", honest(town)) as light:
        await town.height(6)
        light.sources[2].gone = True
        charge = shapes.base64_text(attack(town, 5).encoded)
        said = (await light.call("broadcast_evidence", evidence=charge))["said"]
        assert (said["http://node0"], said["http://node1"]) == ("", "")
        assert "gone" in said["http://node2"]
        assert len(town.services.divergences.known) == 1
        with pytest.raises(InvalidParams):
            await light.call("broadcast_evidence", evidence="AAAA")


def test_nonces_that_were_passed_on_are_bounded_and_end_with_their_validity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passing, "PASSED_MAX", 2)
    noted = PassedOn()
    bodies = [
        Body(
            chain_id="c",
            sender=bytes(20),
            nonce=nonce,
            valid_until_ms=100,
            fee=0,
            fee_payer=None,
            messages=(Message("coin", "send", ()),),
            signers=(),
        )
        for nonce in range(3)
    ]
    for body in bodies:
        noted.note(body)
    assert [noted.holds(bytes(20), nonce, 100) for nonce in range(4)] == [False, True, True, False]
    assert not noted.holds(bytes(20), 2, 101)
