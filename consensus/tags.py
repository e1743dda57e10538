"""Messages of several kinds on one wire: ``[tag, fields]``; a kind's tag is its place in a table that only grows."""

from __future__ import annotations

from typing import Any

from consensus.codec import BadMessage, Wire, decode, encode
from consensus.shape import shape_of


class TagTable:
    """The dataclasses that one channel or log carries."""

    def __init__(self, *kinds: type) -> None:
        self._kinds: tuple[Any, ...] = kinds
        self._tags: dict[type, int] = {kind: tag for tag, kind in enumerate(kinds)}

    def to_wire(self, message: object) -> Wire:
        """The array that stands for *message*."""
        kind: Any = type(message)
        return (self._tags[kind], shape_of(kind).to_wire(message))

    def from_wire(self, value: Wire) -> Any:
        """The message that *value* stands for. Raises BadMessage."""
        if type(value) is not tuple or len(value) != 2:
            raise BadMessage("expected [tag, fields]")
        tag, fields = value
        if type(tag) is not int or not 0 <= tag < len(self._kinds):
            raise BadMessage(f"no message has the tag {tag!r:.20}", "bad_message.unknown")
        return shape_of(self._kinds[tag]).from_wire(fields)

    def to_bytes(self, message: object) -> bytes:
        """The canonical bytes of *message*."""
        return encode(self.to_wire(message))

    def from_bytes(self, data: bytes, *, bytes_max: int) -> Any:
        """The message whose canonical bytes are *data*. Raises BadMessage."""
        return self.from_wire(decode(data, bytes_max=bytes_max))
