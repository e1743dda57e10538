"""How a block comes to a verdict: found, completed with bodies, executed. Or built, when it is ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Protocol

import structlog
import trio

from consensus.block import Block, Commit
from consensus.evidence import to_wire
from consensus.transaction import Transaction
from consensus.validity import InvalidBlock, check_block, check_size
from node.evidence_pool import EvidencePool
from node.execution import Executor, Undecidable
from node.height import Candidate, HeightInProgress
from node.mempool import Mempool

log = structlog.get_logger("consensus")

ASK_AGAIN_MS = 300
"""How long a peer has to supply a block or bodies before the next one is asked too; doubles up to eight times that."""
BUILD_SHARE = 8
"""The share of the propose timeout that a proposer in round 0 fills its block for."""
BUILD_HALVINGS_MAX = 6


class Supplier(Protocol):
    """Whoever can ask peers for what we lack."""

    def ask_block(self, height: int, block_id: bytes, attempt: int) -> None:
        """A peer that should have the block is asked for it; another one at the next attempt."""

    def ask_bodies(self, height: int, block_id: bytes, indexes: tuple[int, ...], attempt: int) -> None:
        """Likewise for bodies of a block's transactions."""


class Acquisition:
    """Finds, completes, judges and builds blocks of the height in progress."""

    def __init__(
        self,
        mempool: Mempool,
        evidence: EvidencePool,
        executor: Executor,
        supplier: Supplier,
        now_ms: Callable[[], int],
    ) -> None:
        self._mempool = mempool
        self._evidence = evidence
        self._executor = executor
        self._supplier = supplier
        self._now_ms = now_ms

    async def fetch(self, height: HeightInProgress, block_id: bytes) -> None:
        """The block has been found: peers were asked in turn until it became a candidate."""
        attempt = 0
        while block_id not in height.candidates:
            self._supplier.ask_block(height.number, block_id, attempt)
            await trio.sleep(_patience_s(attempt))
            attempt += 1

    async def judge(self, height: HeightInProgress, candidate: Candidate) -> bool:
        """Whether there is a verdict on *candidate*, which it then bears. None if this machine can't execute it."""
        block = candidate.block
        try:
            check_block(block, 0, height.parent, self._executor.state)
            await self._complete(height, candidate)
            bodies_bytes = sum(len(transaction.raw) for transaction in candidate.transactions)
            check_size(block, bodies_bytes, height.parent.params)
            candidate.accept(await self._executor.check(height.parent, block, candidate.transactions))
        except InvalidBlock as invalid:
            log.warning("block_refused", height=height.number, id=block.id.hex(), code=invalid.code, why=str(invalid))
            candidate.refuse(invalid)
        except Undecidable as undecidable:
            self._mempool.drop(undecidable.transaction_id, "tx.undecidable", str(undecidable))
            return False
        return True

    async def build(self, height: HeightInProgress, round_: int, proposer: bytes, last_commit: Commit | None) -> Block:
        """A block of what waits in the pools, as a valid candidate (L18).

        Each failed round halves the time that filling it may take: a town under overload decides smaller blocks.
        """
        parent, params = height.parent, height.parent.params
        fill_s = params.propose_timeout_ms / 1000 / BUILD_SHARE / 2 ** min(round_, BUILD_HALVINGS_MAX)
        while True:
            time_ms = max(self._now_ms(), parent.time_ms + params.block_delay_ms)
            try:
                executed = await self._executor.propose(
                    parent,
                    time_ms=time_ms,
                    proposer=proposer,
                    last_commit=last_commit,
                    evidence=[to_wire(piece) for piece in self._evidence.for_block()],
                    reap=partial(self._reap, time_ms, params.block_transactions_max),
                    drop=self._mempool.drop,
                    until=trio.current_time() + fill_s,
                )
            except Undecidable as undecidable:
                # The pool is one transaction smaller, so this ends.
                self._mempool.drop(undecidable.transaction_id, "tx.undecidable", str(undecidable))
                continue
            candidate = height.candidate(executed.block)
            candidate.fill(executed.transactions)
            candidate.accept(executed)
            return executed.block

    def _reap(self, time_ms: int, count_max: int, bytes_max: int) -> Iterator[Transaction]:
        return self._mempool.reap(time_ms=time_ms, bytes_max=bytes_max, count_max=count_max)

    async def _complete(self, height: HeightInProgress, candidate: Candidate) -> None:
        """All bodies are here: from the pool, else from peers. Raises InvalidBlock if one can't be a transaction."""
        attempt = 0
        while True:
            wanted = [candidate.block.transaction_ids[index] for index in candidate.missing]
            held = await self._mempool.bodies.find(wanted)
            candidate.fill([transaction for transaction in held if transaction is not None])
            if candidate.refused is not None:
                raise candidate.refused
            missing = candidate.missing
            if not missing:
                return
            self._supplier.ask_bodies(height.number, candidate.block.id, missing, attempt)
            with trio.move_on_after(_patience_s(attempt)):
                await candidate.changed.wait()
            if len(candidate.missing) == len(missing):  # else whoever sent some is asked for the rest
                attempt += 1


def _patience_s(attempt: int) -> float:
    """How long to wait for an answer to *attempt*, s."""
    return float(ASK_AGAIN_MS << min(attempt, 3)) / 1000
