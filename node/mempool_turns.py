"""What is dear to check is checked by turns: a bounded number a second, and each source in its turn.

Transactions without a sender pay nothing and are admitted by their module's own check, which may take as long as a
hundred signatures. So they wait here, apart from all others, and no peer's crowd of them keeps those of another back.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TypeAlias

import trio

from node.mempool_entries import NoRoom

PER_SECOND, BURST = 20.0, 20.0
"""Checked in the long run, and without a pause after a quiet time: a ring signature among a hundred takes about 10 ms,
so a fifth of a core at most, and a tenth of what the blocks of a busy town could hold."""
WAITING_MAX = 16
"""Of one peer, and of our clients together; more are refused."""

Source: TypeAlias = "bytes | None"
"""A peer's id; None: the clients of this node together."""


class Turns:
    """Gives out turns, at most `PER_SECOND` in the long run."""

    def __init__(self) -> None:
        self._left = BURST
        self._left_at = -1.0
        self._waiting: OrderedDict[Source, deque[trio.Event]] = OrderedDict()
        """Sources in the order of their turns, none with an empty queue."""
        self._given = False
        """Whether somebody has the turn now."""

    @property
    def waiting(self) -> int:
        """How many wait for a turn."""
        return sum(map(len, self._waiting.values()))

    async def mine(self, source: Source) -> None:
        """Returns when it is *source*'s turn, which is then used. Raises NoRoom if too many of it wait already."""
        queue = self._waiting.get(source)
        if queue is not None and len(queue) >= WAITING_MAX:
            raise NoRoom("tx.anonymous_busy", "too many transactions without a sender wait to be checked; try again")
        turn = trio.Event()
        self._waiting.setdefault(source, deque()).append(turn)
        if not self._given:
            self._give()
        try:
            await turn.wait()
            await trio.sleep_until(self._next_at())
            self._next_at()
            self._left -= 1
        finally:
            if turn.is_set():
                self._give()
            else:  # cancelled before its turn
                self._drop(source, turn)

    def _next_at(self) -> float:
        """When there is a turn to give, on trio's clock; what has gathered since the last one counts from now on."""
        now = trio.current_time()
        if self._left_at >= 0:
            self._left = min(BURST, self._left + (now - self._left_at) * PER_SECOND)
        self._left_at = now
        return now + max(0.0, (1 - self._left) / PER_SECOND)

    def _give(self) -> None:
        """The next source has the turn; it goes to the end of the line if it has more."""
        self._given = bool(self._waiting)
        if self._given:
            source, queue = self._waiting.popitem(last=False)
            queue.popleft().set()
            if queue:
                self._waiting[source] = queue

    def _drop(self, source: Source, turn: trio.Event) -> None:
        queue = self._waiting[source]
        queue.remove(turn)
        if not queue:
            del self._waiting[source]
