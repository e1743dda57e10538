"""The task that forgets the past while the node runs: small pieces between heights, with pauses, also while syncing."""

from __future__ import annotations

import structlog
import trio

from node.heights import Heights
from node.retention import PARTS, STATES, Latest, Retention
from node.store import Store

log = structlog.get_logger("store")

BATCH_HEIGHTS = 16
"""So many heights gather before their rows are deleted: a piece costs an fsync, which each height need not pay."""
PAUSE_S = 0.05
"""Between two pieces of about 10 ms: whatever there is to forget, the node has most of its time for the chain."""


class Pruner:
    """Keeps the store within its retention."""

    def __init__(self, store: Store, heights: Heights, retention: Retention) -> None:
        self._store = store
        self._heights = heights
        self._retention = retention
        self._is_owed = True
        """Whether rows below the horizons may be left, as at the start and after a piece that reached its limit."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Looks after each height, until cancelled. Raises StoreFailed."""
        task_status.started()
        while True:
            height = self._heights.current
            if await self.step():
                await trio.sleep(PAUSE_S)
            else:
                await self._heights.wait_beyond(height)

    async def step(self) -> bool:
        """One piece of what is due has gone; False where nothing was due."""
        store = self._store
        present = store.kept.earliest
        horizons = self._horizons(present)
        moved = {part: horizons[part] - present[part] for part in PARTS}
        if not self._is_owed and max(moved.values()) < BATCH_HEIGHTS:
            return False
        states_gone = await store.prune(horizons[STATES])
        others_gone = await store.forget(horizons)
        was_owed, self._is_owed = self._is_owed, not (states_gone and others_gone)
        if max(moved.values()) > 0 or was_owed:
            log.debug("past_forgotten", **store.kept.earliest)
        return True

    def _horizons(self, present: dict[str, int]) -> dict[str, int]:
        store = self._store
        chain = store.chain_state()
        assert chain is not None, "the genesis is stored before the node runs"
        latest = Latest(chain.height, chain.time_ms, chain.params)
        return self._retention.horizons(present, latest, self._time_ms, store.kept.pinned)

    def _time_ms(self, height: int) -> int:
        """Block time of *height*; that of the genesis is as early as can be."""
        return self._store.header(height).time_ms if height > 0 else 0
