"""Nodes behind URLs: whatever they send, it ends, and is bounded; and who is asked after whom."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio

from node.light import http_source
from node.light.faults import BadSource
from node.light.http_source import HttpSource
from node.light.source import SourceGone, SourceRefused
from node.light.sources import Sources
from node.rpc.errors import NoSource

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n"


@asynccontextmanager
async def node(answer: bytes, *, then_silent: bool = False) -> AsyncIterator[HttpSource]:
    """A source at whose URL every request gets *answer*."""

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some(65_536)
            await stream.send_all(answer)
            if then_silent:
                await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        assert isinstance(listener, trio.SocketListener)
        nursery.start_soon(partial(trio.serve_listeners, serve, [listener]))
        source = HttpSource(f"127.0.0.1:{listener.socket.getsockname()[1]}")
        try:
            yield source
        finally:
            await source.aclose()
        nursery.cancel_scope.cancel()


def http(body: bytes) -> bytes:
    """A whole HTTP answer."""
    return HEAD % len(body) + body


async def test_a_result_and_a_refusal() -> None:
    async with node(http(b'{"jsonrpc":"2.0","id":0,"result":{"a":1}}')) as source:
        assert await source.call("status", height=None) == {"a": 1}
        assert source.name.startswith("http://127.0.0.1:")
    refusal = b'{"jsonrpc":"2.0","id":0,"error":{"code":-32010,"message":"gone","data":{"code":"rpc.not_found"}}}'
    async with node(http(refusal)) as source:
        with pytest.raises(SourceRefused, match="gone") as refused:
            await source.call("header", height=1)
        assert (refused.value.code, refused.value.data) == ("rpc.not_found", {"code": "rpc.not_found"})
    async with node(http(b'{"error":{"code":-32010,"data":7}}')) as source:
        with pytest.raises(SourceRefused) as refused:
            await source.call("header", height=1)
        assert refused.value.code == "rpc.internal"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"garbage\r\n\r\n",
        http(b"not json"),
        http(b"[" * 100_000),
        http(b"5"),
        http(b"[]"),
        http(b'{"id":0}'),
        http(b'{"result":NaN}'),
        http(b'{"error":1}'),
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort",
        b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 100_000,
    ],
)
async def test_what_is_no_node_is_as_good_as_gone(answer: bytes) -> None:
    async with node(answer) as source:
        with pytest.raises(SourceGone):
            await source.call("status")


async def test_an_answer_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """In bytes and in time."""
    monkeypatch.setattr(http_source, "ANSWER_BYTES_MAX", 1_000)
    async with node(HEAD % 5_000 + b" " * 5_000) as source:
        with pytest.raises(SourceGone, match="more than 1000 bytes"):
            await source.call("status")
    async with node(HEAD % 900 + b" ", then_silent=True) as source:
        with pytest.raises(SourceGone, match="did not answer status within"):
            await source.call("status", wait_s=0.05)


async def test_a_kept_connection_is_used_again_and_opened_anew_when_it_was_closed() -> None:
    answers = [http(b'{"result":1}'), http(b'{"result":2}')]
    opened = 0

    async def serve(stream: trio.SocketStream) -> None:
        nonlocal opened
        opened += 1
        async with stream:
            for answer in answers:
                if not await stream.receive_some(65_536):
                    return
                await stream.send_all(answer)

    async with trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        assert isinstance(listener, trio.SocketListener)
        nursery.start_soon(partial(trio.serve_listeners, serve, [listener]))
        source = HttpSource(f"http://127.0.0.1:{listener.socket.getsockname()[1]}/")
        assert [await source.call("a") for _ in range(4)] == [1, 2, 1, 2]
        await source.aclose()
        nursery.cancel_scope.cancel()
    assert opened == 2


async def test_nobody_there_is_gone() -> None:
    async with node(b"") as source:
        pass
    source = HttpSource(source.name)
    with pytest.raises(SourceGone, match="can't be reached"):
        await source.call("status")
    await source.aclose()


@pytest.mark.parametrize("url", ["", "http://", "ftp://x", "http://a:99999", "http://[", "http://a:b"])
def test_a_url_that_is_none_says_what_one_looks_like(url: str) -> None:
    with pytest.raises(BadSource, match="looks like http://127"):
        HttpSource(url)


class Named:
    """A source that is never asked."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def call(self, method: str, *, wait_s: float = 0.0, **params: Any) -> Any:
        raise AssertionError("never asked")


def names(sources: Sources) -> list[str]:
    """In order of preference."""
    return [source.name for source in sources.all]


def test_a_liar_is_asked_no_more_and_the_next_takes_its_place() -> None:
    a, b, c = (Named(name) for name in "abc")
    sources = Sources([a, b, c])
    sources.drop(a, "lied")
    sources.drop(a, "lied twice")
    assert (sources.primary, sources.witnesses) == (b, (c,))
    assert sources.dropped == {"a": "lied"}
    sources.drop(c, "too")
    sources.drop(b, "all")
    sources.step_back(b, "gone")
    with pytest.raises(NoSource) as refusal:
        _ = sources.primary
    assert refusal.value.details["dropped"] == {"a": "lied", "c": "too", "b": "all"}


def test_who_does_not_answer_goes_to_the_end_of_the_line() -> None:
    a, b, c = (Named(name) for name in "abc")
    sources = Sources([a, b, c])
    sources.step_back(b, "a witness has no place to lose")
    assert names(sources) == ["a", "b", "c"]
    sources.step_back(a, "gone")
    assert names(sources) == ["b", "c", "a"]
    alone = Sources([a])
    alone.step_back(a, "gone")
    assert names(alone) == ["a"]
