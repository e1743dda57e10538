"""The client of the command line against real HTTP: answers, refusals, and nodes that are none."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from node.client import Client, RpcFailed, Unreachable


@contextmanager
def node(*answers: bytes) -> Iterator[str]:
    """A server that gives each connection one of *answers* to its first request, then hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for answer in answers:
                channel, _ = listener.accept()
                with channel:
                    channel.recv(65_536)
                    channel.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join(timeout=5)


def http(body: bytes) -> bytes:
    """A whole HTTP answer."""
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)


def test_a_result_and_a_refusal() -> None:
    with node(http(b'{"jsonrpc":"2.0","id":0,"result":{"a":1}}')) as url, Client(url) as client:
        assert client.call("status") == {"a": 1}
    refusal = b'{"jsonrpc":"2.0","id":0,"error":{"code":-32010,"message":"gone","data":{"code":"rpc.not_found"}}}'
    with node(http(refusal)) as url, Client(url) as client, pytest.raises(RpcFailed, match="gone") as failed:
        client.call("header", height=1)
    assert (failed.value.code, failed.value.number) == ("rpc.not_found", -32010)


def test_a_batch_comes_back_in_order_with_its_failures() -> None:
    answers = b'[{"id":1,"error":{"code":-32601,"message":"no"}},{"id":0,"result":7}]'
    with node(http(answers)) as url, Client(url) as client:
        first, second, third = client.batch([("a", {}), ("b", {}), ("c", {})])
    assert first == 7
    assert isinstance(second, RpcFailed)
    assert isinstance(third, Unreachable)


def test_a_connection_that_was_closed_meanwhile_is_opened_again() -> None:
    result = b'{"jsonrpc":"2.0","id":0,"result":1}'
    with node(http(result), http(result)) as url, Client(url) as client:
        assert [client.call("a"), client.call("a")] == [1, 1]


@pytest.mark.parametrize(
    "answer",
    [b"", b"garbage\r\n\r\n", http(b"not json"), http(b"5"), http(b"[]"), http(b'{"id":0}'), http(b'{"error":1}')],
)
def test_what_is_no_node_is_said_to_be_none(answer: bytes) -> None:
    with node(answer) as url, Client(url) as client, pytest.raises(Unreachable):
        client.call("status")


@pytest.mark.parametrize("url", ["https://127.0.0.1:1", "http://", "http://127.0.0.1:99999", "ftp://x"])
def test_an_url_that_is_none_says_what_one_looks_like(url: str) -> None:
    with pytest.raises(Unreachable, match="looks like http://127"):
        Client(url)


def test_nobody_listening_is_said_in_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(Unreachable, match="connection refused"):
        Client(f"127.0.0.1:{port}").call("status")
