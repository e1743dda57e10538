"""All pieces of a snapshot: from peers, or from the disk if they came before an earlier stop; each is verified."""

from __future__ import annotations

from dataclasses import dataclass

import structlog
import trio

from consensus.codec import BadMessage
from consensus.jellyfish import EMPTY
from node.snapshot_kept import KeptPieces
from node.snapshot_messages import StateEntries, StateNode, WantState
from node.snapshot_peers import NoAnswer, Source, Sources
from node.snapshot_pieces import Part, verified_entries, verified_node
from node.state_nodes import inner_reference
from node.store import Store
from node.store_import import Piece
from node.sync_messages import NoHeight, SyncMessage

log = structlog.get_logger("snapshot")

PER_PEER_MAX = 2
"""Parts that one peer is asked for at a time."""
FLUSH_BYTES = 4 * 2**20
"""Verified pieces that are written in one transaction."""
PROGRESS_S = 2.0


class GoneStale(Exception):
    """This snapshot can't be had; perhaps another one."""


@dataclass(slots=True)
class Counts:
    """What is here, and verified."""

    pieces: int = 0
    entries: int = 0
    bytes: int = 0


class Download:
    """All pieces of the state of one height, each from whoever has time, verified and written as they come."""

    def __init__(self, store: Store, sources: Sources, kept: KeptPieces, height: int, counts: Counts) -> None:
        self._store = store
        self._sources = sources
        self._kept = kept
        self._height = height
        self._counts = counts
        self._todo: list[Part] = []
        """A stack: so few nodes are open at a time, however large the state is."""
        self._under_way = 0
        self._verified: list[Piece] = []
        self._fresh: dict[bytes, SyncMessage] = {}
        """Those answers behind `_verified` that are not kept yet, by hash."""
        self._verified_bytes = 0
        self._references: dict[str, bytes] = {}
        self._chain: dict[bytes, bytes] = {}

    async def run(self, roots: dict[str, bytes]) -> tuple[dict[str, bytes], dict[bytes, bytes]]:
        """References of all roots, and the entries of leaf ``chain``. Raises GoneStale when nobody has it any more."""
        self._references = dict.fromkeys(roots, b"")
        self._todo = [Part(module, b"", root) for module, root in sorted(roots.items()) if root != EMPTY]
        told_at = trio.current_time()
        async with trio.open_nursery() as nursery:
            while self._todo or self._under_way or self._verified:
                changed = self._sources.changed
                await self._assign(nursery)
                if self._verified_bytes >= FLUSH_BYTES or (self._verified and not self._todo and not self._under_way):
                    await self._flush()
                    continue
                if not self._under_way and self._todo and not self._sources.usable(self._height):
                    break
                with trio.move_on_after(PROGRESS_S):
                    await changed.wait()
                if trio.current_time() - told_at >= PROGRESS_S:
                    told_at = trio.current_time()
                    counts = self._counts
                    log.info("snapshot_progress", height=self._height, entries=counts.entries, bytes=counts.bytes)
        if self._todo:
            raise GoneStale("no peer that offers it is left")
        return self._references, self._chain

    async def _assign(self, nursery: trio.Nursery) -> None:
        while self._todo and self._verified_bytes < 2 * FLUSH_BYTES:
            part = self._todo.pop()
            if self._recall(part):
                await trio.lowlevel.checkpoint()
                continue
            free = [source for source in self._sources.usable(self._height) if source.under_way < PER_PEER_MAX]
            if not free:
                self._todo.append(part)
                return
            source = min(free, key=lambda each: each.under_way)
            source.under_way += 1
            self._under_way += 1
            nursery.start_soon(self._get, source, part)

    def _recall(self, part: Part) -> bool:
        """Whether *part* came before, and holds; what the disk changed is asked for again."""
        try:
            answer = self._kept.get(part.hash)
            if answer is not None:
                self._take(part, answer)
        except (BadMessage, GoneStale):
            return False
        return answer is not None

    async def _get(self, source: Source, part: Part) -> None:
        """*part* is verified, or to be done again by another."""
        try:
            answer = await source.ask(WantState(self._height, part.module, part.path))
            self._take(part, answer)
            self._fresh[part.hash] = answer
        except NoAnswer:
            self._todo.append(part)
        except BadMessage as lie:
            self._todo.append(part)
            source.lied(str(lie))
        except GoneStale:
            self._todo.append(part)
            source.offers = tuple(height for height in source.offers or () if height != self._height)
        finally:
            source.under_way -= 1
            self._under_way -= 1
            self._sources.wake()

    def _take(self, part: Part, answer: SyncMessage) -> None:
        """Raises BadMessage for what is not the part, GoneStale if its sender lacks it."""
        match answer:
            case StateEntries(entries):
                update = verified_entries(part, entries, height=self._height)
                piece, reference = Piece(part.module, entries, update.written), update.root
                size = sum(len(key) + len(value) for key, value in entries)
                if part.module == "chain":
                    self._chain.update(entries)
                self._counts.entries += len(entries)
                self._counts.bytes += size
            case StateNode(places):
                node, below = verified_node(part, places, height=self._height)
                self._todo += reversed(below)
                piece = Piece(part.module, (), {part.path: node})
                reference, size = inner_reference(self._height.to_bytes(8, "big"), part.hash), len(places) * 64
            case NoHeight():
                raise GoneStale("it does not hold it any more")
            case _:
                raise BadMessage("an answer to another question", "bad_message.unasked")
        if not part.path:
            self._references[part.module] = reference
        self._counts.pieces += 1
        self._verified.append(piece)
        self._verified_bytes += size + 256

    async def _flush(self) -> None:
        pieces, self._verified, self._verified_bytes = self._verified, [], 0
        fresh, self._fresh = self._fresh, {}
        self._kept.put(fresh)
        await self._store.import_pieces(pieces, self._height)
