"""Parameters of methods: read from JSON by the method's own annotations, which also give the schema."""

from __future__ import annotations

import base64
import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from consensus.address import BadAddress, from_text
from consensus.shape import INTEGER_MAX
from node.rpc.errors import InvalidParams


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """How a JSON value becomes an argument (*read* raises ValueError with a sentence), and its JSON Schema.

    Compared by identity: annotations must be hashable.
    """

    read: Callable[[Any], Any]
    schema: Mapping[str, Any]


def integer(low: int, high: int) -> Reading:
    """An integer in [low, high]; GET arguments arrive as numbers too."""

    def read(value: Any) -> int:
        if type(value) is not int:
            raise ValueError("must be an integer")
        if not low <= value <= high:
            raise ValueError(f"must be in {low}…{high}")
        return value

    return Reading(read, {"type": "integer", "minimum": low, "maximum": high})


def hexadecimal(size: int) -> Reading:
    """*size* bytes as lower- or upper-case hex, with or without 0x."""

    def read(value: Any) -> bytes:
        try:
            data = bytes.fromhex(_text(value).removeprefix("0x"))
        except ValueError:
            raise ValueError(f"must be {size} bytes in hex") from None
        if len(data) != size:
            raise ValueError(f"must be {size} bytes in hex")
        return data

    return Reading(read, {"type": "string", "pattern": f"^[0-9a-f]{{{2 * size}}}$"})


def _text(value: Any) -> str:
    if type(value) is not str:
        raise ValueError("must be a string")
    return value


def _base64(value: Any) -> bytes:
    text = _text(value)
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:  # binascii.Error is one, and letters beyond ASCII are another
        raise ValueError("must be base64") from None


def _signature(value: Any) -> bytes:
    text = _text(value)
    try:
        data = bytes.fromhex(text) if len(text) == 128 else base64.b64decode(text, validate=True)
    except ValueError:
        raise ValueError("a signature must be 64 bytes in base64 or hex") from None
    if len(data) != 64:
        raise ValueError("a signature must be 64 bytes in base64 or hex")
    return data


def _address(value: Any) -> bytes:
    try:
        return from_text(_text(value))
    except BadAddress as error:
        raise ValueError(f"must be an address: {error}") from None


def _boolean(value: Any) -> bool:
    if type(value) is not bool:
        raise ValueError("must be true or false")
    return value


def _object(value: Any) -> dict[str, Any]:
    if type(value) is not dict:
        raise ValueError("must be an object")
    return value


def cursor_from_json(value: Any) -> tuple[int, int, int]:
    """A place in the event log: ``[height, transaction, number]``. Raises ValueError."""
    if type(value) is not list or len(value) != 3:
        raise ValueError("must be [height, transaction, number]")
    for part, low in zip(value, (0, 0, -1), strict=True):
        if type(part) is not int or not low <= part <= INTEGER_MAX:
            raise ValueError("must be three integers, the first two not negative")
    return value[0], value[1], value[2]


Height = Annotated[int, integer(0, INTEGER_MAX)]
Integer = Annotated[int, integer(0, INTEGER_MAX)]
Limit = Annotated[int, integer(1, 1000)]
WaitMs = Annotated[int, integer(0, 60_000)]
HashText = Annotated[bytes, hexadecimal(32)]
KeyText = Annotated[bytes, hexadecimal(32)]
Base64 = Annotated[bytes, Reading(_base64, {"type": "string", "contentEncoding": "base64"})]
SignatureText = Annotated[bytes, Reading(_signature, {"type": "string", "description": "64 bytes, base64 or hex"})]
AddressText = Annotated[bytes, Reading(_address, {"type": "string", "pattern": "^ting1[0-9a-z]{38}$"})]
Text = Annotated[str, Reading(_text, {"type": "string"})]
Flag = Annotated[bool, Reading(_boolean, {"type": "boolean"})]
JsonObject = Annotated[dict[str, Any], Reading(_object, {"type": "object"})]
CursorJson = Annotated[
    tuple[int, int, int],
    Reading(cursor_from_json, {"type": "array", "items": {"type": "integer"}, "minItems": 3, "maxItems": 3}),
]


def reading_of(annotation: Any) -> Reading:
    """The reading that an annotation declares; TypeError where none is (a defect of ours, found at import)."""
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        for mark in typing.get_args(annotation)[1:]:
            if isinstance(mark, Reading):
                return mark
    if origin in (typing.Union, types.UnionType):
        inner = reading_of(next(arg for arg in typing.get_args(annotation) if arg is not type(None)))
        return Reading(lambda value: None if value is None else inner.read(value), inner.schema)
    if origin is list:
        return _list_of(reading_of(typing.get_args(annotation)[0]))
    raise TypeError(f"no JSON reading for {annotation!r}")


def _list_of(item: Reading) -> Reading:
    def read(value: Any) -> list[Any]:
        if type(value) is not list:
            raise ValueError("must be an array")
        if len(value) > 1000:
            raise ValueError("must have at most 1000 items")
        return [item.read(each) for each in value]

    return Reading(read, {"type": "array", "items": dict(item.schema)})


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a method."""

    name: str
    reading: Reading
    required: bool
    default: Any


class Parameters:
    """The parameters of one method, in declared order."""

    def __init__(self, function: Callable[..., Any]) -> None:
        hints = typing.get_type_hints(function, include_extras=True)
        declared = list(inspect.signature(function).parameters.values())[1:]
        self.all: tuple[Parameter, ...] = tuple(
            Parameter(each.name.rstrip("_"), reading_of(hints[each.name]), each.default is each.empty, each.default)
            for each in declared
        )
        self._keywords = {parameter.name: each.name for parameter, each in zip(self.all, declared, strict=True)}

    def read(self, given: Mapping[str, Any] | Sequence[Any]) -> dict[str, Any]:
        """Keyword arguments for the function. Raises InvalidParams naming the parameter."""
        if not isinstance(given, Mapping):
            if len(given) > len(self.all):
                raise InvalidParams(f"at most {len(self.all)} parameters are taken, {len(given)} were given")
            given = {parameter.name: value for parameter, value in zip(self.all, given, strict=False)}
        arguments: dict[str, Any] = {}
        for parameter in self.all:
            value = given.get(parameter.name)
            if value is None:
                if parameter.required:
                    raise InvalidParams(f"the parameter {parameter.name} is missing", parameter=parameter.name)
                continue
            try:
                arguments[self._keywords[parameter.name]] = parameter.reading.read(value)
            except ValueError as error:
                raise InvalidParams(f"{parameter.name} {error}", parameter=parameter.name) from None
        if len(given) > len(self.all) or not self._keywords.keys() >= given.keys():
            unknown = sorted(given.keys() - self._keywords.keys())[0]
            raise InvalidParams(f"there is no parameter {unknown[:80]!r}", parameter=unknown[:80])
        return arguments
