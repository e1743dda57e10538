"""The clocks of a world's nodes: each with an offset and a rate of its own, all derived from trio's."""

from __future__ import annotations

from dataclasses import dataclass

import trio

START_MS = 1_790_000_000_000
"""What a right clock shows when the world begins, Unix ms."""


@dataclass(slots=True)
class NodeClock:
    """A machine's wall clock. What nodes measure durations with (trio's clock) is right everywhere."""

    offset_ms: float = 0.0
    rate: float = 1.0
    """1.001 gains a millisecond each second."""

    def now_ms(self) -> int:
        """Unix milliseconds, as this machine believes."""
        return START_MS + int(trio.current_time() * 1000 * self.rate + self.offset_ms)

    def drift(self, rate: float) -> None:
        """From now on the clock runs at *rate*; it does not jump."""
        self.offset_ms += trio.current_time() * 1000 * (self.rate - rate)
        self.rate = rate

    def jump(self, ms: float) -> None:
        """Somebody set the clock *ms* ahead (back, if negative)."""
        self.offset_ms += ms

    def set_right(self) -> None:
        """The clock is right, and stays so."""
        self.offset_ms, self.rate = 0.0, 1.0
