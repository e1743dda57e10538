"""What answers on channel `sync` may take of a node: bytes and time in all, bytes for each asker, in fair shares.

A question of a few bytes brings up to 18 MiB. So answers wait: each is paid for once it is known how large it was and
how long it took, and the next one is made when that is paid off.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import trio

TIME_SHARE = 1 / 2
"""Of the node's time, at most: headers and small blocks are few bytes and much work."""
SAVED_S = 1.0
"""So much of its budget has in store whoever took less: who asks for little does not wait at all."""


@dataclass(slots=True, eq=False)
class Asker:
    """One connected peer that may ask."""

    pays_until: float = -math.inf
    """trio time at which its last answers are paid off by its own budget."""
    had_s: float = 0.0
    """Where its next answer stands among those of others: seconds of the whole budget that it took so far."""


class ServingBudget:
    """Makes answers one at a time, whoever asks. Of those who wait, the next is who had least."""

    def __init__(self, *, bytes_per_second_max: int, bytes_per_second_per_peer_max: int) -> None:
        self._rate = bytes_per_second_max
        self._rate_per_peer = bytes_per_second_per_peer_max
        self._pays_until = -math.inf
        self._busy = False
        self._waiting: list[tuple[float, int]] = []
        """Places of those who wait."""
        self._numbers = itertools.count()
        self._begun_s = 0.0
        """The place of the latest answer: a newcomer stands there, not before all who ever asked."""
        self._changed = trio.lowlevel.ParkingLot()

    async def answer(self, asker: Asker, make: Callable[[], Awaitable[bytes]]) -> bytes:
        """What *make* gives, made as soon as the budget has room and it is *asker*'s turn."""
        await trio.sleep_until(asker.pays_until)
        place = await self._turn(asker)
        began = trio.current_time()
        try:
            data = await make()
        finally:
            self._busy = False
            self._changed.unpark_all()
        self._charge(asker, place, len(data), trio.current_time() - began)
        return data

    async def _turn(self, asker: Asker) -> float:
        place = max(self._begun_s, asker.had_s), next(self._numbers)
        self._waiting.append(place)
        try:
            while True:
                is_next = not self._busy and place == min(self._waiting)
                if is_next and trio.current_time() >= self._pays_until:
                    break
                with trio.move_on_at(self._pays_until if is_next else math.inf):
                    await self._changed.park()
        finally:
            self._waiting.remove(place)
            self._changed.unpark_all()
        self._busy = True
        self._begun_s = place[0]
        return place[0]

    def _charge(self, asker: Asker, place: float, size: int, took_s: float) -> None:
        saved_since = trio.current_time() - SAVED_S
        cost_s = max(size / self._rate, took_s / TIME_SHARE)
        self._pays_until = max(self._pays_until, saved_since) + cost_s
        asker.pays_until = max(asker.pays_until, saved_since) + size / self._rate_per_peer
        asker.had_s = place + cost_s
