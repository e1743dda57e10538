"""How much of the past a node keeps: for each part of the store a number of days, of heights, or all.

Days are block time, counted back from the latest block, so that a chain that stands still forgets nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from consensus.evidence import is_expired
from consensus.params import DAY_MS, Params

BLOCKS, RESULTS, EVENTS, INDEX, STATES = "blocks", "results", "events", "index", "states"
PARTS = (BLOCKS, RESULTS, EVENTS, INDEX, STATES)
"""What can be kept for different times. Nothing outlives its block, and neither events nor index their results."""

ALL = "all"
NUMBER_MAX = 10**9
STEPS_MAX = 256
"""Heights by which an horizon moves at most in one look: what follows from it is work of about 10 ms."""
_FORM = re.compile(r"([1-9][0-9]{0,9}) (days|heights)")


@dataclass(frozen=True, slots=True)
class Keep:
    """One part's share of the past; neither days nor heights: all of it."""

    days: int | None = None
    heights: int | None = None

    @classmethod
    def parse(cls, text: str) -> Keep:
        """What ``all``, ``400 days`` or ``1000 heights`` says. Raises ValueError with a sentence."""
        if text == ALL:
            return cls()
        found = _FORM.fullmatch(text)
        if found is None or int(found[1]) > NUMBER_MAX:
            raise ValueError(f"“{text:.40}” is not all, or a number of days or heights such as 400 days, 1000 heights")
        number = int(found[1])
        return cls(days=number) if found[2] == "days" else cls(heights=number)

    def is_longer_than(self, other: Keep) -> bool:
        """Whether this surely reaches farther back; False where days and heights can't be compared."""
        if other == Keep():
            return False
        if self.days is not None and other.days is not None:
            return self.days > other.days
        if self.heights is not None and other.heights is not None:
            return self.heights > other.heights
        return self == Keep()

    def lets_go(self, height: int, time_ms: int, latest: Latest) -> bool:
        """Whether the block of *height* at *time_ms* is older than what is kept."""
        if self.heights is not None:
            return height <= latest.height - self.heights
        return self.days is not None and time_ms < latest.time_ms - self.days * DAY_MS


@dataclass(frozen=True, slots=True)
class Latest:
    """The latest block, as retention looks at it."""

    height: int
    time_ms: int
    params: Params


@dataclass(frozen=True, slots=True)
class Retention:
    """What a node keeps of each part."""

    blocks: Keep
    results: Keep
    events: Keep
    index: Keep
    states: Keep

    @classmethod
    def of(cls, *, blocks: str, results: str, events: str, index: str, states: str) -> Retention:
        """As the configuration says it. Raises ValueError where a text is no `Keep`."""
        return cls(*(Keep.parse(text) for text in (blocks, results, events, index, states)))

    def horizons(
        self, present: dict[str, int], latest: Latest, time_ms: Callable[[int], int], pinned: int | None
    ) -> dict[str, int]:
        """The lowest height of each part that stays, at or above the *present* ones and no more than a few steps on.

        *time_ms* gives the block time of a kept height. Nothing at or above *pinned* goes, nor the latest height, nor
        a block on which evidence can still rest.
        """
        end = latest.height if pinned is None else min(latest.height, pinned)
        found: dict[str, int] = {}
        for part in PARTS:
            keep: Keep = getattr(self, part)
            horizon = present[part]
            if found.get(BLOCKS, 1) > 1:  # else no block has gone, and the state of height 0 has none
                horizon = max(horizon, min(end, found[BLOCKS]))
            stop = min(end, horizon + STEPS_MAX)
            while horizon < stop and self._goes(part, keep, horizon, latest, time_ms):
                horizon += 1
            found[part] = horizon
        # Events are read from the results, and the index leads to them.
        found[EVENTS] = max(found[EVENTS], found[RESULTS])
        found[INDEX] = max(found[INDEX], found[RESULTS])
        return found

    def _goes(self, part: str, keep: Keep, height: int, latest: Latest, time_ms: Callable[[int], int]) -> bool:
        if keep == Keep():
            return False
        at_ms = time_ms(height)
        if not keep.lets_go(height, at_ms, latest):
            return False
        return part != BLOCKS or is_expired(
            latest.params, found_height=height, found_time_ms=at_ms, height=latest.height, time_ms=latest.time_ms
        )


class Pins:
    """Heights that somebody reads just now, and that retention leaves alone with all above them."""

    def __init__(self) -> None:
        self._pins: list[Pin] = []

    def hold(self, height: int) -> Pin:
        """*height*, and everything after it, stays until the pin is let go (a context manager does it)."""
        pin = Pin(height, self._pins)
        self._pins.append(pin)
        return pin

    @property
    def lowest(self) -> int | None:
        """The lowest pinned height, None if nothing is."""
        return min((pin.height for pin in self._pins), default=None)


class Pin:
    """See `Pins.hold`."""

    def __init__(self, height: int, pins: list[Pin]) -> None:
        self.height = height
        self._pins = pins

    def let_go(self) -> None:
        """The height is nobody's concern any more; letting go twice is letting go."""
        if self in self._pins:
            self._pins.remove(self)

    def __enter__(self) -> Pin:
        return self

    def __exit__(self, *_: object) -> None:
        self.let_go()
