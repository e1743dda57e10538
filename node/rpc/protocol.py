"""JSON-RPC 2.0 as data: requests from bytes, answers to bytes. No socket, no node."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from node.rpc.errors import BatchTooLarge, InvalidRequest, ParseError, RpcError


@dataclass(frozen=True, slots=True)
class Call:
    """One request of a client."""

    method: str
    params: Mapping[str, Any] | Sequence[Any]
    id: str | int | float | None
    notification: bool
    """No answer is wanted."""


@dataclass(frozen=True, slots=True)
class Broken:
    """One member of a batch that is no request."""

    error: RpcError
    id: str | int | float | None = None


def parse(body: bytes, *, batch_calls_max: int) -> tuple[list[Call | Broken], bool]:
    """The calls in *body*, and whether they came as a batch. Raises ParseError, InvalidRequest, BatchTooLarge."""
    value = parse_json(body)
    if type(value) is not list:
        return [_call(value)], False
    if not value:
        raise InvalidRequest("an empty batch asks for nothing")
    if len(value) > batch_calls_max:
        raise BatchTooLarge(f"{len(value)} calls in a batch; at most {batch_calls_max} are answered at once")
    return [_call(each) for each in value], True


def parse_json(body: bytes) -> Any:
    """The JSON value in *body*; raises ParseError.

    What our answers could not repeat is refused too: other encodings than UTF-8 and lone surrogates in any spelling
    (`json.loads` would let both pass in bytes), NaN, numbers that become infinite, and endless nesting.
    """
    try:
        value = json.loads(body.decode(), parse_constant=_no_constant, parse_float=_finite)
        if b"\\u" in body:
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise ParseError(f"the request is not JSON: {_reason(error)}") from None
    return value


def _reason(error: ValueError | RecursionError) -> str:
    if isinstance(error, RecursionError):
        return "nested too deep"
    if isinstance(error, UnicodeError):
        return "not UTF-8"
    if isinstance(error, json.JSONDecodeError | _NoNumber):
        return str(error)[:120]
    return "a number has too many digits"  # the only other thing that Python's reader refuses


class _NoNumber(ValueError):
    """A number that we don't take; says which."""


def _no_constant(name: str) -> NoReturn:
    raise _NoNumber(f"{name} is no JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _NoNumber(f"{text[:40]} is too large a number")
    return value


def _call(value: Any) -> Call | Broken:
    if type(value) is not dict:
        return Broken(InvalidRequest("a request is a JSON object with jsonrpc, method, params and id"))
    id_ = value.get("id")
    if type(id_) not in (str, int, float, type(None)):
        return Broken(InvalidRequest("id must be a string or a number"))
    if value.get("jsonrpc") != "2.0":
        return Broken(InvalidRequest('jsonrpc must be "2.0"'), id_)
    method, params = value.get("method"), value.get("params")
    if type(method) is not str:
        return Broken(InvalidRequest("method must be a string"), id_)
    if type(params) not in (dict, list, type(None)):
        return Broken(InvalidRequest("params must be an object or an array"), id_)
    return Call(method, params if params is not None else {}, id_, "id" not in value)


def success(id_: str | int | float | None, result: Any) -> dict[str, Any]:
    """The answer to a call that worked."""
    return {"jsonrpc": "2.0", "id": id_, "result": result}


def failure(id_: str | int | float | None, error: RpcError) -> dict[str, Any]:
    """The answer to a call that failed."""
    return {"jsonrpc": "2.0", "id": id_, "error": error.to_json()}


def to_json(value: Any) -> bytes:
    """Compact JSON in UTF-8."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
