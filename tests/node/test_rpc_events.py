"""The event log by polling and by WebSocket: a slow reader goes on where it was and loses nothing."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from consensus.application import EngineFault
from node.rpc.errors import InvalidParams
from node.rpc.websocket import CALLS_AT_ONCE_MAX
from node.store import StoreFailed
from tests.node.served import Served, served, text


async def pay(town: Served, *nonces: int) -> list[str]:
    """Payments are in blocks; their hashes."""
    payments = [town.payment(nonce + 1, nonce=nonce) for nonce in nonces]
    for payment in payments:
        assert (await town.call("broadcast_tx_commit", tx=text(payment)))["result"]["code"] == ""
    return [payment.id.hex() for payment in payments]


def amounts(events: list[Any]) -> list[int]:
    """The amounts of payments among *events*."""
    return [each["event"]["amount"] for each in events if each["event"]["name"] == "sent"]


class Reader:
    """A WebSocket client of the ASGI application."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self._to_server, self._incoming = trio.open_memory_channel[MutableMapping[str, Any]](100)
        self._outgoing, self._from_server = trio.open_memory_channel[MutableMapping[str, Any]](0)

    async def run(self, *, host: str = "localhost") -> None:
        """The connection lives until the client hangs up."""
        scope = {
            "type": "websocket",
            "path": "/websocket",
            "raw_path": b"/websocket",
            "query_string": b"",
            "headers": [(b"host", host.encode())],
            "client": ("127.0.0.1", 50_000),
            "subprotocols": [],
            "extensions": {"websocket.http.response": {}},
        }
        await self._to_server.send({"type": "websocket.connect"})
        await self._server.app(scope, self._incoming.receive, self._outgoing.send)

    async def message(self) -> MutableMapping[str, Any]:
        """The next ASGI message from the server."""
        return await self._from_server.receive()

    async def next(self) -> Any:
        """The next JSON from the server."""
        return json.loads((await self.message())["text"])

    async def call(self, method: str, **params: Any) -> Any:
        """The answer to a call, if nothing else comes first."""
        request = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        await self._to_server.send({"type": "websocket.receive", "text": request})
        return await self.next()

    async def raw(self, data: bytes) -> Any:
        """The answer to any bytes."""
        await self._to_server.send({"type": "websocket.receive", "bytes": data})
        return await self.next()

    async def ask(self, count: int) -> None:
        """So many calls are sent, and no answer is read."""
        request = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "health"})
        for _ in range(count):
            await self._to_server.send({"type": "websocket.receive", "text": request})

    def unread_by_server(self) -> int:
        """Calls that the server has not looked at."""
        return self._incoming.statistics().current_buffer_used

    async def hang_up(self) -> None:
        """The client is gone."""
        await self._to_server.send({"type": "websocket.disconnect", "code": 1000})


@asynccontextmanager
async def connected(town: Served) -> AsyncIterator[Reader]:
    """An open WebSocket."""
    reader = Reader(town.server)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader.run)
        assert (await reader.message())["type"] == "websocket.accept"
        yield reader
        await reader.hang_up()
        nursery.cancel_scope.cancel()


