"""Trio on a mock clock with its dice seeded: the one place that reaches into trio's private parts (DESIGN §11)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import trio
import trio.testing
from trio._core import _run as trio_run

T = TypeVar("T")


def run_deterministically(main: Callable[[], Awaitable[T]], *, seed: int) -> T:
    """What *main* returns, run alone on a clock that jumps whenever all tasks wait. Same *seed*, same order of tasks.

    *main* must use no thread and no real I/O that waits: the clock would not see them.
    """
    with _seeded(seed):
        return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    private = vars(trio_run)
    before, dice = private["_ALLOW_DETERMINISTIC_SCHEDULING"], private["_r"]
    state = dice.getstate()
    private["_ALLOW_DETERMINISTIC_SCHEDULING"] = True
    dice.seed(seed)
    try:
        yield
    finally:
        private["_ALLOW_DETERMINISTIC_SCHEDULING"] = before
        dice.setstate(state)
