"""Execution before the vote: what a block does, computed in slices, without touching the committed state."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import structlog
import trio

from consensus.application import Application, BlockInfo, Changes, Execution, Inadmissible, Result, State
from consensus.block import Block, Commit
from consensus.chain import ChainState, build_block, chain_changes, next_state
from consensus.codec import Wire, encode
from consensus.leaf import LEAF
from consensus.params import COMMIT_ENTRY_BYTES, Params
from consensus.transaction import Transaction
from consensus.validity import InvalidBlock, judged_evidence
from node.store import DecidedBlock, Store, TreePlan

log = structlog.get_logger("execution")

SLICE_TRANSACTIONS = 64
"""Transactions executed between two yields to the loop: about 5 ms. A count, not a clock: simulations must repeat."""
HEADER_ROOM_BYTES = 1_024
"""Encoded size of a block with no commit, roots and transactions, rounded up."""
ROOT_BYTES = 40
"""Of a module's root beside its name, rounded up."""
ID_BYTES = 34
"""Encoded size of a transaction's id."""


class Undecidable(Exception):
    """This machine could not execute *transaction_id* (memory, stack): no result, no verdict (DESIGN §3)."""

    def __init__(self, transaction_id: bytes) -> None:
        super().__init__(f"transaction {transaction_id.hex()} could not be executed on this machine")
        self.transaction_id = transaction_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Executed:
    """A complete, valid block with everything that its commit will write."""

    block: Block
    transactions: tuple[Transaction, ...]
    results: tuple[Result, ...]
    """``begin``, each transaction, ``end``."""
    changes: Changes
    plan: TreePlan
    chain_state: ChainState

    @property
    def id(self) -> bytes:
        """The block id."""
        return self.block.id

    def decided_by(self, commit: Commit) -> DecidedBlock:
        """All that is to be written, once *commit* decides it."""
        return DecidedBlock(
            block=self.block,
            transactions=tuple(transaction.raw for transaction in self.transactions),
            commit=commit,
            results=self.results,
            changes=self.changes,
            plan=self.plan,
            chain_state=self.chain_state,
            senders=tuple(transaction.body.sender for transaction in self.transactions),
        )


