"""Evidence that waits for a block: verified, durable, one piece for each accused.

More would say nothing: a conviction covers all that a validator did before it (`consensus.evidence`). So the pool is
bounded by the validators, whatever the holder of a key signs.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import lmdb
import structlog
import trio

from consensus.application import State
from consensus.block import EVIDENCE_MAX
from consensus.chain import ChainState
from consensus.codec import BadMessage, decode, encode
from consensus.evidence import EVIDENCE_BYTES_MAX, TOO_NEW, Evidence, Uncounted, from_wire, to_wire
from node.disk import DISK, Disk
from node.store_environment import Environment, StoreFailed

log = structlog.get_logger("evidence")

WAITING_MAX = 1_024
"""Four full validator sets. Beyond, a new piece is not kept; who has it tells it again."""
FULL = "evidence.pool_full"
LATER = frozenset({TOO_NEW, FULL})
"""Why a piece does not count now, though it may count later."""
MAP_BYTES = 16 * 2**20
TABLE = "evidence"


class EvidencePool:
    """Reads all at start, writes through. `set_chain` must be called before anything else."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._waiting = _stored(environment)
        """By the accused."""
        self._changed = trio.lowlevel.ParkingLot()
        self.version = 0
        """Rises with every change of `ripe`."""
        self.committed = 0
        """Pieces in blocks that were decided since the start."""

    @classmethod
    def open(cls, path: Path, *, disk: Disk = DISK) -> EvidencePool:
        """The pool in folder *path*, created if absent. Raises StoreInUse, StoreFailed."""
        environment = Environment.open(path, (TABLE,), map_bytes=MAP_BYTES, disk=disk)
        try:
            return cls(environment)
        except BaseException:
            environment.close()
            raise

    def close(self) -> None:
        """The folder is free for another process."""
        self._environment.close()

    def __len__(self) -> int:
        """Pieces that wait, those about the height in progress included."""
        return len(self._waiting)

    def set_chain(self, state: State, chain: ChainState, *, committed: int = 0) -> None:
        """*state* and *chain* are the latest, after a block with *committed* pieces: what no longer counts is gone."""
        self._past = chain.past(state)
        self._height = chain.height
        self.committed += committed
        gone: list[Evidence] = []
        for evidence in self._waiting.values():
            try:
                self._past.require_counts(evidence)
            except Uncounted as reason:
                if reason.code != TOO_NEW:
                    gone.append(evidence)
            except BadMessage:  # found at a height of ours that was decided otherwise after all: from another folder
                gone.append(evidence)
        if gone:
            self._write({evidence.accused: None for evidence in gone})
            for evidence in gone:
                del self._waiting[evidence.accused]
        ripens = any(evidence.height == chain.height for evidence in self._waiting.values())
        if gone or ripens:
            self._wake()

    def found(self, evidence: Evidence) -> None:
        """*evidence*, our own find with signatures that hold, is on the disk, and ripe once its height is decided.

        Not so if it does not count: blocks have punished it, or some against the same validator waits already.
        """
        if evidence.accused in self._waiting or len(self._waiting) >= WAITING_MAX:
            return
        try:
            self._past.require_counts(evidence)
        except Uncounted as reason:
            if reason.code != TOO_NEW:
                log.debug("find_not_counted", validator=evidence.accused.hex(), height=evidence.height, why=str(reason))
                return
        self._keep(evidence)

    def add(self, evidence: Evidence) -> None:
        """*evidence* of others waits for a block, unless some against the same validator does already.

        Raises BadMessage for a false charge, Uncounted for one that does not count now.
        """
        if evidence.accused in self._waiting:
            return
        self._past.judge(evidence)
        if len(self._waiting) >= WAITING_MAX:
            raise Uncounted(FULL, f"{WAITING_MAX} pieces of evidence wait already")
        self._keep(evidence)
        log.warning("evidence_received", validator=evidence.accused.hex(), height=evidence.height)

    def ripe(self) -> list[Evidence]:
        """What counts in the next block, in the order in which a block bears it."""
        return [evidence for _, evidence in sorted(self._waiting.items()) if evidence.height <= self._height]

    def for_block(self) -> list[Evidence]:
        """What the next block can bear of it."""
        return self.ripe()[:EVIDENCE_MAX]

    async def wait_beyond(self, version: int) -> None:
        """`version` is greater than *version*."""
        await trio.lowlevel.checkpoint()
        while self.version <= version:
            await self._changed.park()

    async def wait_for_work(self) -> None:
        """Something is ripe."""
        await trio.lowlevel.checkpoint()
        while not self.ripe():
            await self._changed.park()

    def _keep(self, evidence: Evidence) -> None:
        self._write({evidence.accused: encode(to_wire(evidence))})
        self._waiting[evidence.accused] = evidence
        self._wake()

    def _wake(self) -> None:
        self.version += 1
        self._changed.unpark_all()

    def _write(self, rows: dict[bytes, bytes | None]) -> None:
        """The *rows* are on the disk (None: deleted). In the loop: it happens once for each lie, not each block."""

        def writes(transaction: lmdb.Transaction[bytes]) -> Iterator[None]:
            table = self._environment.table(TABLE)
            for key, row in rows.items():
                if row is None:
                    transaction.delete(key, db=table)
                else:
                    transaction.put(key, row, db=table)
            yield

        self._environment.write_inline(writes)


def _stored(environment: Environment) -> dict[bytes, Evidence]:
    found: dict[bytes, Evidence] = {}
    for key, row in environment.cursor(TABLE):
        try:
            found[key] = from_wire(decode(row, bytes_max=EVIDENCE_BYTES_MAX))
        except BadMessage as bad:
            raise StoreFailed(
                f"{environment.path} is damaged ({bad}). Check the disk, then move the folder away and start the node "
                f"again: other nodes hold the evidence too"
            ) from bad
    return found
