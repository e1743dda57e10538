"""Bodies of blocks: from the pool, or verified ahead of it, once, and kept within bounds until the block is decided."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence

import trio

from consensus.application import Inadmissible
from consensus.signing import sha256
from consensus.transaction import Transaction
from node.mempool_gate import SLICE_TRANSACTIONS, Gate, signatures_hold
from node.mempool_outcome import Screened
from node.mempool_room import WaitingRoom
from node.verifier import Verifier


class VerifiedBodies:
    """Transactions with verified signatures that were needed for a block and need not wait in the pool."""

    def __init__(self, verifier: Verifier, bytes_max: int) -> None:
        self._verifier = verifier
        self._bytes_max = bytes_max
        self._bytes = 0
        self._bodies: OrderedDict[bytes, Transaction] = OrderedDict()

    async def verify(self, transactions: Sequence[Transaction]) -> list[bool]:
        """Which of *transactions* have signatures that hold; a block waits for them. Those that do are kept."""
        if not transactions:
            return []
        verdicts = await signatures_hold(self._verifier, transactions, urgent=True)
        for transaction, holds in zip(transactions, verdicts, strict=True):
            if holds:
                self.put(transaction)
        return verdicts

    def put(self, transaction: Transaction) -> None:
        """*transaction* is kept; the oldest go when there are more than the bytes allowed."""
        if transaction.id in self._bodies or len(transaction.raw) > self._bytes_max:
            return
        self._bodies[transaction.id] = transaction
        self._bytes += len(transaction.raw)
        while self._bytes > self._bytes_max:
            _, oldest = self._bodies.popitem(last=False)
            self._bytes -= len(oldest.raw)

    def get(self, identity: bytes) -> Transaction | None:
        """The transaction with this id, if kept."""
        return self._bodies.get(identity)

    def pop(self, identity: bytes) -> Transaction | None:
        """The transaction with this id, if kept; no longer kept."""
        transaction = self._bodies.pop(identity, None)
        if transaction is not None:
            self._bytes -= len(transaction.raw)
        return transaction


class BlockBodies:
    """Transactions that blocks name by their ids or that peers send for them, wherever in the pool they are."""

    def __init__(
        self, verified: VerifiedBodies, gate: Gate, room: WaitingRoom, screening: Mapping[bytes, Screened]
    ) -> None:
        """*screening*: what is being verified for the pool."""
        self._verified = verified
        self._gate = gate
        self._room = room
        self._screening = screening

    async def admit(self, raws: Sequence[bytes]) -> list[Transaction]:
        """The transactions of *raws*, bodies of a block, with signatures verified (those in the pool were before).

        Whether they can stand in the block is for its execution to find. Raises BadMessage or Inadmissible, which name
        the transaction.
        """
        await trio.lowlevel.checkpoint()
        transactions: list[Transaction] = []
        fresh: list[Transaction] = []
        for index, raw in enumerate(raws):
            identity = sha256(raw)
            transaction = self._known(identity)
            if transaction is None:
                screened = self._screening.get(identity)
                transaction = screened.transaction if screened else self._gate.decode_body(raw, identity)
                fresh.append(transaction)
            transactions.append(transaction)
            if index % SLICE_TRANSACTIONS == SLICE_TRANSACTIONS - 1:
                await trio.lowlevel.checkpoint()
        for transaction, holds in zip(fresh, await self._verified.verify(fresh), strict=True):
            if not holds:
                text = f"transaction {transaction.id.hex()}: a signature does not hold"
                raise Inadmissible("tx.bad_signature", text)
        return transactions

    async def find(self, ids: Sequence[bytes]) -> list[Transaction | None]:
        """The transactions with these *ids* as far as this node has them, with verified signatures.

        From the pool, from bodies kept of other blocks, and from what is being verified, which is then done at once.
        """
        await trio.lowlevel.checkpoint()
        found = {identity: self._known(identity) for identity in ids}
        waiting = [self._screening[i].transaction for i in found if found[i] is None and i in self._screening]
        for transaction, holds in zip(waiting, await self._verified.verify(waiting), strict=True):
            found[transaction.id] = transaction if holds else None
        return [found[identity] for identity in ids]

    def _known(self, identity: bytes) -> Transaction | None:
        """The transaction with this id, if its signatures were verified here before."""
        entry = self._room.entries.get(identity)
        return entry.transaction if entry else self._verified.get(identity)
