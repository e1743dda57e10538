"""Random values of whatever the wire can carry, read off the same annotations as its shapes."""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from typing import Annotated, Any

from hypothesis import strategies as st

from consensus.shape import INTEGER_MAX, Count, Length, Range, Size, Unread

BYTES_MAX, ITEMS_MAX = 96, 3
"""Small messages find as much as large ones, sooner."""

WIRE: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.binary(max_size=40) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=ITEMS_MAX).map(tuple),
    max_leaves=8,
)
"""Whatever the codec can say."""


def values_of(annotation: Any) -> st.SearchStrategy[Any]:
    """Values that `consensus.shape` takes for *annotation*."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return _marked(arguments[0], arguments[1:])
    if origin in (typing.Union, types.UnionType):
        (inner,) = (each for each in arguments if each is not type(None))
        return st.none() | values_of(inner)
    if origin is tuple and arguments[-1] is Ellipsis:
        return st.lists(values_of(arguments[0]), max_size=ITEMS_MAX).map(tuple)
    if origin is tuple:
        return st.tuples(*map(values_of, arguments))
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return st.sampled_from(list(annotation))
    if dataclasses.is_dataclass(annotation):
        return _records(annotation)
    plain = {bool: st.booleans(), int: st.integers(0, INTEGER_MAX), bytes: st.binary(max_size=BYTES_MAX)}
    return plain.get(annotation, st.text(max_size=ITEMS_MAX))


def _marked(base: Any, marks: tuple[Any, ...]) -> st.SearchStrategy[Any]:
    for mark in marks:
        match mark:
            case Unread():
                return WIRE
            case Range(low, high):
                return st.integers(low, high)
            case Size(low, high):
                return st.binary(min_size=low, max_size=low if high < 0 else min(high, max(low, BYTES_MAX)))
            case Length(high):
                return st.text(max_size=min(high, BYTES_MAX))
            case Count(high, low):
                inner = values_of(typing.get_args(base)[0])
                return st.lists(inner, min_size=low, max_size=max(low, min(high, ITEMS_MAX))).map(tuple)
    return values_of(base)


def _records(kind: Any) -> st.SearchStrategy[Any]:
    hints = typing.get_type_hints(kind, include_extras=True)
    fields = {field.name: values_of(hints[field.name]) for field in dataclasses.fields(kind) if field.init}
    return st.builds(kind, **fields)


def damaged(data: bytes) -> st.SearchStrategy[bytes]:
    """*data* with a few bytes changed, cut off, put in, or repeated."""
    place = st.integers(0, max(0, len(data) - 1))
    piece = st.binary(min_size=0, max_size=6)
    return st.lists(st.tuples(place, st.integers(0, 6), piece), min_size=1, max_size=4).map(
        lambda edits: _edited(data, edits)
    )


def _edited(data: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    for at, dropped, put_in in edits:
        data = data[:at] + put_in + data[at + dropped :]
    return data