class Executor:
    """Runs the application over the latest committed state."""

    def __init__(self, app: Application, store: Store) -> None:
        self._app = app
        self._store = store

    @property
    def state(self) -> State:
        """The committed state that the next block is executed over."""
        return self._store.state()

    def next_due_ms(self) -> int | None:
        """When an idle chain must make a block for scheduled work; None: never."""
        return self._app.next_due_ms(self._store.state())

    async def propose(
        self,
        parent: ChainState,
        *,
        time_ms: int,
        proposer: bytes,
        last_commit: Commit | None,
        evidence: Sequence[Wire] = (),
        reap: Callable[[int], Iterable[Transaction]],
        drop: Callable[[bytes, str, str], None],
        until: float,
    ) -> Executed:
        """A new valid block on *parent*: all *evidence*, and what *reap* offers for so many bytes, as far as it fits.

        *drop* is told of each transaction that can't stand in it.

        At the trio time *until* the block is full, whatever its weight: what takes this machine long takes the others
        long too, and they must have executed it before the round is over.

        Raises Undecidable if a candidate can't be executed here; it must not be offered again.
        """
        info = self._info(parent, time_ms=time_ms, proposer=proposer, last_commit=last_commit, evidence=evidence)
        run = self._app.execute(self._store.state(), info)
        results = [run.begin()]
        taken: list[Transaction] = []
        weight_limit = info.params.block_weight_max - info.params.transaction_weight_max
        room = self._room_bytes(info.params, last_commit, evidence)
        for index, transaction in enumerate(reap(room)):
            room -= len(transaction.raw) + ID_BYTES
            if room < 0 or run.weight > weight_limit or len(taken) >= info.params.block_transactions_max:
                break
            try:
                results.append(_deliver(run, info.params, transaction))
                taken.append(transaction)
            except Inadmissible as refusal:
                drop(transaction.id, refusal.code, str(refusal))
            if index % SLICE_TRANSACTIONS == SLICE_TRANSACTIONS - 1:
                await trio.lowlevel.checkpoint()
                if trio.current_time() > until:
                    break
        return await self._finish(parent, info, run, results, taken, last_commit, evidence)

    async def check(self, parent: ChainState, block: Block, transactions: Sequence[Transaction]) -> Executed:
        """*block*, executed, is what it says. Raises InvalidBlock (it is not), or Undecidable.

        What can be known without executing (`consensus.chain.check_block`) has been checked before.
        """
        header = block.header
        info = self._info(
            parent,
            time_ms=header.time_ms,
            proposer=header.proposer,
            last_commit=block.last_commit,
            evidence=block.evidence,
        )
        run = self._app.execute(self._store.state(), info)
        results = [run.begin()]
        for index, transaction in enumerate(transactions):
            try:
                results.append(_deliver(run, info.params, transaction))
            except Inadmissible as refusal:
                text = f"transaction {index} ({transaction.id.hex()}) can't stand here: {refusal}"
                raise InvalidBlock("block.inadmissible", text) from None
            if index % SLICE_TRANSACTIONS == SLICE_TRANSACTIONS - 1:
                await trio.lowlevel.checkpoint()
        if run.weight > info.params.block_weight_max:
            raise InvalidBlock("block.weight", f"weight {run.weight}, at most {info.params.block_weight_max}")
        executed = await self._finish(parent, info, run, results, transactions, block.last_commit, block.evidence)
        _require_same(block, executed.block)
        return executed

    async def _finish(
        self,
        parent: ChainState,
        info: BlockInfo,
        run: Execution,
        results: list[Result],
        transactions: Sequence[Transaction],
        last_commit: Commit | None,
        evidence: Sequence[Wire],
    ) -> Executed:
        """The block that this execution makes, with the state tree after it."""
        outcome = run.end()
        results.append(outcome.result)
        following = next_state(parent, info, outcome)
        changes = {**run.changes, LEAF: chain_changes(parent, following, info.evidence)}
        await trio.lowlevel.checkpoint()
        plan = self._store.plan(changes, info.height)
        await trio.lowlevel.checkpoint()
        block = build_block(
            parent,
            following,
            time_ms=info.time_ms,
            proposer=info.proposer,
            last_commit=last_commit,
            evidence=evidence,
            transaction_ids=[transaction.id for transaction in transactions],
            results=results,
            module_roots=plan.roots,
        )
        return Executed(
            block=block,
            transactions=tuple(transactions),
            results=tuple(results),
            changes=changes,
            plan=plan,
            chain_state=following.decided(block.header),
        )

    def _room_bytes(self, params: Params, last_commit: Commit | None, evidence: Sequence[Wire]) -> int:
        """What ids and bodies of a block may take."""
        names = (*self._app.module_names, LEAF)
        roots = sum(len(name) + ROOT_BYTES for name in names)
        commit = COMMIT_ENTRY_BYTES * len(last_commit.entries) if last_commit is not None else 0
        lies = sum(len(encode(piece)) for piece in evidence)
        return params.block_bytes_max - HEADER_ROOM_BYTES - roots - commit - lies

    def _info(
        self,
        parent: ChainState,
        *,
        time_ms: int,
        proposer: bytes,
        last_commit: Commit | None,
        evidence: Sequence[Wire],
    ) -> BlockInfo:
        """Raises InvalidBlock for evidence that does not count."""
        absent: tuple[bytes, ...] = ()
        if last_commit is not None:
            members = parent.last_validators.addresses
            absent = tuple(a for a, entry in zip(members, last_commit.entries, strict=True) if entry is None)
        return BlockInfo(
            chain_id=parent.chain_id,
            height=parent.height + 1,
            time_ms=time_ms,
            parent_time_ms=parent.time_ms,
            proposer=proposer,
            params=parent.params,
            validators=parent.validators,
            absent=absent,
            evidence=judged_evidence(evidence, parent, self._store.state()),
        )


def _deliver(run: Execution, params: Params, transaction: Transaction) -> Result:
    """What *transaction* does. Raises Inadmissible, Undecidable.

    Its size is judged here for all: a pool may hold it from a time when larger ones were allowed.
    """
    if len(transaction.raw) > params.transaction_bytes_max:
        raise Inadmissible("tx.too_large", f"{len(transaction.raw)} bytes, at most {params.transaction_bytes_max}")
    try:
        return run.deliver(transaction)
    except (MemoryError, RecursionError) as error:
        log.error("transaction_undecidable", id=transaction.id.hex(), why=repr(error))
        raise Undecidable(transaction.id) from error


def _require_same(claimed: Block, computed: Block) -> None:
    """Raises InvalidBlock naming what differs; for the application hash, the modules."""
    if claimed.id == computed.id and claimed.module_roots == computed.module_roots:
        return
    if claimed.module_roots != computed.module_roots:
        theirs = {leaf.module: leaf.root for leaf in claimed.module_roots}
        ours = {leaf.module: leaf.root for leaf in computed.module_roots}
        differing = sorted(name for name in theirs.keys() | ours.keys() if theirs.get(name) != ours.get(name))
        raise InvalidBlock("block.app_hash", f"the state differs in: {', '.join(differing) or 'the order of modules'}")
    for name in ("results_hash", "next_validators_hash", "app_hash"):
        if getattr(claimed.header, name) != getattr(computed.header, name):
            raise InvalidBlock(f"block.{name}", f"{name} differs from what its execution gives")
    raise InvalidBlock("block.header", "the header differs from what its contents give")
