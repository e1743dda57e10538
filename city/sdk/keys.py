"""State keys: table name ‖ 00 ‖ parts; integers as 8 bytes big-endian, others after a 2-byte length (DESIGN §5)."""

from __future__ import annotations

import typing
from collections.abc import Callable
from typing import Annotated, Any

from city.sdk.refusal import OVERFLOW, refused
from consensus.shape import INTEGER_MAX, Size

Encoder = Callable[[Any], bytes]


def table_prefix(name: str) -> bytes:
    """Where the rows of table *name* begin."""
    return name.encode("ascii") + b"\x00"


def after_prefix(prefix: bytes) -> bytes:
    """The first key after every key that begins with *prefix*, which holds a byte other than ff."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1])


def encode_part(part: object) -> bytes:
    """One part of a key: an int in 0…2^63-1 (refused as overflow outside), bytes or text of at most 65,535 bytes."""
    if type(part) is int:
        if not 0 <= part <= INTEGER_MAX:
            raise refused(OVERFLOW)
        return part.to_bytes(8, "big")
    data = part.encode("utf-8") if type(part) is str else part
    if type(data) is not bytes:
        raise TypeError(f"{type(part).__name__} can't be part of a key")
    return len(data).to_bytes(2, "big") + data


def encode_parts(key: object) -> bytes:
    """All parts of *key*: a tuple of parts, or a single part."""
    if type(key) is tuple:
        return b"".join([encode_part(part) for part in key])
    return encode_part(key)


def encoder_of(prefix: bytes, annotation: object) -> Encoder:
    """Writes a key of type *annotation* after *prefix*, as `encode_parts` does; faster where it has one known size."""
    if typing.get_origin(annotation) is Annotated:
        base, *marks = typing.get_args(annotation)
        if base is bytes and isinstance(marks[0], Size) and marks[0].high < 0:
            return _sized_encoder(prefix, marks[0].low)
    return lambda key: prefix + encode_parts(key)


def _sized_encoder(prefix: bytes, size: int) -> Encoder:
    head = prefix + size.to_bytes(2, "big")

    def encode(key: Any) -> bytes:
        if type(key) is bytes and len(key) == size:
            return head + key
        raise TypeError(f"expected {size} bytes as a key")

    return encode


def part_types(annotation: object) -> tuple[Any, ...]:
    """The annotated types of a key's parts."""
    if typing.get_origin(annotation) is tuple:
        return typing.get_args(annotation)
    return (annotation,)


def decoder_of(annotation: object) -> Callable[[bytes, int], tuple[Any, int]]:
    """Reads a key of type *annotation* from bytes at an offset: the key, and the offset after it."""
    bases = tuple(_base(part) for part in part_types(annotation))
    whole = typing.get_origin(annotation) is tuple

    def decode(data: bytes, offset: int) -> tuple[Any, int]:
        parts = []
        for base in bases:
            part, offset = _decode_part(base, data, offset)
            parts.append(part)
        return (tuple(parts) if whole else parts[0]), offset

    return decode


def _base(annotation: Any) -> type:
    base = typing.get_args(annotation)[0] if typing.get_origin(annotation) is Annotated else annotation
    if base not in (int, bytes, str):
        raise TypeError(f"a key's part is an int, bytes or text, not {annotation!r}")
    return base  # type: ignore[no-any-return]  # one of three types, by the check above


def _decode_part(base: type, data: bytes, offset: int) -> tuple[Any, int]:
    if base is int:
        return int.from_bytes(data[offset : offset + 8], "big"), offset + 8
    start = offset + 2
    stop = start + int.from_bytes(data[offset:start], "big")
    part = data[start:stop]
    return (part.decode("utf-8") if base is str else part), stop
