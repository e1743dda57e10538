"""The small client: one connection kept, faults told apart from refusals."""

from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import trio

from devnet.http import Connection, Refusal, Unreachable
from devnet.ports import free_ports
from tests.devnet.fake_node import Chain, FakeNode, serving


async def answering(reply: bytes, use: Callable[[Connection], Awaitable[None]]) -> None:
    """Lets *use* talk to a server that says *reply* to everything and closes."""

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some(65_536)
            await stream.send_all(reply)

    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(trio.serve_listeners, serve, [listener]))
        async with Connection(f"http://127.0.0.1:{port}", timeout_seconds=2.0) as connection:
            await use(connection)
        nursery.cancel_scope.cancel()


async def test_calls_and_batches_share_one_connection() -> None:
    node = FakeNode(Chain())
    async with serving(node), Connection(node.url) as connection:
        assert await connection.call("consensus_state") == {"round": 0}
        stream = connection._stream
        results = await connection.batch([("num_unconfirmed_txs", {}), ("block", {"height": 9})])
        assert results[0] == {"n_txs": 0}
        assert isinstance(results[1], Refusal)
        assert connection._stream is stream


async def test_a_refused_call_raises_with_its_code() -> None:
    node = FakeNode(Chain())
    async with serving(node), Connection(node.url) as connection:
        with pytest.raises(Refusal) as refusal:
            await connection.call("block", height=1)
        assert refusal.value.code == -32010


async def test_a_node_that_is_down_is_unreachable() -> None:
    [port] = free_ports(1)
    async with Connection(f"http://127.0.0.1:{port}") as connection:
        with pytest.raises(Unreachable):
            await connection.call("status")


async def test_a_node_that_stands_still_is_unreachable_after_the_time_out() -> None:
    node = FakeNode(Chain(), silent=True)
    async with serving(node), Connection(node.url, timeout_seconds=0.05) as connection:
        with pytest.raises(Unreachable):
            await connection.call("status")
        node.silent = False
        assert await connection.call("consensus_state") == {"round": 0}


@pytest.mark.parametrize(
    "reply",
    [
        b"SSH-2.0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ncontent-length: 999999999999\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]",
        b"",
    ],
)
async def test_what_is_no_answer_is_unreachable(reply: bytes) -> None:
    async def use(connection: Connection) -> None:
        with pytest.raises(Unreachable):
            await connection.call("status")

    await answering(reply, use)


async def test_errors_of_calls_come_with_4xx_and_are_refusals_all_the_same() -> None:
    body = b'{"jsonrpc":"2.0","id":0,"error":{"code":-32602,"message":"no","data":{"code":"rpc.invalid_params"}}}'

    async def use(connection: Connection) -> None:
        with pytest.raises(Refusal, match="no") as refusal:
            await connection.call("status")
        assert refusal.value.data == {"code": "rpc.invalid_params"}

    await answering(b"HTTP/1.1 400 Bad\r\nConnection: close\r\ncontent-length: %d\r\n\r\n" % len(body) + body, use)


async def test_a_get_is_its_body_and_needs_status_200() -> None:
    async def use(connection: Connection) -> None:
        assert await connection.get("/health") == b"{}"

    await answering(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", use)

    async def use_absent(connection: Connection) -> None:
        with pytest.raises(Unreachable, match="404"):
            await connection.get("/health")

    await answering(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", use_absent)
