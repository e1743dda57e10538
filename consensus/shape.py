"""Typed values on the wire: a frozen dataclass, or any annotation, and the array that stands for it.

A shape is read off annotations: ``int`` with `Range`, ``bytes`` with `Size`, ``str`` with `Length`, ``bool``,
``T | None``, ``tuple[T, ...]`` with `Count`, ``tuple[A, B]``, integer enums, frozen dataclasses (an array of their
fields in order), and `Anything` (whatever the codec allows, with `Encoded`, to be read later by somebody who knows its
type).
"""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, TypeVar, cast

from consensus.codec import BadMessage, Wire, decode, encode, encode_checked
from consensus.record_reader import Field, record_reader

INTEGER_MAX = 2**63 - 1
MESSAGE_BYTES_MAX = 16 * 2**20
"""Upper bound for `from_bytes` where the caller knows no smaller one."""


@dataclass(frozen=True, slots=True)
class Range:
    """Bounds of an integer, both included."""

    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Size:
    """Bounds of a byte string's length, both included; ``Size(32)`` is exactly 32."""

    low: int
    high: int = -1


@dataclass(frozen=True, slots=True)
class Length:
    """The most characters (Unicode code points) of a text."""

    high: int


@dataclass(frozen=True, slots=True)
class Count:
    """Bounds of the number of items in a ``tuple[T, ...]``."""

    high: int
    low: int = 0


