"""Serving those who are behind: decided heights; and newcomers: headers with their proofs, and states."""

from __future__ import annotations

from pathlib import Path

import trio

from consensus.block import Header
from consensus.codec import BadMessage
from node.genesis_state import chunk_of
from node.retention import BLOCKS
from node.snapshot_messages import (
    PLACES,
    Headers,
    LightBlockHere,
    ModuleRoots,
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
from node.sync_messages import (
    DecidedHeight,
    Genesis,
    NoHeight,
    StateChunk,
    SyncMessage,
    SyncQuestion,
    WantGenesis,
    WantHeight,
    WantStateChunk,
)


class SyncServer:
    """Answers out of the store. Reads each piece straight from the state tree: nothing is copied beforehand."""

    def __init__(self, store: Store, genesis_state: Path | None = None) -> None:
        """*genesis_state*: the file with the state that the genesis goes on from, if it does."""
        self._store = store
        self._genesis_state = genesis_state

    async def answer(self, question: SyncQuestion) -> SyncMessage:
        """The answer to *question*; NoHeight where this node lacks it. Raises BadMessage for a senseless path."""
        return await self._answer(question) or self._not_here(getattr(question, "height", 0))

    async def _answer(self, question: SyncQuestion) -> SyncMessage | None:
        store = self._store
        match question:
            case WantHeight(height):
                return self._decided(height)
            case WantGenesis():
                return Genesis(store.genesis_bytes())
            case WantStateChunk(number):
                found = None if self._genesis_state is None else chunk_of(self._genesis_state, number)
                return StateChunk(number, found or b"")
            case WantSnapshots():
                return Snapshots(store.kept.snapshot_heights())
            case WantLightBlock(height):
                return self._light_block(height)
            case WantHeaders(height, count):
                return self._headers(height, count)
            case WantModuleRoots(height):
                return ModuleRoots(height, store.module_roots(height)) if store.kept.has_header(height) else None
            case WantState():
                return await self._state(question)

    def _not_here(self, height: int) -> NoHeight:
        return NoHeight(height, self._store.kept.earliest[BLOCKS])

    def _decided(self, height: int) -> DecidedHeight | None:
        store = self._store
        if not store.kept.earliest[BLOCKS] <= height <= store.height:
            return None
        return DecidedHeight(store.block(height), store.block_transactions(height), store.commit_of(height)[0])

    def _headers(self, height: int, count: int) -> Headers | None:
        """Those from *height* down, as far as they are here without a gap."""
        headers: list[Header] = []
        while len(headers) < count and self._store.kept.has_header(height - len(headers)):
            headers.append(self._store.header(height - len(headers)))
        return Headers(tuple(headers)) if headers else None

    def _light_block(self, height: int) -> LightBlockHere | None:
        store = self._store
        if not store.kept.has_header(height):
            return None
        header, validators = store.header(height), store.validators_at(height)
        following = store.validators_at(height + 1)
        same = following.hash == validators.hash
        return LightBlockHere(header, store.commit_of(height)[0], validators, None if same else following)

    async def _state(self, wanted: WantState) -> StateEntries | StateNode | None:
        if any(nibble >= PLACES for nibble in wanted.path):
            raise BadMessage("a path through the state that there can't be", "bad_message.path")
        if wanted.height not in self._store.kept.snapshot_heights():
            return None
        try:
            reading = self._store.read_piece(wanted.module, wanted.path, wanted.height)
            while True:
                try:
                    next(reading)
                except StopIteration as done:
                    piece: StateEntries | StateNode = done.value
                    return piece
                await trio.lowlevel.checkpoint()
        except (StateGone, KeyError):
            return None
