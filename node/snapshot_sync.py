"""A newcomer begins with a snapshot: the state at a height, from peers, proved by the trust root of its invite link.

Light blocks lead from the root to the snapshot's header; the header proves the roots of all modules' trees; and each
piece of a tree is verified when it arrives (`node.snapshot_pieces`). What peers claim decides only whom to ask. If it
does not work out, the node executes all blocks instead (`node.block_sync`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import structlog
import trio

from consensus.block import Header, LightBlock
from consensus.chain import ChainState, InvalidBlock, verify_commit
from consensus.codec import BadMessage
from consensus.jellyfish import EMPTY, application_hash
from consensus.light import (
    BadLightBlock,
    Offer,
    Trusted,
    TrustedBlock,
    TrustedGenesis,
    follow,
    verify_backwards,
)
from consensus.params import SNAPSHOT_INTERVAL_BLOCKS_MAX
from consensus.restored import chain_state_from, members_in
from consensus.validators import Update
from node.snapshot_messages import (
    HEADERS_MAX,
    SNAPSHOTS_MAX,
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
from node.snapshot_peers import NoAnswer, Source, Sources
from node.snapshot_pieces import Part, verified_entries, verified_node
from node.state_nodes import inner_reference
from node.store import Store
from node.store_import import Landing, Piece
from node.sync_messages import NoHeight, SyncMessage
from node.trust_root import TrustRoot

log = structlog.get_logger("snapshot")

DISCOVERY_S = 20.0
"""How long peers that offer something are waited for, before all blocks are executed instead."""
SETTLE_S = 0.5
"""How long others are waited for once one has offered something."""
NONE_S = 2.0
"""The same, once all that answered offered nothing: a young chain is executed sooner than searched."""
ATTEMPTS_MAX = 8
"""Snapshots that are tried, one after another."""
FACT_S = 5.0
"""What an answer may take that is no part of the state."""
PER_PEER_MAX = 2
"""Parts that one peer is asked for at a time."""
FLUSH_BYTES = 4 * 2**20
"""Verified pieces that are written in one transaction."""
PROGRESS_S = 2.0
BACKWARDS_HEADERS_MAX = SNAPSHOTS_MAX * SNAPSHOT_INTERVAL_BLOCKS_MAX
"""A snapshot further below the trust root is none that an honest peer keeps."""


class NoSnapshot(Exception):
    """No snapshot can be had; the text says why."""


@dataclass(slots=True)
class _Counts:
    """What has been fetched."""

    pieces: int = 0
    entries: int = 0
    bytes: int = 0


class SnapshotSync:
    """One newcomer's way from genesis to a snapshot."""

    def __init__(
        self, *, store: Store, genesis: ChainState, trust_root: TrustRoot, sources: Sources, now_ms: Callable[[], int]
    ) -> None:
        """*genesis*: the state before block 1."""
        self._store = store
        self._genesis = genesis
        self._genesis_bytes = store.genesis_bytes()
        self._root = trust_root
        self._sources = sources
        self._now_ms = now_ms
        self._counts = _Counts()

    async def run(self) -> None:
        """The store stands at a verified snapshot. Raises NoSnapshot; the store may have been emptied then."""
        tried: set[int] = set()
        while len(tried) < ATTEMPTS_MAX:
            height = await self._choose(tried)
            tried.add(height)
            try:
                await self._fetch(height)
                return
            except _GoneStale as why:
                log.info("snapshot_given_up", height=height, why=str(why))
        raise NoSnapshot("none of the snapshots that peers offer could be had")

    # Which one ------------------------------------------------------------------------------------------------------

    async def _choose(self, tried: set[int]) -> int:
        """The height that most peers offer, the newest of those."""
        async with trio.open_nursery() as nursery:
            asked: set[Source] = set()
            deadline = trio.current_time() + DISCOVERY_S
            while trio.current_time() < deadline:
                changed = self._sources.changed
                for source in self._sources.waits():
                    if source not in asked:
                        asked.add(source)
                        nursery.start_soon(self._ask_offers, source)
                offered = {h: count for h, count in self._sources.offered().items() if h not in tried and h > 0}
                if offered or (asked and not any(self._sources.waits())):
                    deadline = min(deadline, trio.current_time() + (SETTLE_S if offered else NONE_S))
                if offered and not any(self._sources.waits()):
                    break
                with trio.move_on_at(deadline):
                    await changed.wait()
            nursery.cancel_scope.cancel()
        if not offered:
            raise NoSnapshot("no peer offers a snapshot")
        return max(offered, key=lambda height: (offered[height], height))

    async def _ask_offers(self, source: Source) -> None:
        if source.offers is None:
            try:
                answer = await source.ask(WantSnapshots(), within_s=FACT_S)
            except NoAnswer:
                return
            if isinstance(answer, Snapshots):
                source.offers = answer.heights
                self._sources.wake()
            else:
                source.lied("an answer to another question")

    # What to believe of it ------------------------------------------------------------------------------------------

    async def _fetch(self, height: int) -> None:
        light = await self._light(height)
        roots = await self._roots(light.header)
        log.info("snapshot_found", height=height, modules=len(roots), peers=len(self._sources.usable(height)))
        await self._store.begin_import()
        references, chain_entries = await _Download(self._store, self._sources, height, self._counts).run(roots)
        chain = chain_state_from(
            light.header,
            genesis_hash=self._genesis.genesis_hash,
            last_validators=light.validators,
            entries=chain_entries,
        )
        await self._store.finish_import(
            Landing(
                header=light.header,
                commit=light.commit,
                chain_state=chain,
                members=tuple(members_in(chain_entries)),
                roots=references,
                genesis=self._genesis_bytes,
            )
        )
        counts = self._counts
        log.info(
            "snapshot_restored", height=height, entries=counts.entries, bytes=counts.bytes, app=chain.app_hash.hex()
        )

    async def _light(self, height: int) -> LightBlockHere:
        """Header of *height*, proved by the trust root, with a commit and the set of its height."""
        while True:
            found: dict[int, tuple[Source, LightBlockHere]] = {}
            try:
                header = await self._proved_header(height, found)
            except _Lie as lie:
                lie.source.lied(str(lie))
                continue
            source, light = found.get(height) or await self._ask_light(height)
            try:
                if light.header != header or light.validators.hash != header.validators_hash:
                    raise InvalidBlock("block.header", "a light block of another header")
                verify_commit(header.chain_id, light.validators, light.commit, header.id)
            except InvalidBlock as lie:
                source.lied(str(lie))
                continue
            return light

    async def _proved_header(self, height: int, found: dict[int, tuple[Source, LightBlockHere]]) -> Header:
        """Raises _Lie naming who gave what does not hold, NoSnapshot if trust has expired."""
        trusted: Trusted = self._trusted_genesis()
        if self._root.height > 0:
            source, light = await self._ask_light(self._root.height)
            following = light.next_validators or light.validators
            try:
                trusted = TrustedBlock.root(light.header, self._root.block_id, following)
            except BadLightBlock as error:
                raise _Lie(source, str(error)) from error
        if isinstance(trusted, TrustedBlock) and height <= trusted.height:
            return await self._backwards(trusted.header, height)
        steps = follow(trusted, height, self._now_ms(), self._genesis.params)
        try:
            wanted = next(steps)
            while True:
                found[wanted] = source, light = await self._ask_light(wanted)
                block = LightBlock(light.header, light.commit, False)
                wanted = steps.send(Offer(block, light.validators, light.next_validators))
        except StopIteration as done:
            believed: TrustedBlock = done.value
            return believed.header
        except BadLightBlock as error:
            if error.code == "light.expired":
                raise NoSnapshot(str(error)) from error
            raise _Lie(source, str(error)) from error

    def _trusted_genesis(self) -> TrustedGenesis:
        chain = self._genesis
        return TrustedGenesis.of(
            chain_id=chain.chain_id,
            genesis_hash=chain.genesis_hash,
            time_ms=chain.time_ms,
            validators=[Update(each.public_key, each.power) for each in chain.validators.validators],
        )

    async def _backwards(self, header: Header, height: int) -> Header:
        """The header of *height*, below the believed *header*, by the chain of hashes."""
        if header.height - height > BACKWARDS_HEADERS_MAX:
            raise _GoneStale(f"it lies {header.height - height} blocks below what the link vouches for")
        while header.height > height:
            count = min(header.height - height, HEADERS_MAX)
            source, answer = await self._ask(WantHeaders(header.height - 1, count), Headers, header.height - 1)
            assert isinstance(answer, Headers)
            for parent in answer.headers[:count]:
                try:
                    verify_backwards(header, parent)
                except BadLightBlock as error:
                    raise _Lie(source, str(error)) from error
                header = parent
        return header

    async def _roots(self, header: Header) -> dict[str, bytes]:
        """The root of each module's tree."""
        while True:
            source, answer = await self._ask(WantModuleRoots(header.height), ModuleRoots, header.height)
            assert isinstance(answer, ModuleRoots)
            roots = {leaf.module: leaf.root for leaf in answer.roots}
            if list(roots) == sorted(roots) and application_hash(answer.roots) == header.app_hash:
                return roots
            source.lied("module roots that do not make the application hash")

    async def _ask_light(self, height: int) -> tuple[Source, LightBlockHere]:
        while True:
            source, answer = await self._ask(WantLightBlock(height), LightBlockHere, height)
            assert isinstance(answer, LightBlockHere)
            if answer.header.height == height:
                return source, answer
            source.lied(f"a light block of height {answer.header.height}, {height} was asked for")

    async def _ask(self, question: SyncMessage, kind: type, height: int) -> tuple[Source, SyncMessage]:
        """An answer of *kind*, of whoever has it: those first who offer a snapshot of *height*.

        Who offers it and then does not have its header has lied.
        """
        for source in sorted(self._sources.usable(), key=lambda each: height not in (each.offers or ())):
            try:
                answer = await source.ask(question, within_s=FACT_S)
            except NoAnswer:
                continue
            if isinstance(answer, kind):
                return source, answer
            if not isinstance(answer, NoHeight):
                source.lied("an answer to another question")
            elif height in (source.offers or ()):
                source.lied(f"it offers a snapshot of {height}, and lacks its header")
        raise _GoneStale("nobody can prove its header")