@dataclass(frozen=True, slots=True)
class Unread:
    """Marks a value that stays as the codec gave it."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """The most bytes that the encoding of `Anything` may have, where it is a part of something larger."""

    high: int


if TYPE_CHECKING:
    Anything: TypeAlias = Wire
else:  # `Wire` is recursive and so a text at run time, which only its own module could evaluate
    Anything = Annotated[object, Unread()]
U63 = Annotated[int, Range(0, INTEGER_MAX)]
I64 = Annotated[int, Range(-(2**63), 2**63 - 1)]
Hash = Annotated[bytes, Size(32)]
Address = Annotated[bytes, Size(20)]
PublicKey = Annotated[bytes, Size(32)]
Signature = Annotated[bytes, Size(64)]


@dataclass(frozen=True, slots=True)
class Shape:
    """How one annotated type goes to the wire and back.

    ``from_wire`` raises BadMessage for a value of another shape; ``to_wire`` trusts its argument.
    """

    to_wire: Callable[[Any], Wire]
    from_wire: Callable[[Any], Any]
    plain: str = ""
    """An expression over ``{x}`` that says which wire values `from_wire` returns as they are; "": none is written."""


T = TypeVar("T")


def to_bytes(value: object) -> bytes:
    """The canonical bytes of a dataclass instance."""
    kind: Any = type(value)
    return encode(shape_of(kind).to_wire(value))


def from_bytes(kind: type[T], data: bytes, *, bytes_max: int = MESSAGE_BYTES_MAX) -> T:
    """The instance of dataclass *kind* whose canonical bytes are *data*. Raises BadMessage."""
    annotation: Any = kind
    value: T = shape_of(annotation).from_wire(decode(data, bytes_max=bytes_max))
    return value


@cache
def shape_of(annotation: Any) -> Shape:
    """The shape of *annotation*; TypeError where none is defined (a defect of ours, found at import)."""
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        base, *marks = typing.get_args(annotation)
        return _marked(base, marks)
    if origin in (typing.Union, types.UnionType):
        return _optional(typing.get_args(annotation))
    if origin is tuple:
        return _tuple(typing.get_args(annotation), None)
    if annotation is int:
        return _marked(int, [Range(0, INTEGER_MAX)])
    if annotation is bytes:
        return Shape(_same, _exactly(bytes), "type({x}) is bytes")
    if annotation is str:
        return Shape(_same, _exactly(str), "type({x}) is str")
    if annotation is bool:
        return Shape(_same, _exactly(bool), "type({x}) is bool")
    if isinstance(annotation, type) and issubclass(annotation, enum.IntEnum):
        return _enumeration(annotation)
    if dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
        return _record(annotation)
    raise TypeError(f"no wire shape for {annotation!r}")


def _same(value: Any) -> Any:
    return value


def _exactly(kind: type) -> Callable[[Any], Any]:
    def from_wire(value: Any) -> Any:
        if type(value) is not kind:
            raise BadMessage(f"expected {kind.__name__}, got {type(value).__name__}")
        return value

    return from_wire


def _marked(base: Any, marks: list[Any]) -> Shape:
    for mark in marks:
        if isinstance(mark, Unread):
            bound = next((other.high for other in marks if isinstance(other, Encoded)), None)
            return Shape(_same, _same, "True") if bound is None else Shape(_same, _encoded(bound))
        if isinstance(mark, Range):
            plain = f"type({{x}}) is int and {mark.low} <= {{x}} <= {mark.high}"
            return Shape(_same, _integer(mark.low, mark.high), plain)
        if isinstance(mark, Size):
            high = mark.low if mark.high < 0 else mark.high
            return Shape(_same, _bytes(mark.low, high), f"type({{x}}) is bytes and {mark.low} <= len({{x}}) <= {high}")
        if isinstance(mark, Length):
            return Shape(_same, _text(mark.high), f"type({{x}}) is str and len({{x}}) <= {mark.high}")
        if isinstance(mark, Count):
            return _tuple(typing.get_args(base), mark)
    return shape_of(base)


def _integer(low: int, high: int) -> Callable[[Any], Any]:
    def from_wire(value: Any) -> Any:
        if type(value) is not int:
            raise BadMessage(f"expected int, got {type(value).__name__}")
        if not low <= value <= high:
            raise BadMessage(f"{value} is not in {low}…{high}", "bad_message.out_of_range")
        return value

    return from_wire


def _bytes(low: int, high: int) -> Callable[[Any], Any]:
    def from_wire(value: Any) -> Any:
        if type(value) is not bytes:
            raise BadMessage(f"expected bytes, got {type(value).__name__}")
        if not low <= len(value) <= high:
            raise BadMessage(f"{len(value)} bytes, expected {low}…{high}", "bad_message.out_of_range")
        return value

    return from_wire


def _text(high: int) -> Callable[[Any], Any]:
    def from_wire(value: Any) -> Any:
        if type(value) is not str:
            raise BadMessage(f"expected text, got {type(value).__name__}")
        if len(value) > high:
            raise BadMessage(f"{len(value)} characters, at most {high}", "bad_message.out_of_range")
        return value

    return from_wire


def _encoded(high: int) -> Callable[[Any], Any]:
    def from_wire(value: Any) -> Any:
        size = len(encode_checked(value))
        if size > high:
            raise BadMessage(f"{size} bytes, at most {high}", "bad_message.out_of_range")
        return value

    return from_wire


def _enumeration(kind: type[enum.IntEnum]) -> Shape:
    members = {int(member): member for member in kind}

    def from_wire(value: Any) -> Any:
        if type(value) is not int or value not in members:
            raise BadMessage(f"{value!r:.40} is no {kind.__name__}", "bad_message.out_of_range")
        return members[value]

    return Shape(int, from_wire)


def _optional(args: tuple[Any, ...]) -> Shape:
    rest = [arg for arg in args if arg is not type(None)]
    if len(rest) != 1 or len(rest) == len(args):
        raise TypeError(f"only T | None has a wire shape, not {args!r}")
    inner = shape_of(rest[0])
    inner_to, inner_from = inner.to_wire, inner.from_wire
    return Shape(
        _same if inner_to is _same else lambda value: None if value is None else inner_to(value),
        lambda value: None if value is None else inner_from(value),
        inner.plain and f"{{x}} is None or ({inner.plain})",
    )


def _tuple(args: tuple[Any, ...], count: Count | None) -> Shape:
    if len(args) == 2 and args[1] is Ellipsis:
        return _sequence(shape_of(args[0]), count)
    shapes = [shape_of(arg) for arg in args]

    def from_wire(value: Any) -> Any:
        if type(value) is not tuple or len(value) != len(shapes):
            raise BadMessage(f"expected an array of {len(shapes)}")
        return tuple(shape.from_wire(item) for shape, item in zip(shapes, value, strict=True))

    return Shape(lambda value: tuple(shape.to_wire(item) for shape, item in zip(shapes, value, strict=True)), from_wire)


def _sequence(inner: Shape, count: Count | None) -> Shape:
    inner_to, inner_from = inner.to_wire, inner.from_wire
    low, high = (count.low, count.high) if count else (0, INTEGER_MAX)

    def from_wire(value: Any) -> Any:
        if type(value) is not tuple:
            raise BadMessage(f"expected an array, got {type(value).__name__}")
        if not low <= len(value) <= high:
            raise BadMessage(f"{len(value)} items, expected {low}…{high}", "bad_message.out_of_range")
        return tuple([inner_from(item) for item in value])

    if inner_to is _same:
        return Shape(_same, from_wire)
    return Shape(lambda value: tuple([inner_to(item) for item in value]), from_wire)


def _record(kind: type) -> Shape:
    hints = typing.get_type_hints(kind, include_extras=True)
    names = tuple(field.name for field in dataclasses.fields(kind) if field.init)
    shapes = tuple(shape_of(hints[name]) for name in names)
    fields_of = _fields_getter(names)
    writers = tuple((place, shape.to_wire) for place, shape in enumerate(shapes) if shape.to_wire is not _same)
    fields = [Field(name, shape.from_wire, shape.plain) for name, shape in zip(names, shapes, strict=True)]

    def to_wire(value: Any) -> Wire:
        items = fields_of(value)
        if not writers:
            return items
        changed = list(items)
        for place, write in writers:
            changed[place] = write(changed[place])
        return tuple(changed)

    return Shape(to_wire, record_reader(kind.__name__, fields, constructor_of(kind)))


def constructor_of(kind: type[T]) -> Callable[[Iterable[Any]], T]:
    """Makes instances of dataclass *kind* from the values of its ``init`` fields, in order.

    A frozen dataclass sets each field by a call of ``object.__setattr__``; where it has slots and computes nothing of
    its own, they are filled directly, in half the time.
    """
    fields = dataclasses.fields(cast(Any, kind))
    names = [field.name for field in fields if field.init]
    slotted = all(name in kind.__dict__.get("__slots__", ()) for name in names)
    if len(names) < len(fields) or not slotted or hasattr(kind, "__post_init__"):
        return lambda values: kind(**dict(zip(names, values, strict=True)))
    setters = [getattr(kind, name).__set__ for name in names]
    new = object.__new__

    def build(values: Iterable[Any]) -> T:
        instance = new(kind)
        for put, value in zip(setters, values):  # noqa: B905 (the caller's promise; a hot path)
            put(instance, value)
        return instance

    return build


def _fields_getter(names: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    """All of *names* of an object at once; `attrgetter` gives a tuple only for two names or more."""
    if len(names) > 1:
        return attrgetter(*names)
    return lambda value: tuple([getattr(value, name) for name in names])
