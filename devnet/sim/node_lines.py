"""Which lines of Algorithm 1 the machines of a node world carry out: the real driver around machines that are watched.

A line that a start replays from the log counts again: the machine does carry it out again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import structlog

from consensus.machine import Machine
from devnet.sim.core_lines import LINES as ALL
from devnet.sim.core_lines import WatchedMachine
from node import height

_CONTESTED = "needs a proposal that meets a lock, which takes the contested heights of core worlds"
LEFT_TO_CORE_WORLDS = {
    "L13 leaves WAIT: a proposal": "the driver tells of a header before its block, so that it is the header every time",
    "L24 prevotes the block of its lock, proposed afresh": _CONTESTED,
    "L26 prevotes nil: locked": _CONTESTED,
    "L30 prevotes the block of its lock, older polka": _CONTESTED,
    "L32 prevotes nil: locked later than the polka": _CONTESTED,
    "L51 decides an earlier round": "needs precommits that are later than their timeout: one world in a hundred",
}
"""Lines that a run of node worlds may miss, and why."""
LINES = ALL - set(LEFT_TO_CORE_WORLDS)
"""What must occur in a long run of node worlds: each in one world of ten, or in more."""


@contextmanager
def counted_into(lines: Counter[str], honest: Callable[[int], bool]) -> Iterator[None]:
    """While it lasts, what machines of *honest* nodes (by number) carry out counts in *lines*.

    A machine made in the task of a node, which says its number in its logs, is that node's.
    """

    def make(**given: Any) -> Machine:
        number = structlog.contextvars.get_contextvars()["node"]
        return WatchedMachine(**given, lines=lines) if honest(number) else Machine(**given)

    before = vars(height)["Machine"]
    vars(height)["Machine"] = make
    try:
        yield
    finally:
        vars(height)["Machine"] = before
