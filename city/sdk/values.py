"""Values as bytes, checked before they are written: out of range is the refusal overflow, not a broken state."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable
from functools import cache
from typing import Annotated, Any

from city.sdk.refusal import OVERFLOW, refused
from consensus.codec import BadMessage, Wire, decode_own, encode_checked
from consensus.shape import Range, shape_of

ToWire = Callable[[Any], Wire]


def writer_of(annotation: object) -> Callable[[Any], bytes]:
    """Turns a value of type *annotation* into its canonical bytes, checked."""
    if _is_integer(annotation):
        bounds = typing.get_args(annotation)[1]
        return _integer_writer(bounds.low, bounds.high)
    check = checker_of(annotation)
    return lambda value: encode_checked(check(value))


def _integer_writer(low: int, high: int) -> Callable[[Any], bytes]:
    """The same for a bare number, in one call: balances, counters and nonces are written most often."""

    def write(value: Any) -> bytes:
        if type(value) is int and low <= value <= high:
            return encode_checked(value)
        raise _no_such_integer(value)

    return write


def _no_such_integer(value: Any) -> Exception:
    """What is raised for *value* where an integer within its bounds belongs."""
    if type(value) is int:
        return refused(OVERFLOW)
    return TypeError(f"expected int, got {type(value).__name__}")


def _is_integer(annotation: Any) -> bool:
    """Whether it is a bare number."""
    if typing.get_origin(annotation) is not Annotated:
        return False
    base, *marks = typing.get_args(annotation)
    return base is int and isinstance(marks[0], Range)


@cache
def checker_of(annotation: Any) -> ToWire:
    """Turns a value of type *annotation* into its wire form.

    The refusal overflow where a number or a length is out of its range; TypeError for a value of another type, which is
    a defect of the module's.
    """
    if _is_integer(annotation):
        bounds = typing.get_args(annotation)[1]
        return _integer_checker(bounds.low, bounds.high)
    shape = shape_of(annotation)
    if dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
        return _record_checker(annotation)
    to_wire, from_wire = shape.to_wire, shape.from_wire

    def check(value: Any) -> Wire:
        wire = to_wire(value)
        try:
            from_wire(wire)
        except BadMessage as error:
            if error.code == "bad_message.out_of_range":
                raise refused(OVERFLOW) from None
            raise TypeError(str(error)) from None
        return wire

    return check


def _integer_checker(low: int, high: int) -> ToWire:
    """The same for a bare number."""

    def check(value: Any) -> Wire:
        if type(value) is int and low <= value <= high:
            return value
        raise _no_such_integer(value)

    return check


def _record_checker(kind: type) -> ToWire:
    """The same for a record or an event, field by field."""
    hints = typing.get_type_hints(kind, include_extras=True)
    checks = [(field.name, checker_of(hints[field.name])) for field in dataclasses.fields(kind)]

    def check(value: Any) -> Wire:
        if type(value) is not kind:
            raise TypeError(f"expected {kind.__name__}, got {type(value).__name__}")
        name = ""
        wire: list[Wire] = []
        try:
            for name, check_field in checks:
                wire.append(check_field(getattr(value, name)))
        except TypeError as error:
            raise TypeError(f"{name}: {error}") from None
        return tuple(wire)

    return check


def reader_of(annotation: object) -> Callable[[bytes], Any]:
    """Turns stored bytes back into a value of type *annotation*."""
    from_wire = shape_of(annotation).from_wire
    return lambda raw: from_wire(decode_own(raw))
