"""Which heights the store has of each part, and which must stay: read just now, or offered to newcomers."""

from __future__ import annotations

from collections.abc import Mapping

from consensus.chain import ChainState
from node.retention import BLOCKS, STATES, Pins
from node.snapshot_messages import SNAPSHOTS_MAX
from node.state import StateHorizon
from node.store_blocks import Blocks
from node.store_meta import FORGETTABLE, IMPORTED, OLDEST_STATE, oldest_key


class HeightGone(KeyError):
    """A height that was decided and is not kept any more. A KeyError, as for a height that never was."""

    def __init__(self, part: str, height: int, earliest: int) -> None:
        super().__init__(f"height {height} is not kept: {part} begin at {earliest}")
        self.part = part
        """``blocks``, ``results``, ``events``, ``index`` or ``states``."""
        self.earliest = earliest
        """The lowest height that is kept of it."""


class Kept:
    """The heights of one store."""

    def __init__(self, blocks: Blocks, chain: ChainState | None) -> None:
        """As the disk says it. *chain*: after the latest block; None in an empty store."""
        self.states = StateHorizon(int.from_bytes(blocks.meta(OLDEST_STATE) or b"", "big"), -1)
        """Those whose state can be read."""
        self.present = {part: int.from_bytes(blocks.meta(oldest_key(part)) or b"\x01", "big") for part in FORGETTABLE}
        """The lowest height of each part that has not been deleted."""
        self._earliest = dict(self.present)
        """The lowest height of each part that is still read: never below `present`."""
        self.pins = Pins()
        """Heights that somebody reads just now: retention leaves them, and all after them, alone."""
        self.imported = int.from_bytes(blocks.meta(IMPORTED) or b"", "big")
        """The height of the snapshot that this store began with; 0: none."""
        self._snapshot_interval = 0
        if chain is not None:
            self.reached(chain)

    def reached(self, chain: ChainState) -> None:
        """The latest height is that of *chain*."""
        self.states.latest = chain.height
        self._snapshot_interval = chain.params.snapshot_interval_blocks

    @property
    def earliest(self) -> dict[str, int]:
        """The lowest height that is kept of each part (`node.retention.PARTS`)."""
        return {**self._earliest, STATES: self.states.oldest}

    def has_header(self, height: int) -> bool:
        """Whether header and commit of *height* can be read: those of the blocks here, and of a snapshot's height."""
        kept = self._earliest[BLOCKS] <= height or height == self.imported
        return kept and 1 <= height <= self.states.latest

    def snapshot_heights(self) -> tuple[int, ...]:
        """Heights whose state is kept for newcomers, newest first, at most two."""
        interval = self._snapshot_interval
        if interval == 0:
            return ()
        newest = self.states.latest - self.states.latest % interval
        return tuple(
            height
            for height in range(newest, newest - SNAPSHOTS_MAX * interval, -interval)
            if height >= self.states.oldest and self.has_header(height)
        )

    def lowest(self, part: str) -> int:
        """The lowest height that is kept of *part*, one of `FORGETTABLE`."""
        return self._earliest[part]

    def check(self, part: str, height: int) -> None:
        """Raises HeightGone if *height* lies under what is kept of *part*, one of `FORGETTABLE`."""
        if 1 <= height < self._earliest[part]:
            raise HeightGone(part, height, self._earliest[part])

    def check_header(self, height: int) -> None:
        """The same for headers, commits, sets and parameters, which a snapshot brings of its own height."""
        if height != self.imported:
            self.check(BLOCKS, height)

    @property
    def pinned(self) -> int | None:
        """The lowest height that somebody reads just now, or that is kept for newcomers; None: no such."""
        return min(
            (height for height in (self.pins.lowest, *self.snapshot_heights()) if height is not None), default=None
        )

    def forget(self, below: Mapping[str, int]) -> Mapping[str, int]:
        """Nothing under the heights *below* is read any more, but the latest and what is pinned. Gives the horizons."""
        end = self._forgettable
        for part in FORGETTABLE:
            self._earliest[part] = max(self._earliest[part], min(below[part], end))
        return self._earliest

    def forget_states(self, below_height: int) -> int:
        """No state under *below_height* is read any more, likewise. Gives the oldest that is."""
        self.states.oldest = max(self.states.oldest, min(below_height, self._forgettable))
        return self.states.oldest

    @property
    def _forgettable(self) -> int:
        """The lowest height that must stay now."""
        pinned = self.pinned
        return self.states.latest if pinned is None else min(self.states.latest, pinned)
