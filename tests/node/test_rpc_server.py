"""The HTTP face: POST, GET, documents, and everything that is refused before a method runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import trio.testing

from consensus.application import EngineFault
from node.store import StoreFailed
from tests.node.served import served


def code(body: bytes) -> Any:
    """The code string of an error answer."""
    return json.loads(body)["error"]["data"]["code"]


async def test_reads_go_by_get_too(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    async with served(tmp_path) as town:
        await town.height(1)
        status, body = await town.http("GET", "/header?height=1")
        assert status == 200
        shown = json.loads(body)["result"]["header"]
        status, body = await town.http("GET", f"/header?hash={shown['hash']}")
        assert json.loads(body)["result"]["header"] == shown
        status, body = await town.http("GET", "/header?height=x")
        assert (status, code(body)) == (400, "rpc.invalid_params")
        status, body = await town.http("GET", "/header?height=99999")
        assert (status, code(body)) == (404, "rpc.not_found")
        status, body = await town.http("GET", "/nothing")
        assert (status, code(body)) == (404, "rpc.method_not_found")


async def test_a_link_sends_nothing(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    async with served(tmp_path) as town:
        status, body = await town.http("GET", "/broadcast_tx_sync?tx=AA==")
        assert (status, code(body)) == (400, "rpc.invalid_request")


async def test_documents_and_metrics_are_served(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    async with served(tmp_path) as town:
        await town.height(1)
        status, body = await town.http("GET", "/openrpc.json")
        document = json.loads(body)
        assert status == 200
        names = [each["name"] for each in document["methods"]]
        assert {"status", "block", "query", "prepare_tx", "subscribe", "broadcast_tx_commit"} <= set(names)
        assert all(each["summary"] for each in document["methods"])
        assert "send" in document["x-application"]["modules"]["coin"]["messages"]
        assert document["components"]["errors"]["NotFound"]["code"] == -32010
        await town.post({"jsonrpc": "2.0", "id": 1, "method": "health"})
        status, body = await town.http("GET", "/metrics")
        assert b"allting_consensus_height 1.0" in body
        assert b'allting_rpc_calls_total{method="health"} 1.0' in body
        status, body = await town.http("GET", "/")
        assert "status" in json.loads(body)["methods"]


async def test_a_batch_is_answered_in_order_and_a_long_one_refused(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with served(tmp_path) as town:
        call = {"jsonrpc": "2.0", "method": "health"}
        answers = await town.post([{**call, "id": 1}, call, {**call, "id": 2}, 5])
        assert [answer["id"] for answer in answers] == [1, 2, None]
        refused = await town.post([{**call, "id": 1}] * 10_000)
        assert refused["error"]["data"]["code"] == "rpc.batch_too_large"
        assert await town.post(call) is None


async def test_a_batch_is_answered_up_to_a_size(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fifty full blocks would be more than the rest of the node: what asks for no answer costs nothing."""
    monkeypatch.setattr("node.rpc.dispatch.BATCH_ANSWER_BYTES_MAX", 100)
    async with served(tmp_path) as town:
        genesis = {"jsonrpc": "2.0", "method": "genesis"}
        first, second, third = await town.post([genesis, *({**genesis, "id": number} for number in range(3))])
        assert first["result"]
        for number, refused in ((1, second), (2, third)):
            assert (refused["id"], refused["error"]["data"]["code"]) == (number, "rpc.batch_too_large")


