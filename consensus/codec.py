"""The one codec: canonical MessagePack. Everything hashed, signed or sent between nodes goes through here.

Arrays, shortest integers, byte and text strings, booleans and nil; no maps, no floats, no extension types.
MessagePack itself is not canonical (``cc 01`` and ``01`` both read as 1), so decoding encodes again and compares.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

import msgpack

DEPTH_MAX = 16
"""Arrays inside arrays that `decode` accepts."""

Wire: TypeAlias = "bool | int | bytes | str | tuple[Wire, ...] | None"
"""What can stand on the wire. Arrays decode as tuples."""

_SCALARS = frozenset({int, bytes, str, bool, type(None)})
"""Exact types: a subclass (an enum) has no place on the wire, its shape writes the plain value."""


_pack: Callable[[object], bytes] = msgpack.Packer(use_bin_type=True, buf_size=65_536).pack
"""One packer for all: to make one takes longer than most values do. It runs no code of ours in between."""


class BadMessage(Exception):
    """The bytes are a stranger's fault: malformed, too large, not canonical, or a lie that was proved.

    ``code`` is stable (``bad_message.<what>``); the text says what was wrong.
    """

    def __init__(self, text: str, code: str = "bad_message.malformed") -> None:
        super().__init__(text)
        self.code = code


def encode(value: object) -> bytes:
    """The canonical bytes of *value* (tuples or lists of what `Wire` allows).

    Raises TypeError or OverflowError for anything else: that is a defect of ours, not of a peer.
    """
    _refuse_foreign((value,))
    return _pack(value)


def encode_checked(value: Wire) -> bytes:
    """The canonical bytes of *value*, whose types the caller has checked: a hot path spares the second look."""
    return _pack(value)


def encode_array(items: Sequence[bytes]) -> bytes:
    """The canonical bytes of an array, given those of its *items*."""
    return msgpack.Packer().pack_array_header(len(items)) + b"".join(items)  # type: ignore[no-any-return]  # msgpack is untyped


def decode(data: bytes, *, bytes_max: int) -> Wire:
    """The value whose canonical encoding is exactly *data*. Raises BadMessage for anything else."""
    if len(data) > bytes_max:
        raise BadMessage(f"{len(data)} bytes, at most {bytes_max} are allowed", "bad_message.too_large")
    if data.count(b"\xdc") + data.count(b"\xdd") > DEPTH_MAX:
        _refuse_bomb(data)
    try:
        value = msgpack.unpackb(data, use_list=False)
    except msgpack.ExtraData as error:
        raise BadMessage("bytes follow the message", "bad_message.trailing_bytes") from error
    except (ValueError, RecursionError, msgpack.UnpackException) as error:
        raise BadMessage(f"not MessagePack: {error!s:.80}") from error
    _check((value,), DEPTH_MAX)
    if _pack(value) != data:
        raise BadMessage("not the canonical encoding", "bad_message.not_canonical")
    return value  # type: ignore[no-any-return]  # _check has just proved the type


def decode_own(data: bytes) -> Wire:
    """The value behind *data*, which `encode` made here or which a proof has shown to be the town's: not checked."""
    value: Wire = msgpack.unpackb(data, use_list=False)
    return value


_PLAIN_BYTES = {0xC0: 0, 0xC2: 0, 0xC3: 0, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}
"""First byte of nil, booleans and integers: how many bytes follow."""
_STRING_LENGTH_BYTES = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
_ARRAY_LENGTH_BYTES = {0xDC: 2, 0xDD: 4}


def _refuse_bomb(data: bytes) -> None:
    """Raises BadMessage if *data* announces arrays deeper than `DEPTH_MAX` or longer than itself, without building any.

    MessagePack makes room for an array when it reads how long it will be: a thousand long ones inside each other would
    take thousands of times the memory of the message, before its depth could be checked. Only array headers of 3 and
    5 bytes can do so; few messages have many bytes that look like them.
    """
    at, size = 0, len(data)
    missing = [1]  # items still to come in each open array; the message is the only item of the outermost
    while missing:
        if missing[-1] == 0:
            missing.pop()
            continue
        if at >= size:
            raise BadMessage("the message is cut short")
        missing[-1] -= 1
        first = data[at]
        at += 1
        if first < 0x80 or first >= 0xE0:
            continue
        if 0xA0 <= first < 0xC0:
            at += first & 0x1F
        elif first in _PLAIN_BYTES:
            at += _PLAIN_BYTES[first]
        elif first in _STRING_LENGTH_BYTES:
            width = _STRING_LENGTH_BYTES[first]
            at += width + int.from_bytes(data[at : at + width], "big")
        elif 0x90 <= first < 0xA0 or first in _ARRAY_LENGTH_BYTES:
            width = _ARRAY_LENGTH_BYTES.get(first, 0)
            missing.append(int.from_bytes(data[at : at + width], "big") if width else first & 0x0F)
            at += width
            if missing[-1] > size - at:
                raise BadMessage("an array is longer than the message")
            if len(missing) > DEPTH_MAX + 1:
                raise BadMessage(f"arrays are nested more than {DEPTH_MAX} deep", "bad_message.too_deep")
        else:
            raise BadMessage(f"type {first:#x} cannot stand in a message")


def _check(items: tuple[object, ...], depth: int) -> None:
    """Raises BadMessage unless *items* are `Wire` of at most *depth* nested arrays. A call for each array, not item."""
    for item in items:
        kind = type(item)
        if kind is tuple:
            if depth == 0:
                raise BadMessage(f"arrays are nested more than {DEPTH_MAX} deep", "bad_message.too_deep")
            _check(item, depth - 1)  # type: ignore[arg-type]  # its type is tuple
        elif kind not in _SCALARS:
            raise BadMessage(f"a {kind.__name__} cannot stand in a message")


def _refuse_foreign(items: Iterable[object]) -> None:
    """Raises TypeError unless *items* are `Wire`, or lists for tuples."""
    for item in items:
        kind = type(item)
        if kind is tuple or kind is list:
            _refuse_foreign(item)  # type: ignore[arg-type]  # its type is tuple or list
        elif kind not in _SCALARS:
            raise TypeError(f"{kind.__name__} has no canonical encoding")