class _Lie(Exception):
    def __init__(self, source: Source, why: str) -> None:
        super().__init__(why)
        self.source = source


class _GoneStale(Exception):
    """This snapshot can't be had; perhaps another one."""


class _Download:
    """All pieces of the state of one height, each from whoever has time, verified and written as they come."""

    def __init__(self, store: Store, sources: Sources, height: int, counts: _Counts) -> None:
        self._store = store
        self._sources = sources
        self._height = height
        self._counts = counts
        self._todo: list[Part] = []
        """A stack: so few nodes are open at a time, however large the state is."""
        self._under_way = 0
        self._verified: list[Piece] = []
        self._verified_bytes = 0
        self._references: dict[str, bytes] = {}
        self._chain: dict[bytes, bytes] = {}

    async def run(self, roots: dict[str, bytes]) -> tuple[dict[str, bytes], dict[bytes, bytes]]:
        """References of all roots, and the entries of leaf ``chain``. Raises _GoneStale when nobody has it any more."""
        self._references = dict.fromkeys(roots, b"")
        self._todo = [Part(module, b"", root) for module, root in sorted(roots.items()) if root != EMPTY]
        told_at = trio.current_time()
        async with trio.open_nursery() as nursery:
            while self._todo or self._under_way or self._verified:
                changed = self._sources.changed
                self._assign(nursery)
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
            raise _GoneStale("no peer that offers it is left")
        return self._references, self._chain

    def _assign(self, nursery: trio.Nursery) -> None:
        sources = self._sources.usable(self._height)
        while self._todo and self._verified_bytes < 2 * FLUSH_BYTES:
            free = [source for source in sources if source.under_way < PER_PEER_MAX]
            if not free:
                return
            source = min(free, key=lambda each: each.under_way)
            source.under_way += 1
            self._under_way += 1
            nursery.start_soon(self._get, source, self._todo.pop())

    async def _get(self, source: Source, part: Part) -> None:
        """*part* is verified, or to be done again by another."""
        try:
            answer = await source.ask(WantState(self._height, part.module, part.path))
            self._take(part, answer)
        except NoAnswer:
            self._todo.append(part)
        except BadMessage as lie:
            self._todo.append(part)
            source.lied(str(lie))
        except _GoneStale:
            self._todo.append(part)
            source.offers = tuple(height for height in source.offers or () if height != self._height)
        finally:
            source.under_way -= 1
            self._under_way -= 1
            self._sources.wake()

    def _take(self, part: Part, answer: SyncMessage) -> None:
        """Raises BadMessage for what is not the part, _GoneStale if its sender lacks it."""
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
                raise _GoneStale("it does not hold it any more")
            case _:
                raise BadMessage("an answer to another question", "bad_message.unasked")
        if not part.path:
            self._references[part.module] = reference
        self._counts.pieces += 1
        self._verified.append(piece)
        self._verified_bytes += size + 256

    async def _flush(self) -> None:
        pieces, self._verified, self._verified_bytes = self._verified, [], 0
        await self._store.import_pieces(pieces, self._height)
