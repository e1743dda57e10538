"""Who may wait in the pool by the latest state: everything that costs less than a signature, and the signatures."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog

from consensus.application import Admission, Application, Inadmissible, State
from consensus.chain import ChainState
from consensus.codec import BadMessage
from consensus.transaction import Transaction
from node.mempool_room import MempoolLimits
from node.verifier import Item, Verifier

SLICE_TRANSACTIONS = 64
"""Screened between two yields to the loop: about 3 ms. A count, not a clock: simulations must repeat."""

log = structlog.get_logger("mempool")


class Gate:
    """Asks the application, over the state of the last committed height."""

    def __init__(self, app: Application, limits: MempoolLimits, now_ms: Callable[[], int]) -> None:
        self._app = app
        self._limits = limits
        self._now_ms = now_ms
        self._state: State
        self.chain: ChainState
        self.generation = 0
        """Grows with each state; tells over which one something was last found admissible."""

    def open(self, state: State, chain: ChainState) -> None:
        """From now on it goes by *state*, that after `chain.height`."""
        self._state, self.chain = state, chain
        self.generation += 1

    @property
    def next_block_ms(self) -> int:
        """The earliest time that the next block can have, by own clock and by rule."""
        return max(self._now_ms(), self.chain.time_ms + self.chain.params.block_delay_ms)

    def decode(self, raw: bytes, identity: bytes) -> Transaction:
        """The transaction in *raw*, of this chain. Raises BadMessage or Inadmissible (wrong chain)."""
        transaction = Transaction.decode(raw, bytes_max=self.chain.params.transaction_bytes_max, id_=identity)
        chain_id = transaction.body.chain_id
        if chain_id != self.chain.chain_id:
            raise Inadmissible("tx.wrong_chain", f"made for chain “{chain_id}”, this one is “{self.chain.chain_id}”")
        return transaction

    def decode_body(self, raw: bytes, identity: bytes) -> Transaction:
        """As `decode`, with the transaction named in what is raised."""
        try:
            return self.decode(raw, identity)
        except BadMessage as error:
            raise BadMessage(f"transaction {identity.hex()}: {error}", error.code) from None
        except Inadmissible as error:
            raise Inadmissible(error.code, f"transaction {identity.hex()}: {error}") from None

    def admit(self, transaction: Transaction) -> Admission:
        """The application's word on *transaction*, which has not expired. Raises Inadmissible."""
        time_ms = self.next_block_ms
        ahead_ms = transaction.body.valid_until_ms - time_ms
        if ahead_ms < 0:
            raise Inadmissible("tx.expired", f"was valid until {-ahead_ms} ms ago; sign it again with a later time")
        if ahead_ms > self._limits.validity_ms_max:
            raise Inadmissible(
                "tx.valid_too_long",
                f"is valid for {ahead_ms} ms from now, at most {self._limits.validity_ms_max} ms are accepted",
            )
        try:
            return self._app.admit(transaction, self._state, time_ms=time_ms, params=self.chain.params)
        except Inadmissible:
            raise
        except Exception as fault:  # a defect of a module must not let one transaction end the node
            log.exception("admission_fault", id=transaction.id)
            text = f"a module failed on it ({type(fault).__name__}); the node's log has the traceback"
            raise Inadmissible("tx.fault", text) from fault


async def signatures_hold(verifier: Verifier, transactions: Sequence[Transaction], *, urgent: bool) -> list[bool]:
    """For each of *transactions* whether all its signatures hold; one call of *verifier*."""
    items: list[Item] = []
    for transaction in transactions:
        message = transaction.message
        for key, signature in zip(transaction.body.signers, transaction.signatures, strict=True):
            items.append((key, message, signature))
    answers = await verifier.verify(items, urgent=urgent)
    if len(answers) == len(transactions) and all(len(transaction.signatures) == 1 for transaction in transactions):
        return answers
    verdicts: list[bool] = []
    start = 0
    for transaction in transactions:
        stop = start + len(transaction.signatures)
        verdicts.append(all(answers[start:stop]))
        start = stop
    return verdicts