async def test_polling_reads_every_event_once_whatever_the_page(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with served(tmp_path) as town:
        await pay(town, 0, 1, 2)
        for limit in (1, 2, 1000):
            found: list[Any] = []
            cursor = [0, 0, -1]
            while page := (await town.call("events", after=cursor, limit=limit))["events"]:
                found += page
                cursor = page[-1]["cursor"]
            assert amounts(found) == [1, 2, 3]
            assert [each["cursor"] for each in found] == sorted(each["cursor"] for each in found)
        only = (await town.call("events", module="governance"))["events"]
        assert all(each["event"]["module"] == "governance" for each in only)


async def test_a_long_poll_waits_for_the_next_event_and_no_longer_than_asked(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with served(tmp_path) as town:
        await pay(town, 0)
        cursor = (await town.call("events", limit=1000))["next"]
        started = trio.current_time()
        late = await town.call("events", after=cursor, wait_ms=2_500)
        assert late == {"events": [], "next": cursor}
        assert trio.current_time() - started == pytest.approx(2.5)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pay, town, 1)
            assert amounts((await town.call("events", after=cursor, wait_ms=60_000))["events"]) == [2]


async def test_a_subscriber_who_reads_slowly_loses_nothing_and_resumes(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with served(tmp_path) as town:
        await pay(town, 0)
        async with connected(town) as reader:
            number = (await reader.call("subscribe", after=[0, 0, -1], module="coin"))["result"]["subscription"]
            await pay(town, 1, 2, 3)
            await trio.sleep(30)
            first = (await reader.next())["params"]
            assert first["subscription"] == number
            found = first["events"]
            while len(amounts(found)) < 2:
                found += (await reader.next())["params"]["events"]
            cursor = found[-1]["cursor"]
        await pay(town, 4)
        async with connected(town) as reader:
            await reader.call("subscribe", after=cursor, module="coin")
            while len(amounts(found)) < 5:
                found += (await reader.next())["params"]["events"]
        assert amounts(found) == [1, 2, 3, 4, 5]


async def test_a_subscription_from_now_on_shows_only_what_comes(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with served(tmp_path) as town:
        await pay(town, 0)
        async with connected(town) as reader:
            await reader.call("subscribe", module="coin")
            await pay(town, 1)
            assert amounts((await reader.next())["params"]["events"]) == [2]


async def test_blocks_come_in_order_and_go_on_after_a_cursor(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with served(tmp_path) as town:
        await town.height(3)
        async with connected(town) as reader:
            await reader.call("subscribe", topic="blocks", after=[1, 0, -1])
            shown = [(await reader.next())["params"] for _ in range(4)]
            assert [each["header"]["height"] for each in shown] == [1, 2, 3, 4]
            assert shown[-1]["next"] == [5, 0, -1]


async def test_unsubscribing_ends_a_subscription_and_their_number_is_bounded(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with served(tmp_path, subscriptions_per_client_max=1) as town, connected(town) as reader:
        number = (await reader.call("subscribe", module="coin"))["result"]["subscription"]
        refused = await reader.call("subscribe")
        assert refused["error"]["data"]["code"] == "rpc.invalid_params"
        assert (await reader.call("unsubscribe", subscription=number))["result"] == {}
        assert (await reader.call("unsubscribe", subscription=number))["error"]["data"]["code"] == "rpc.not_found"
        assert "result" in await reader.call("subscribe", module="coin")


async def test_other_methods_and_garbage_are_answered_on_a_websocket(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with served(tmp_path) as town, connected(town) as reader:
        assert (await reader.call("health"))["result"] == {}
        assert (await reader.raw(b"\xff"))["error"]["data"]["code"] == "rpc.parse"
        assert (await reader.call("subscribe", topic="weather"))["error"]["data"]["code"] == "rpc.invalid_params"


async def test_a_client_that_takes_no_answers_is_read_no_further(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """Else its answers would fill the memory."""
    async with served(tmp_path) as town, connected(town) as reader:
        await reader.ask(50)
        await trio.sleep(1)
        assert 50 - reader.unread_by_server() <= CALLS_AT_ONCE_MAX + 1
        for _ in range(50):
            assert (await reader.next())["result"] == {}


async def test_subscribing_without_a_websocket_says_what_to_do(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with served(tmp_path) as town:
        with pytest.raises(InvalidParams, match="/websocket"):
            await town.call("subscribe")


async def test_websockets_are_bounded_and_only_for_named_hosts(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with served(tmp_path, websockets_max=1) as town, connected(town):
        for host in ("evil.example", "localhost"):
            late = Reader(town.server)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(partial(late.run, host=host))
                assert (await late.message())["type"] == "websocket.http.response.start"
                code = json.loads((await late.message())["body"])["error"]["data"]["code"]
            assert code == ("rpc.foreign_host" if host == "evil.example" else "rpc.limited")


async def test_a_disk_that_fails_stops_the_node_over_a_websocket_too(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async def failing() -> None:
        raise StoreFailed("the disk is full")

    async def ask() -> None:
        async with served(tmp_path) as town:
            object.__setattr__(town.server.dispatcher.methods["health"], "handler", failing)
            async with connected(town) as reader:
                await reader.call("health")

    with pytest.raises(BaseExceptionGroup) as stopped:
        await ask()
    assert stopped.value.subgroup(EngineFault) is not None
