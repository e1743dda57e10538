"""A newcomer begins with a snapshot: the state at a height, from peers, proved by the trust root of its invite link.

Light blocks lead from the root to the snapshot's header; the header proves the roots of all modules' trees; and each
piece of a tree is verified when it arrives (`node.snapshot_pieces`). What peers claim decides only whom to ask. If it
does not work out, the node executes all blocks instead (`node.block_sync`).
"""

from __future__ import annotations

from collections.abc import Callable, Container

import structlog
import trio

from consensus.block import Header, LightBlock
from consensus.chain import ChainState
from consensus.jellyfish import application_hash
from consensus.light import (
    EXPIRED,
    FUTURE,
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
from consensus.validity import InvalidBlock, verify_commit
from node.snapshot_download import Counts, Download, GoneStale
from node.snapshot_kept import KeptPieces
from node.snapshot_messages import (
    HEADERS_MAX,
    SNAPSHOTS_MAX,
    Headers,
    LightBlockHere,
    ModuleRoots,
    Snapshots,
    WantHeaders,
    WantLightBlock,
    WantModuleRoots,
    WantSnapshots,
)
from node.snapshot_peers import NoAnswer, Source, Sources
from node.store import Store
from node.store_import import Landing
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
BACKWARDS_HEADERS_MAX = SNAPSHOTS_MAX * SNAPSHOT_INTERVAL_BLOCKS_MAX
"""A snapshot further below the trust root is none that an honest peer keeps."""


class NoSnapshot(Exception):
    """No snapshot can be had; the text says why."""


class SnapshotSync:
    """One newcomer's way from genesis to a snapshot."""

    def __init__(
        self,
        *,
        store: Store,
        genesis: ChainState,
        trust_root: TrustRoot,
        sources: Sources,
        kept: KeptPieces,
        now_ms: Callable[[], int],
    ) -> None:
        """*genesis*: the state before block 1. *kept*: what an earlier start got before it was stopped."""
        self._store = store
        self._kept = kept
        self._genesis = genesis
        self._genesis_bytes = store.genesis_bytes()
        self._root = trust_root
        self._sources = sources
        self._now_ms = now_ms
        self._counts = Counts()

    async def run(self) -> None:
        """The store stands at a verified snapshot. Raises NoSnapshot; the store may have been emptied then."""
        tried: set[int] = set()
        while len(tried) < ATTEMPTS_MAX:
            height = await self._choose(tried)
            tried.add(height)
            try:
                await self._fetch(height)
                return
            except GoneStale as why:
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
        download = Download(self._store, self._sources, self._kept, height, self._counts)
        references, chain_entries = await download.run(roots)
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
            except _Unproved as error:
                if error.code == FUTURE:  # one of two clocks is wrong, perhaps ours
                    error.source.pass_over(str(error))
                else:
                    error.source.lied(str(error))
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
        """Raises _Unproved naming who gave what does not hold, NoSnapshot if trust has expired."""
        trusted: Trusted = self._trusted_genesis()
        if self._root.height > 0:
            source, light = await self._ask_light(self._root.height)
            following = light.next_validators or light.validators
            try:
                trusted = TrustedBlock.root(light.header, self._root.block_id, following)
            except BadLightBlock as error:
                raise _Unproved(source, error) from error
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
            if error.code == EXPIRED:
                raise NoSnapshot(str(error)) from error
            raise _Unproved(source, error) from error

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
            raise GoneStale(f"it lies {header.height - height} blocks below what the link vouches for")
        at_their_end: set[Source] = set()
        while header.height > height:
            count = min(header.height - height, HEADERS_MAX)
            question = WantHeaders(header.height - 1, count)
            source, answer = await self._ask(question, Headers, header.height - 1, but=at_their_end)
            assert isinstance(answer, Headers)
            if len(answer.headers) < count:  # else it could give one header at a time, for hours
                at_their_end.add(source)
            for parent in answer.headers[:count]:
                try:
                    verify_backwards(header, parent)
                except BadLightBlock as error:
                    raise _Unproved(source, error) from error
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

    async def _ask(
        self, question: SyncMessage, kind: type, height: int, *, but: Container[Source] = ()
    ) -> tuple[Source, SyncMessage]:
        """An answer of *kind*, of whoever has it, *but* of those: those first who offer a snapshot of *height*.

        Who offers it and then does not have its header has lied.
        """
        for source in sorted(self._sources.usable(), key=lambda each: height not in (each.offers or ())):
            if source in but:
                continue
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
        raise GoneStale("nobody can prove its header")


class _Unproved(Exception):
    def __init__(self, source: Source, error: BadLightBlock) -> None:
        super().__init__(str(error))
        self.source = source
        self.code = error.code
