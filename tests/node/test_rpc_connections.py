"""Real connections: large bodies, slow and silent clients, too many of them, and a stop that waits for nobody."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router

from node.rpc import connections as connections_module
from node.rpc.bodies import read_body
from node.rpc.connections import Connections, PortInUse, listen
from node.rpc.errors import TooLarge
from node.rpc.face import LastWords

LIMIT = 10_000
LARGE = b"x" * 8_000_000


async def _post(request: Request) -> Response:
    try:
        body = await read_body(request.receive, declared=None, bytes_max=LIMIT)
    except TooLarge:
        return LastWords(Response(b"too large", status_code=413))
    return Response(str(len(body)))


async def _large(request: Request) -> Response:
    return Response(LARGE * 4)  # more than the kernel keeps for a client that does not read


@asynccontextmanager
async def serving(*, total_max: int = 10) -> AsyncIterator[int]:
    """A small application on a real port."""
    app: Any = Router([Route("/", _post, methods=["POST"]), Route("/large", _large)])
    served = Connections(app, total_max=total_max, websocket_bytes_max=1_000)
    listeners = listen("127.0.0.1", 0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(served.serve, listeners)
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def connect(port: int) -> trio.SocketStream:
    """A client."""
    return await trio.open_tcp_stream("127.0.0.1", port)


async def answer(stream: trio.SocketStream) -> tuple[int, bytes]:
    """Status and body of the next answer."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = await stream.receive_some()
        assert part, data
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(
        next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")).split(b":")[1]
    )
    while len(body) < length:
        part = await stream.receive_some()
        assert part, "cut off"
        body += part
    return int(head.split()[1]), body


async def is_hung_up(stream: trio.SocketStream) -> bool:
    """Whether the server has closed the connection without a word."""
    try:
        return await stream.receive_some() == b""
    except trio.BrokenResourceError:
        return True


def post(body: bytes) -> bytes:
    """A request."""
    return b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)


async def test_a_connection_is_kept_for_many_requests() -> None:
    with trio.fail_after(60):  # a second of work, of which a busy machine makes ten
        async with serving() as port, await connect(port) as stream:
            for _ in range(1_100):
                await stream.send_all(post(b"abc"))
                assert await answer(stream) == (200, b"3")


async def test_a_client_that_sends_too_much_reads_its_refusal_and_others_are_served() -> None:
    with trio.fail_after(10):
        async with serving() as port, await connect(port) as stream, await connect(port) as other:
            await stream.send_all(post(LARGE))
            await other.send_all(post(b"abc"))
            assert await answer(other) == (200, b"3")
            assert await answer(stream) == (413, b"too large")
            assert await stream.receive_some() == b""


async def test_garbage_and_half_requests_end_only_their_own_connection() -> None:
    with trio.fail_after(10):
        async with serving() as port:
            for garbage in (
                b"\x00\xff\r\n\r\n",
                b"GET \xff / HTTP/9\r\n\r\n",
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 64,
            ):
                async with await connect(port) as stream:
                    await stream.send_all(garbage)
                    await stream.send_eof()
                    while await stream.receive_some():
                        pass
            async with await connect(port) as stream:
                await stream.send_all(b"POST / HTTP/1.1\r\nhost: loc")
            async with await connect(port) as stream:
                await stream.send_all(post(b"abc"))
                assert await answer(stream) == (200, b"3")


async def test_connections_are_bounded() -> None:
    with trio.fail_after(10):
        async with serving(total_max=1) as port, await connect(port) as first:
            await first.send_all(post(b"abc"))
            assert await answer(first) == (200, b"3")
            await first.send_all(b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 3\r\n\r\na")
            await trio.testing.wait_all_tasks_blocked(0.05)
            async with await connect(port) as second:
                assert await is_hung_up(second)
            await first.send_all(b"bc")
            assert await answer(first) == (200, b"3")


async def test_who_asks_nothing_makes_room_for_who_does() -> None:
    """Silent connections and half requests, dribbled for ever, keep nobody out; a request in work is left alone."""
    with trio.fail_after(10):
        async with serving(total_max=3) as port, await connect(port) as busy:
            await busy.send_all(b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 3\r\n\r\na")
            await trio.testing.wait_all_tasks_blocked(0.05)
            async with contextlib.AsyncExitStack() as opened:
                slow = [await opened.enter_async_context(await connect(port)) for _ in range(2)]
                for stream in slow:
                    await stream.send_all(b"POST / HTTP/1.1\r\nhost: loc")
                await trio.testing.wait_all_tasks_blocked(0.05)
                for _ in range(3):
                    other = await opened.enter_async_context(await connect(port))
                    await other.send_all(post(b"abc"))
                    assert await answer(other) == (200, b"3")
                assert await is_hung_up(slow[0])
                await busy.send_all(b"bc")
                assert await answer(busy) == (200, b"3")


async def test_one_connection_can_not_ask_many_things_at_once_by_http2() -> None:
    assert connections_module._hypercorn_config(1_000).h2_max_concurrent_streams == 1


async def test_a_client_that_does_not_read_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections_module, "SEND_SECONDS_MAX", 0.2)
    with trio.fail_after(10):
        async with serving(total_max=1) as port, await connect(port) as deaf:
            await deaf.send_all(b"GET /large HTTP/1.1\r\nhost: localhost\r\n\r\n")
            while True:  # its place is free once it is cut off
                async with await connect(port) as other:
                    try:
                        await other.send_all(post(b"abc"))
                        assert await answer(other) == (200, b"3")
                        break
                    except (trio.BrokenResourceError, AssertionError):
                        await trio.lowlevel.checkpoint()


async def test_a_stop_does_not_wait_for_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections_module, "SEND_SECONDS_MAX", 0.5)
    with trio.fail_after(5):
        async with serving() as port:
            deaf = await connect(port)
            await deaf.send_all(b"GET /large HTTP/1.1\r\nhost: localhost\r\n\r\n")
            silent = await connect(port)
            await silent.send_all(b"POST / HTTP/1.1\r\n")
            half = await connect(port)
            await half.send_all(post(b"abc"))
            assert await answer(half) == (200, b"3")
    for stream in (deaf, silent, half):
        await stream.aclose()


async def test_a_port_in_use_is_said_in_one_sentence() -> None:
    async with serving() as port:
        with pytest.raises(PortInUse, match=f"127.0.0.1:{port}.*rpc.listen"):
            listen("127.0.0.1", port)


def test_answers_are_json() -> None:
    assert json.loads(bytes(LastWords(Response(b'{"a":1}', status_code=413)).body)) == {"a": 1}
