"""What a way in is: how bytes are read, what they may be refused with, and bytes to begin with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

Read = Callable[[bytes], Any]


@dataclass(frozen=True, slots=True)
class Decoder:
    """One way in."""

    name: str
    read: Read
    refusals: tuple[type[Exception], ...]
    """All that it may raise."""
    samples: st.SearchStrategy[bytes]
    """Bytes that it takes, or nearly."""
    write: Callable[[Any], bytes] | None = None
    """The bytes of what was read: the same again, where one value has one encoding."""
