"""The latest decided height, and a way to wait for the next."""

from __future__ import annotations

import trio


class Heights:
    """`current` only grows; whoever waits is woken once a height is committed."""

    def __init__(self, current: int) -> None:
        self.current = current
        self._lot = trio.lowlevel.ParkingLot()

    def reached(self, height: int) -> None:
        """*height* is committed; all who wait look again."""
        assert height >= self.current, "heights only grow"
        self.current = height
        self._lot.unpark_all()

    async def wait_beyond(self, height: int) -> int:
        """The current height, as soon as it is greater than *height*."""
        while self.current <= height:
            await self._lot.park()
        return self.current