async def test_what_is_no_request_is_refused_with_a_code(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with served(tmp_path) as town:
        for body, expected in ((b"{", "rpc.parse"), (b"[]", "rpc.invalid_request"), (b"[" * 60_000, "rpc.parse")):
            status, answer = await town.http("POST", "/", body)
            assert (status, code(answer)) == (400, expected)


async def test_a_large_body_and_a_foreign_host_are_refused(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with served(tmp_path, body_bytes_max=1_024) as town:
        status, body = await town.http("POST", "/", b"x", headers=[("content-length", "100000000")])
        assert (status, code(body)) == (413, "rpc.too_large")
        status, body = await town.http("POST", "/", b"x" * 1_025, headers=[("content-length", "nonsense")])
        assert (status, code(body)) == (413, "rpc.too_large")
        for method, path in (("POST", "/"), ("GET", "/status"), ("GET", "/metrics"), ("GET", "/openrpc.json")):
            status, body = await town.http(method, path, b"{}", headers=[("host", "evil.example")])
            assert (status, code(body)) == (403, "rpc.foreign_host")


async def test_an_address_is_limited_and_loopback_is_not(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with served(tmp_path, calls_per_second_max=1) as town:
        body = json.dumps([{"jsonrpc": "2.0", "id": 1, "method": "health"}] * 5).encode()
        assert (await town.http("POST", "/", body, client="10.0.0.9"))[0] == 200
        status, answer = await town.http("POST", "/", body, client="10.0.0.9")
        assert (status, code(answer)) == (429, "rpc.limited")
        for _ in range(3):
            assert (await town.http("POST", "/", body))[0] == 200


async def test_a_defect_in_a_method_is_an_internal_error_and_the_node_goes_on(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with served(tmp_path) as town:

        async def broken() -> None:
            raise RuntimeError("inner detail")

        method = town.server.dispatcher.methods["health"]
        object.__setattr__(method, "handler", broken)
        answer = await town.post({"jsonrpc": "2.0", "id": 1, "method": "health"})
        assert answer["error"]["data"]["code"] == "rpc.internal"
        assert "inner detail" not in json.dumps(answer)
        assert "result" in await town.post({"jsonrpc": "2.0", "id": 1, "method": "status"})


async def test_a_disk_that_fails_stops_the_node_instead_of_being_an_answer(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with served(tmp_path) as town:

        async def failing() -> None:
            raise StoreFailed("the disk is full")

        object.__setattr__(town.server.dispatcher.methods["health"], "handler", failing)
        with pytest.raises(EngineFault, match="disk is full"):
            await town.post({"jsonrpc": "2.0", "id": 1, "method": "health"})


async def test_odd_text_is_answered_with_a_code_and_never_with_silence(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with served(tmp_path) as town:
        await town.height(1)
        call = {"jsonrpc": "2.0", "id": 1, "method": "broadcast_tx_sync", "params": {"tx": "\u00e9"}}
        [refused, health] = await town.post([call, {"jsonrpc": "2.0", "id": 2, "method": "health"}])
        assert refused["error"]["data"]["code"] == "rpc.invalid_params"
        assert health["result"] == {}
        for path in ("/query?path=%22%5Cud800%22", "/tx_search?event=%22%5Cud800%22", "/events?module=%22%5Cud800%22"):
            status, body = await town.http("GET", path)
            assert status in (200, 400)
            assert b"rpc.internal" not in body
        status, body = await town.http("GET", "/health", headers=[("origin", "http://[")])
        assert (status, code(body)) == (403, "rpc.foreign_host")


async def test_paths_and_verbs_that_nobody_answers_are_refused_with_a_code(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with served(tmp_path) as town:
        for verb, path in (("GET", "/../../etc/passwd"), ("POST", "/health"), ("DELETE", "/"), ("OPTIONS", "/")):
            status, body = await town.http(verb, path)
            assert (status, code(body)) == (404, "rpc.method_not_found")


async def test_between_two_calls_the_rest_of_the_node_has_its_turn_however_many_clients_ask(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with served(tmp_path) as town:
        turns: list[str] = []

        async def slow() -> dict[str, Any]:
            turns.append("call")
            return {}

        async def consensus() -> None:
            while turns.count("call") < 40:
                turns.append("consensus")
                await trio.lowlevel.checkpoint()

        object.__setattr__(town.server.dispatcher.methods["health"], "handler", slow)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(consensus)
            for _ in range(4):
                nursery.start_soon(town.post, [{"jsonrpc": "2.0", "id": 1, "method": "health"}] * 10)
        runs = "".join("c" if turn == "call" else " " for turn in turns).split()
        assert max(map(len, runs)) <= 2
