"""What one world comes to, and what a depth of the simulator is: a function from a seed to that."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias, cast

Tell: TypeAlias = Callable[[str], None]
"""Takes one line of a trace."""


class Broken(AssertionError):
    """A promise does not hold in this world. ``code`` is stable (``fork`` …); the text says what was seen."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One world, from its seed to its end. The same seed gives the same outcome on every machine."""

    seed: int
    heights: int
    """Decided by every correct node."""
    rounds_above_0: int
    """Rounds after the first that some correct node entered, each once a height."""
    virtual_ms: int
    """How long the world lasted by its own clock."""
    faults: Mapping[str, int]
    """How often each fault and each kind of lie happened."""
    lines: Mapping[str, int] = field(default_factory=dict)
    """How often each line of Algorithm 1 was carried out by a correct node."""
    hash: str
    """Hex, over everything that was said and decided, in order."""
    violation: str | None = None
    """``code: what was seen``; None where every promise held."""


class Depth(Protocol):
    """A module that simulates. What it names must occur in any run of `report.SEEDS_ENOUGH` seeds."""

    FAULTS: frozenset[str]
    """Every fault that a seed may draw."""
    LINES: frozenset[str]
    """Every line of Algorithm 1 with a condition, if this depth looks so deep."""

    def run(self, seed: int, tell: Tell | None = None) -> Outcome:
        """The world of *seed*; *tell* takes its trace. Broken promises come back in the outcome."""


DEPTHS = {"core": "devnet.sim.core", "node": "devnet.sim.node"}
"""Each depth's module, imported when asked for."""


def depth(name: str) -> Depth:
    """The depth called *name*, one of `DEPTHS`."""
    return cast(Depth, importlib.import_module(DEPTHS[name]))
