"""The chain's store: one height is one durable write transaction, and everything that a node has decided is read here.

Belongs to the thread that opened it. `commit` fills its transaction in slices and waits for the disk in a thread; reads
in the meantime see the former height (see `node.store_environment`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Generator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import lmdb

from consensus.application import Changes, Event, Result
from consensus.block import Block, Commit, Header, ModuleRoot
from consensus.chain import ChainState
from consensus.codec import BadMessage
from consensus.jellyfish import TreeProof
from consensus.params import Params
from consensus.validators import ValidatorSet
from node import retention
from node.disk import DISK, Disk
from node.events import BEGINNING, LIMIT_MAX, PLACES, Cursor, Kind, events_after, search
from node.snapshot_messages import PIECE_ENTRIES_MAX, StateEntries, StateNode
from node.snapshot_pieces import read_piece
from node.state import KEYS, VALUES, LatestValues, StateGone, StoredState
from node.state_nodes import hash_of
from node.state_plan import NODES, ROOTS, STALE, StateTrees, TreePlan
from node.store_blocks import (
    BLOCK_IDS,
    BLOCKS,
    BODIES,
    COMMITS,
    HEADERS,
    PARAMS,
    RESULTS,
    TRANSACTIONS,
    VALIDATORS,
    Blocks,
    DecidedBlock,
    put_block,
    put_genesis,
)
from node.store_environment import MAP_BYTES, Environment, StoreFailed, StoreInUse, TableSize, Writes, failed
from node.store_forget import FORGET_ROWS_MAX, Forgetting
from node.store_import import Landing, Piece, clear, put_landing, put_pieces
from node.store_kept import HeightGone, Kept
from node.store_meta import GENESIS, IMPORTING, META, check_meta
from node.store_prune import PRUNE_ENTRIES_MAX, Pruning
from node.store_rows import Rows

__all__ = ["DecidedBlock", "HeightGone", "StateGone", "Store", "StoreFailed", "StoreInUse", "StoredState", "TreePlan"]

_TABLES = (
    META,
    HEADERS,
    BLOCKS,
    BODIES,
    COMMITS,
    RESULTS,
    VALIDATORS,
    PARAMS,
    BLOCK_IDS,
    TRANSACTIONS,
    PLACES,
    VALUES,
    KEYS,
    NODES,
    ROOTS,
    STALE,
)
_RESULTS_CACHED_MAX = 8


class Store:
    """All that is decided. `height` is -1 in an empty store, 0 once the genesis is written."""

    def __init__(self, environment: Environment, *, inline: bool) -> None:
        self._environment = environment
        self._inline = inline
        self._blocks = Blocks(environment)
        check_meta(environment)
        if self._blocks.meta(IMPORTING) is not None:  # a crash in the middle of it: nothing of it may be believed
            environment.write_inline(lambda transaction: clear(transaction, environment, importing=False))
        self._load()

    def _load(self) -> None:
        """What is kept in memory is what the disk says."""
        environment = self._environment
        self._chain_state = self._blocks.chain_state()
        self.kept = Kept(self._blocks, self._chain_state)
        """Which heights are here, and which must stay."""
        self._latest_values = LatestValues()
        self._trees = StateTrees(environment, self.kept.states)
        self._recent_results: OrderedDict[int, tuple[Result, ...]] = OrderedDict()

    @classmethod
    def open(cls, path: Path, *, inline: bool = False, map_bytes: int = MAP_BYTES, disk: Disk = DISK) -> Store:
        """The store in folder *path*, created if absent; with *inline*, `commit` uses no thread and no await.

        Raises StoreInUse if another process has it open, StoreFailed if it can't be read.
        """
        environment = Environment.open(path, _TABLES, map_bytes=map_bytes, disk=disk)
        try:
            return cls(environment, inline=inline)
        except (BadMessage, StateGone) as error:
            environment.close()
            raise failed(path, lmdb.CorruptedError(f"what it says of its chain can't be read: {error}")) from error
        except BaseException:
            environment.close()
            raise

    def close(self) -> None:
        """The folder is free for another process."""
        self._environment.close()

    @property
    def height(self) -> int:
        """The latest decided height; 0 after genesis, -1 in an empty store."""
        return self.kept.states.latest

    @property
    def used_bytes(self) -> int:
        """Bytes written to the disk, freed pages included."""
        return self._environment.used_bytes

    def table_sizes(self) -> dict[str, TableSize]:
        """Rows and bytes of each table. Their sum is less than `used_bytes` by what is free to be written again."""
        return self._environment.table_sizes()

    # Writing

    def write_genesis(self, genesis: bytes, chain_state: ChainState, changes: Changes, plan: TreePlan) -> None:
        """The chain begins: height 0 is on the disk. *changes* name every module, those without entries too."""
        assert self.height == -1, "a chain begins once"
        assert plan.height == chain_state.height == 0, "genesis is height 0"

        def writes(transaction: lmdb.Transaction[bytes]) -> Iterator[None]:
            put_genesis(transaction, self._environment, genesis, chain_state)
            yield from self._trees.write(transaction, plan, changes)

        self._environment.write_inline(writes, label="genesis")
        self._committed(plan, chain_state, changes)

    async def commit(self, decided: DecidedBlock) -> None:
        """The height is on the disk, whole (fsync). Raises StoreFailed: nothing of it is, and the node must stop."""
        if self._inline:
            self.commit_inline(decided)
            return
        self._check_next(decided)
        await self._environment.write(lambda transaction: self._writes(transaction, decided))
        self._committed(decided.plan, decided.chain_state, decided.changes, decided.results)

    def commit_inline(self, decided: DecidedBlock) -> None:
        """As `commit`, within this call."""
        self._check_next(decided)
        self._environment.write_inline(lambda transaction: self._writes(transaction, decided))
        self._committed(decided.plan, decided.chain_state, decided.changes, decided.results)

    async def prune(self, below_height: int, *, entries_max: int = PRUNE_ENTRIES_MAX) -> bool:
        """State of heights under *below_height* is gone; True once nothing is left of it, else call again.

        Deletes about *entries_max* entries at most; never the latest state, nor what is pinned.
        """
        # Before the first await: a reader must not meet a half-pruned state.
        pruning = Pruning(self._environment, self.kept.forget_states(below_height), entries_max=entries_max)
        await self._written(pruning.writes, label="pruning")
        return pruning.is_complete

    async def forget(self, below: Mapping[str, int], *, rows_max: int = FORGET_ROWS_MAX) -> bool:
        """Blocks, results, events and index under the heights *below* are gone; True once nothing is left of them.

        Deletes about *rows_max* rows at most, whole heights; never the latest, nor what is pinned.
        """
        present, horizons = self.kept.present, self.kept.forget(below)  # before the first await: see `prune`
        forgetting = Forgetting(self._environment, present, horizons, rows_max=rows_max)
        await self._written(forgetting.writes, label="forgetting")
        self.kept.present = forgetting.reached
        return forgetting.is_complete

    @asynccontextmanager
    async def copied(self) -> AsyncIterator[Rows]:
        """All rows as they are at the latest height, while the chain goes on; nothing is forgotten meanwhile."""
        with self.kept.pins.hold(0):
            await self._environment.idle()
            yield Rows(self._environment, self.height)

    def copy_compact(self, folder: Path) -> None:
        """A database with the same rows and no free pages is in the empty *folder*, durably; nothing may be written."""
        self._environment.copy_compact(folder)

    def _check_next(self, decided: DecidedBlock) -> None:
        height = decided.block.header.height
        assert height == self.height + 1, f"heights are written in order, once: {height} after {self.height}"
        assert decided.plan.height == decided.chain_state.height == height, "all parts are of one height"
        assert decided.plan.application_hash == decided.block.header.app_hash, "the plan is the block's"
        assert len(decided.results) == len(decided.transactions) + 2, "begin, each transaction, end"

    def _writes(self, transaction: lmdb.Transaction[bytes], decided: DecidedBlock) -> Iterator[None]:
        assert self._chain_state is not None, "the genesis is written"
        yield from put_block(transaction, self._environment, decided, self._chain_state)
        yield from self._trees.write(transaction, decided.plan, decided.changes)

    def _committed(
        self, plan: TreePlan, chain_state: ChainState, changes: Changes, results: tuple[Result, ...] = ()
    ) -> None:
        self._trees.committed(plan)
        self._latest_values.moved(changes)
        if results:
            self._remember(chain_state.height, results)
        self._chain_state = chain_state
        self.kept.reached(chain_state)

    def _remember(self, height: int, results: tuple[Result, ...]) -> None:
        self._recent_results[height] = results
        if len(self._recent_results) > _RESULTS_CACHED_MAX:
            self._recent_results.popitem(last=False)

    # Snapshots

    def read_piece(
        self, module: str, path: bytes, height: int, *, entries_max: int = PIECE_ENTRIES_MAX
    ) -> Generator[None, None, StateEntries | StateNode]:
        """What lies at *path* of *module*'s tree at *height*, which stays until the generator is through or closed.

        Yields now and then. Raises StateGone, KeyError.
        """
        subtree = self._trees.walk(module, path, height)
        state = StoredState(self._environment, self.kept.states, height)
        with self.kept.pins.hold(height):
            return (yield from read_piece(self._trees, state, subtree, entries_max=entries_max))

    async def begin_import(self) -> None:
        """The store holds nothing but the promise of a snapshot; opened like that, it is empty."""
        await self._written(lambda transaction: clear(transaction, self._environment, importing=True))
        self._load()

    async def import_pieces(self, pieces: Sequence[Piece], height: int) -> None:
        """Verified *pieces* of the state of *height* are on the disk; nothing can be read before `finish_import`."""
        await self._written(lambda transaction: put_pieces(transaction, self._environment, pieces, height))

    async def finish_import(self, landing: Landing) -> None:
        """The store stands at the snapshot's height. All of its state has been imported."""
        await self._written(lambda transaction: put_landing(transaction, self._environment, landing))
        self._load()

    async def abandon_import(self) -> None:
        """The store is empty."""
        await self._written(lambda transaction: clear(transaction, self._environment, importing=False))
        self._load()

    async def _written(self, writes: Writes, *, label: str = "import") -> None:
        if self._inline:
            self._environment.write_inline(writes, label=label)
        else:
            await self._environment.write(writes, label=label)

    # The chain

    def chain_state(self) -> ChainState | None:
        """After the latest block; None in an empty store."""
        return self._chain_state

    def genesis_bytes(self) -> bytes:
        """The genesis file, byte for byte. Raises KeyError in an empty store."""
        genesis = self._blocks.meta(GENESIS)
        if genesis is None:
            raise KeyError("the genesis is not written")
        return genesis

    def block(self, height: int) -> Block:
        """The block at *height*, without bodies.

        Raises KeyError where none is stored, as all reads by height do; HeightGone where it is kept no more.
        """
        self.kept.check(retention.BLOCKS, height)
        return self._blocks.block(height)

    def header(self, height: int) -> Header:
        """The header at *height*."""
        self.kept.check_header(height)
        return self._blocks.header(height)

    def block_transactions(self, height: int) -> tuple[bytes, ...]:
        """The complete bytes of the transactions at *height*, in order."""
        self.kept.check(retention.BLOCKS, height)
        return self._blocks.transactions(height)

    def results(self, height: int) -> tuple[Result, ...]:
        """The results at *height*: ``begin``, each transaction, ``end``."""
        self.kept.check(retention.RESULTS, height)
        found = self._recent_results.get(height)
        if found is None:
            found = self._blocks.results(height)
            self._remember(height, found)
        return found

    def commit_of(self, height: int) -> tuple[Commit, bool]:
        """The commit for *height*, and whether it is the canonical one, which the next block brought."""
        self.kept.check_header(height)
        return self._blocks.commit(height)

    def validators_at(self, height: int) -> ValidatorSet:
        """The set that decides *height*, up to the next one; priorities are 0 but in the latest two."""
        chain = self._chain_state
        if chain is not None and height == chain.height + 1:
            return chain.validators
        if chain is not None and height == chain.height > 0:
            return chain.last_validators
        if height > self.height:
            raise KeyError(f"height {height} is not decided")
        self.kept.check_header(height)
        return self._blocks.validators(height)

    def params_at(self, height: int) -> Params:
        """The parameters in force at *height*, up to the next one."""
        if height > self.height + 1:
            raise KeyError(f"height {height} is not decided")
        self.kept.check_header(height)
        return self._blocks.params(height)

    def height_of_block_id(self, block_id: bytes) -> int | None:
        """The height of a decided block, None if there is no such block, or no more."""
        height = self._blocks.height_of(block_id)
        return height if height is None or height >= self.kept.lowest(retention.BLOCKS) else None

    def find_transaction(self, id_: bytes) -> tuple[int, int] | None:
        """Height and index (from 0) of a decided transaction, None if there is none, or no more."""
        found = self._blocks.find_transaction(id_)
        return found if found is None or found[0] >= self.kept.lowest(retention.INDEX) else None

    # The state

    def state(self, height: int | None = None) -> StoredState:
        """The state after *height* (None: the latest). Raises StateGone for heights that are pruned or not decided."""
        height = self.height if height is None else height
        return StoredState(self._environment, self.kept.states, height, self._latest_values)

    @property
    def trees(self) -> StateTrees:
        """The state trees, for whoever compares them with others."""
        return self._trees

    def plan(self, changes: Changes, height: int) -> TreePlan:
        """What *changes* in block *height*, the next one, would make of the state trees. Writes nothing."""
        return self._trees.plan(changes, height)

    def prove(self, module: str, key: bytes, height: int) -> tuple[bytes | None, TreeProof]:
        """The value of *key* after *height* (None: absent) and its proof, checked against the module's root.

        Raises StateGone, KeyError for an unknown module, StoreFailed for a value that the disk changed.
        """
        return self._trees.prove(module, key, height)

    def check_state(self, height: int | None = None) -> None:
        """Every value of the state of *height* (None: the latest) matches the state tree: for ``doctor --deep``.

        Reads all of it, and waits for nothing. Raises StateGone, StoreFailed.
        """
        self._trees.check(self.height if height is None else height)

    def module_roots(self, height: int) -> tuple[ModuleRoot, ...]:
        """Leaves of the application hash after *height*, sorted by name. Raises KeyError, StateGone."""
        if height > self.kept.imported:
            return self.block(height).module_roots
        return tuple(ModuleRoot(name, hash_of(root)) for name, root in self._trees.references(height).items())

    # Events

    def events_after(
        self, cursor: Cursor = BEGINNING, *, limit: int = LIMIT_MAX, module: str | None = None
    ) -> list[tuple[Cursor, Event]]:
        """At most *limit* events after *cursor*, in order; only those of *module*, if given.

        From `BEGINNING`, those that are kept; from any other cursor, raises HeightGone if some after it may be gone.
        """
        earliest = self.kept.lowest(retention.EVENTS)
        if cursor.height < earliest and cursor != BEGINNING:
            raise HeightGone(retention.EVENTS, cursor.height, earliest)
        cursor = max(cursor, Cursor(earliest, 0, -1))
        return events_after(self._environment, self.results, cursor, limit=limit, module=module)

    def search(
        self, kind: Kind, key: bytes, *, after: Cursor | None = None, limit: int = 100, newest_first: bool = False
    ) -> list[Cursor]:
        """At most *limit* places of *key* beyond *after*, ascending, or descending with *newest_first*.

        Only those that the index still leads to.
        """
        first = Cursor(self.kept.lowest(retention.INDEX), 0, -1)
        if not newest_first:
            after = first if after is None else max(after, first)
        found = search(self._environment, kind, key, after=after, limit=limit, newest_first=newest_first)
        return [place for place in found if place > first]
