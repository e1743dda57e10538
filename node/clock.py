"""Looks after this machine's clock: says when it jumped, and when it is behind the chain, as no right one is."""

from __future__ import annotations

from collections.abc import Callable

import structlog
import trio

from consensus.chain import ChainState

log = structlog.get_logger("clock")

LOOK_S = 10.0
JUMP_MS = 500
"""Between two looks; what is corrected by slewing moves a clock by 5 ms in that time (500 ppm)."""


class ClockWatch:
    """Compares the wall clock with one that only goes forward, and with the latest block's time.

    Nothing but the log depends on it: validity never asks a clock, a proposal's time is never before its parent's, and
    what a wrong clock makes us think untimely costs a round.
    """

    def __init__(self, now_ms: Callable[[], int], chain: Callable[[], ChainState]) -> None:
        self._now_ms = now_ms
        self._chain = chain
        self._offset_ms = self._offset()
        self._is_behind = False

    async def run(self) -> None:
        """Looks now and then, until cancelled."""
        while True:
            self.look()
            await trio.sleep(LOOK_S)

    def look(self) -> None:
        """The log has what is new since the last look."""
        offset_ms = self._offset()
        by_ms = offset_ms - self._offset_ms
        self._offset_ms = offset_ms
        if by_ms < -JUMP_MS:
            log.warning("clock_jumped", by_ms=by_ms)
        elif by_ms > JUMP_MS:
            log.info("clock_jumped_ahead", by_ms=by_ms)
        chain = self._chain()
        behind_ms = chain.time_ms - self._now_ms()
        was_behind, self._is_behind = self._is_behind, behind_ms > chain.params.precision_ms
        if self._is_behind and not was_behind:
            log.warning("clock_behind_chain", by_ms=behind_ms)

    def _offset(self) -> int:
        return self._now_ms() - round(trio.current_time() * 1000)
