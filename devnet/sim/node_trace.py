"""What happened in a node world, in order: lines for people, counts for the report, and a hash over all of it."""

from __future__ import annotations

import hashlib
from collections import Counter

import trio

from devnet.sim.outcome import Tell


class Trace:
    """Everything that is noted or said counts in `hash`; *tell* takes the lines."""

    def __init__(self, tell: Tell | None) -> None:
        self._hash = hashlib.sha256()
        self._tell = tell
        self.counts: Counter[str] = Counter()
        """How often each fault or lie happened."""

    def note(self, text: str) -> None:
        """*text* happened now."""
        line = f"{trio.current_time():10.4f}  {text}"
        self._hash.update(line.encode())
        if self._tell is not None:
            self._tell(line)

    def fault(self, name: str, text: str = "") -> None:
        """The fault *name* happened now."""
        self.counts[name] += 1
        self.note(f"{name} {text}".rstrip())

    def said(self, who: int, to: bytes, channel: int, message: bytes) -> None:
        """Node *who* said *message*: not a line, but part of the hash."""
        self._hash.update(b"%.6f %d %d " % (trio.current_time(), who, channel))
        self._hash.update(to)
        self._hash.update(message)

    def remark(self, text: str) -> None:
        """A line of a node's log: for people only, no part of the hash."""
        if self._tell is not None:
            self._tell(f"{trio.current_time():10.4f}    {text}")

    @property
    def hash(self) -> str:
        """32 bytes in hex, over all that was noted and said."""
        return self._hash.hexdigest()
