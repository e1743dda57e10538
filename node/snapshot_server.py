"""Serving newcomers: headers with their proofs, and the state of the heights that are kept for them."""

from __future__ import annotations

import trio

from consensus.codec import BadMessage
from node.snapshot_messages import (
    PLACES,
    Headers,
    LightBlockHere,
    ModuleRoots,
    SnapshotAnswer,
    SnapshotQuestion,
    Snapshots,
    StateEntries,
    StateNode,
    WantHeaders,
    WantLightBlock,
    WantModuleRoots,
    WantSnapshots,
    WantState,
)
from node.state import StateGone
from node.store import Store

PAUSE_S = 0.002
"""After each piece of state: whoever asks without end gets a part of this node's time, however many they are."""


class SnapshotServer:
    """Answers out of the store. Reads each piece straight from the state tree: nothing is copied beforehand."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._reading = trio.Lock()

    async def answer(self, question: SnapshotQuestion) -> SnapshotAnswer | None:
        """The answer to *question*, None where this node does not have it. Raises BadMessage for a senseless path."""
        match question:
            case WantSnapshots():
                return Snapshots(self._store.snapshot_heights())
            case WantLightBlock(height):
                return self._light_block(height)
            case WantHeaders(height, count):
                lowest = max(height - count + 1, 1)
                heights = [each for each in range(height, lowest - 1, -1) if self._store.has_header(each)]
                return Headers(tuple(self._store.header(each) for each in heights)) if heights[:1] == [height] else None
            case WantModuleRoots(height):
                if not self._store.has_header(height):
                    return None
                return ModuleRoots(height, self._store.module_roots(height))
            case WantState():
                return await self._state(question)

    def _light_block(self, height: int) -> LightBlockHere | None:
        store = self._store
        if not store.has_header(height):
            return None
        header, validators = store.header(height), store.validators_at(height)
        following = store.validators_at(height + 1)
        same = following.hash == validators.hash
        return LightBlockHere(header, store.commit_of(height)[0], validators, None if same else following)

    async def _state(self, wanted: WantState) -> StateEntries | StateNode | None:
        """One piece at a time, whoever asks."""
        if any(nibble >= PLACES for nibble in wanted.path):
            raise BadMessage("a path through the state that there can't be", "bad_message.path")
        async with self._reading:
            if wanted.height not in self._store.snapshot_heights():
                return None
            try:
                reading = self._store.read_piece(wanted.module, wanted.path, wanted.height)
                while True:
                    try:
                        next(reading)
                    except StopIteration as done:
                        piece: StateEntries | StateNode = done.value
                        break
                    await trio.lowlevel.checkpoint()
            except (StateGone, KeyError):
                return None
            await trio.sleep(PAUSE_S)
        return piece
