"""Bodies of blocks: verified ahead of the pool's own, once, and kept within bounds until their block is decided."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from consensus.transaction import Transaction
from node.mempool_gate import signatures_hold
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
