"""JSON-RPC as data: what is a request, what is refused, whatever a stranger sends."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.rpc.errors import BatchTooLarge, InvalidRequest, ParseError, RpcError
from node.rpc.protocol import Broken, Call, parse


def one(request: object) -> Call | Broken:
    calls, batch = parse(json.dumps(request).encode(), batch_calls_max=3)
    assert not batch
    [call] = calls
    return call


def test_a_request_is_read() -> None:
    assert one({"jsonrpc": "2.0", "id": 7, "method": "status"}) == Call("status", {}, 7, False)
    assert one({"jsonrpc": "2.0", "id": "a", "method": "tx", "params": ["00"]}) == Call("tx", ["00"], "a", False)


def test_a_request_without_id_wants_no_answer() -> None:
    assert one({"jsonrpc": "2.0", "method": "status"}) == Call("status", {}, None, True)


@pytest.mark.parametrize(
    "request_",
    [
        7,
        {"id": 1, "method": "status"},
        {"jsonrpc": "1.0", "id": 1, "method": "status"},
        {"jsonrpc": "2.0", "id": 1, "method": 5},
        {"jsonrpc": "2.0", "id": [1], "method": "status"},
        {"jsonrpc": "2.0", "id": True, "method": "status"},
        {"jsonrpc": "2.0", "id": 1, "method": "status", "params": "x"},
    ],
)
def test_what_is_no_request_is_said_to_be_none(request_: object) -> None:
    broken = one(request_)
    assert isinstance(broken, Broken)
    assert isinstance(broken.error, InvalidRequest)


def test_a_batch_keeps_its_order_and_answers_what_is_broken_in_it() -> None:
    calls, batch = parse(b'[{"jsonrpc":"2.0","id":1,"method":"a"},3]', batch_calls_max=3)
    assert batch
    assert calls[0] == Call("a", {}, 1, False)
    assert isinstance(calls[1], Broken)


def test_an_empty_batch_and_one_that_is_too_long_are_refused_whole() -> None:
    with pytest.raises(InvalidRequest):
        parse(b"[]", batch_calls_max=3)
    with pytest.raises(BatchTooLarge, match="4 calls"):
        parse(b"[1,2,3,4]", batch_calls_max=3)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff\xfe", b'{"a": NaN}', b"[" * 100_000, b'"\\ud800"', b"1" * 5_000, b"Infinity"]
)
def test_what_is_no_json_is_a_parse_error_with_a_sentence(body: bytes) -> None:
    with pytest.raises(ParseError, match="not JSON"):
        parse(body, batch_calls_max=3)


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(body: bytes) -> None:
    with contextlib.suppress(RpcError):
        parse(body, batch_calls_max=3)


@pytest.mark.parametrize(
    "body",
    [
        b'{"jsonrpc":"2.0","id":"\xed\xa0\x80","method":"status"}',
        '{"jsonrpc":"2.0","id":"\ud800","method":"status"}'.encode("utf-16", "surrogatepass"),
        b'{"jsonrpc":"2.0","id":"\\ud800","method":"status"}',
        b'{"jsonrpc":"2.0","id":1e999,"method":"status"}',
        b'{"jsonrpc":"2.0","id":-1e999,"method":"status"}',
        b'{"jsonrpc":"2.0","id":NaN,"method":"status"}',
        b'{"jsonrpc":"2.0","id":' + b"9" * 5_000 + b',"method":"status"}',
    ],
)
def test_what_no_json_answer_could_repeat_is_no_request(body: bytes) -> None:
    with pytest.raises(ParseError) as refused:
        parse(body, batch_calls_max=3)
    assert "set_int_max_str_digits" not in str(refused.value)
