"""The mempool: what clients and peers bring is screened, verified once, and waits for a block."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeAlias

import trio

from consensus.application import Application, Inadmissible, State
from consensus.chain import ChainState
from consensus.codec import BadMessage
from consensus.signing import sha256
from consensus.transaction import Transaction
from node.mempool_bodies import BlockBodies, VerifiedBodies
from node.mempool_gate import SLICE_TRANSACTIONS, Gate, signatures_hold
from node.mempool_memory import ArrivalLog, Counters, Recent, Refusals
from node.mempool_outcome import Outcome, Screened, waits
from node.mempool_room import Entry, MempoolLimits, NoRoom, WaitingRoom
from node.mempool_turns import Turns
from node.verifier import Verifier

__all__ = ["Mempool", "MempoolLimits", "Outcome"]

Id: TypeAlias = bytes
"""A transaction's id (the SHA-256 of its bytes), a peer's, or a sender's address."""
Raw: TypeAlias = bytes
"""The complete bytes of a transaction."""

PARKED_RECHECKS_MAX = 256
COMMITTED_REMEMBERED_MAX = 50_000
REFUSALS_REMEMBERED_MAX = 10_000
VERIFIED_BODIES_BYTES_MAX = 32 * 2**20
ARRIVALS_REMEMBERED_MAX = 40_000


class Mempool:
    """One pool: per-sender queues in nonce order, bounded by count, bytes, sender and time.

    `set_chain` must be called before anything else.
    """

    def __init__(self, app: Application, verifier: Verifier, limits: MempoolLimits, now_ms: Callable[[], int]) -> None:
        self._verifier = verifier
        self._gate = Gate(app, limits, now_ms)
        self._room = WaitingRoom(limits)
        self._sequence = 0
        self._screening: dict[Id, Screened] = {}
        self._committed: Recent[bool] = Recent(COMMITTED_REMEMBERED_MAX)
        self._refusals = Refusals(REFUSALS_REMEMBERED_MAX)
        self._anonymous = Turns()
        self._verified = VerifiedBodies(verifier, VERIFIED_BODIES_BYTES_MAX)
        self.bodies = BlockBodies(self._verified, self._gate, self._room, self._screening)
        """What blocks hold, whether it waits here or not."""
        self._strangers_committed = False
        """Whether a block held transactions whose senders we don't know: queues may wait for a nonce that was used."""
        self._changed = trio.lowlevel.ParkingLot()
        self.arrivals = ArrivalLog(ARRIVALS_REMEMBERED_MAX)
        """Everything that was admitted."""
        self.submissions = ArrivalLog(ARRIVALS_REMEMBERED_MAX)
        """What clients of this node brought; peers get it from us first."""
        self.counters = Counters()

    @property
    def count(self) -> int:
        """How many transactions wait."""
        return self._room.count

    @property
    def bytes(self) -> int:
        """Their bytes."""
        return self._room.bytes

    def get(self, identity: Id) -> Transaction | None:
        """The waiting transaction with this id."""
        entry = self._room.entries.get(identity)
        return entry.transaction if entry else None

    def entry(self, identity: Id) -> Entry | None:
        """The waiting transaction with what the pool knows of it; for the gossip."""
        return self._room.entries.get(identity)

    def entries(self) -> Iterable[Entry]:
        """All that wait, in order of arrival. The pool must not change meanwhile."""
        return self._room.entries.values()

    def holds(self, sender: Id, nonce: int) -> bool:
        """Whether a transaction of *sender* with this nonce waits."""
        return self._room.at(sender, nonce) is not None

    def next_nonce(self, sender: Id) -> int:
        """The nonce that *sender*, of whom something waits, is to use next."""
        return self._room.next_nonce(sender)

    def waiting(self, limit: int) -> list[Transaction]:
        """The first *limit* transactions that wait, in order of arrival; for display."""
        return [entry.transaction for entry in islice(self._room.entries.values(), limit)]

    def knows(self, identity: Id) -> bool:
        """Whether it need not be fetched: it waits, is being verified, was committed, or was refused for good."""
        return (
            identity in self._room.entries
            or identity in self._screening
            or identity in self._committed
            or self._refusals.final(identity) is not None
        )

    def why(self, identity: Id) -> Outcome:
        """What the pool knows of this id: waiting (code "" and how), or why it left or was not let in."""
        entry = self._room.entries.get(identity)
        if entry is not None:
            return waits(entry)
        if identity in self._screening:
            return Outcome(identity, "", "is being verified")
        if identity in self._committed:
            return Outcome(identity, "tx.committed", "is in a block")
        refusal = self._refusals.get(identity)
        if refusal is not None:
            return Outcome(identity, *refusal)
        return Outcome(identity, "tx.unknown", "this node has not seen it, or has forgotten it")

    def set_chain(self, state: State, chain: ChainState) -> None:
        """Admission goes by *state*, which is that after `chain.height`. What expired is gone.

        The pool is not gone through: `committed` moves its senders on, and the rest is checked again when it would
        matter (`wait_for_work`, or the execution of a proposal).
        """
        self._gate.open(state, chain)
        self._expire()
        if self._strangers_committed:
            self._strangers_committed = False
            for entry in list(islice(self._room.parked_heads(), PARKED_RECHECKS_MAX)):
                self._recheck(entry)
        self._changed.unpark_all()

    def committed(self, ids: Iterable[Id]) -> None:
        """The transactions with these *ids* are in a block: they leave the pool, with what their nonces make void."""
        for identity in ids:
            self._committed.put(identity, True)
            self._refusals.forgive(identity)
            entry = self._room.entries.get(identity)
            body = self._verified.pop(identity)
            if entry is not None:
                self._advance(entry.sender, entry.transaction.body.nonce + 1, identity)
            elif body is not None and body.body.sender is not None:
                self._advance(body.body.sender, body.body.nonce + 1, identity)
            else:
                self._strangers_committed = True

    def drop(self, identity: Id, code: str, text: str) -> None:
        """The transaction leaves the pool if it waits there; `why` will say *code* and *text*."""
        entry = self._room.entries.get(identity)
        if entry is not None:
            self._room.remove(entry)
        self._remember(identity, code, text)

    def reap(self, *, time_ms: int, bytes_max: int, count_max: int) -> Iterator[Transaction]:
        """Transactions for a block at *time_ms* (see `WaitingRoom.reap`). The pool may change between two of them."""
        return self._room.reap(time_ms=time_ms, bytes_max=bytes_max, count_max=count_max)

    async def wait_for_work(self) -> None:
        """Returns once a transaction waits that could stand in the next block by the latest state and own clock."""
        await trio.lowlevel.checkpoint()
        left = 0
        while True:
            self._expire()
            entry = next(self._room.ready_heads(), None)
            if entry is None:
                await self._changed.park()
            elif entry.checked == self._gate.generation or self._recheck(entry):
                return
            else:  # it has left the pool
                left += 1
                if left % SLICE_TRANSACTIONS == 0:
                    await trio.lowlevel.checkpoint()

    async def submit(self, raws: Sequence[Raw], *, source: Id | None) -> list[Outcome]:
        """What became of each of *raws*, in order. *source*: the peer that brought them; None: a client of this node.

        All cheap checks come first, then all signatures in one batch, then what has no sender, by turns with that of
        others. Waits while the verifier is busy.
        """
        await trio.lowlevel.checkpoint()
        outcomes: dict[int, Outcome] = {}
        own: dict[int, Screened] = {}
        elsewhere: dict[int, Screened] = {}
        anonymous: dict[int, Transaction] = {}
        try:
            for index, raw in enumerate(raws):
                verdict = self._read(raw)
                if isinstance(verdict, Transaction) and verdict.body.sender is None:
                    anonymous[index] = verdict
                    continue
                if isinstance(verdict, Transaction):
                    verdict = self._admit(verdict)
                if isinstance(verdict, Outcome):
                    outcomes[index] = verdict
                elif verdict.transaction.id in self._screening:
                    elsewhere[index] = verdict
                else:
                    self._screening[verdict.transaction.id] = verdict
                    own[index] = verdict
                if index % SLICE_TRANSACTIONS == SLICE_TRANSACTIONS - 1:
                    await trio.lowlevel.checkpoint()
            await self._verify_and_insert(list(own.values()), source)
        finally:
            for screened in own.values():
                del self._screening[screened.transaction.id]
                if screened.done is not None:
                    screened.done.set()
        for index, screened in own.items():
            assert screened.outcome is not None
            outcomes[index] = screened.outcome
        for index, screened in elsewhere.items():
            outcomes[index] = await self._outcome_elsewhere(screened, source)
        for index, transaction in anonymous.items():
            outcomes[index] = await self._submit_anonymous(transaction, source)
        return [outcomes[index] for index in range(len(raws))]

    def _read(self, raw: Raw) -> Outcome | Screened | Transaction:
        """What *raw* is, if it is new and of this chain; else what is known of it."""
        bytes_max = self._gate.chain.params.transaction_bytes_max
        if len(raw) > bytes_max:
            return self._refuse(None, "tx.too_large", f"{len(raw)} bytes, at most {bytes_max} are allowed")
        identity = sha256(raw)
        known = self._known(identity, raw)
        if known is not None:
            return known
        try:
            return self._verified.get(identity) or self._gate.decode(raw, identity)
        except BadMessage as error:
            return self._refuse(None, error.code, str(error))
        except Inadmissible as error:
            return self._refuse(identity, error.code, str(error))

    def _admit(self, transaction: Transaction) -> Outcome | Screened:
        """*transaction*, if it may wait here but for its signatures."""
        try:
            admission = self._gate.admit(transaction)
            self._room.check(transaction, admission.sender, admission.next_nonce, admission.priority)
        except (Inadmissible, NoRoom) as error:
            return self._refuse(transaction.id, error.code, str(error))
        return Screened(transaction, admission, self._gate.generation)

    async def _submit_anonymous(self, transaction: Transaction, source: Id | None) -> Outcome:
        """What became of *transaction*, which has no sender, and whose module checks it when its turn has come."""
        try:
            await self._anonymous.mine(source)
        except NoRoom as error:
            return self._refuse(transaction.id, error.code, str(error))
        known = self._known(transaction.id, transaction.raw)  # it may have come from elsewhere meanwhile
        if known is not None:
            assert isinstance(known, Outcome), "nothing without a sender is among what is being verified"
            return known
        verdict = self._admit(transaction)
        if isinstance(verdict, Outcome):
            return verdict
        outcome = self._insert(verdict, source)
        self._wake(source)
        return outcome

    def _known(self, identity: Id, raw: Raw) -> Outcome | Screened | None:
        """What these bytes are already, if they have come before."""
        if identity in self._room.entries:
            self.counters.repeat(len(raw))
            return Outcome(identity, "", "waits already")
        if identity in self._screening:
            self.counters.repeat(len(raw))
            return self._screening[identity]
        if identity in self._committed:
            return Outcome(identity, "tx.committed", "this transaction is in a block already")
        final = self._refusals.final(identity)
        return Outcome(identity, *final) if final else None

    async def _verify_and_insert(self, batch: list[Screened], source: Id | None) -> None:
        if not batch:
            return
        fresh = [screened.transaction for screened in batch if self._verified.get(screened.transaction.id) is None]
        forged: set[Id] = set()
        if fresh:
            verdicts = await signatures_hold(self._verifier, fresh, urgent=False)
            forged = {transaction.id for transaction, holds in zip(fresh, verdicts, strict=True) if not holds}
        for screened in batch:
            identity = screened.transaction.id
            if identity in forged:
                screened.outcome = self._refuse(identity, "tx.bad_signature", "a signature does not hold")
            else:
                screened.outcome = self._insert(screened, source)
        self._wake(source)

    def _wake(self, source: Id | None) -> None:
        """Whoever waits for what has just been let in looks."""
        self._changed.unpark_all()
        self.arrivals.wake()
        if source is None:
            self.submissions.wake()

    def _insert(self, screened: Screened, source: Id | None) -> Outcome:
        """The verified transaction waits, if it is still admissible: the state may have moved on."""
        transaction, admission = screened.transaction, screened.admission
        if transaction.id in self._committed:
            return Outcome(transaction.id, "tx.committed", "this transaction is in a block already")
        try:
            if screened.generation != self._gate.generation:
                admission = self._gate.admit(transaction)
            self._sequence += 1
            entry = Entry(
                transaction=transaction,
                sender=admission.sender,
                priority=admission.priority,
                sequence=self._sequence,
                checked=self._gate.generation,
                source=source,
            )
            left = self._room.add(entry, admission.next_nonce)
        except (Inadmissible, NoRoom) as error:
            return self._refuse(transaction.id, error.code, str(error))
        for former in left:
            self.counters.displaced += 1
            self._remember(former.transaction.id, "tx.displaced", f"gave way to {transaction.id.hex()}")
        self._refusals.forgive(transaction.id)
        self.arrivals.append(transaction.id)
        if source is None:
            self.submissions.append(transaction.id)
        self.counters.accepted += 1
        return waits(entry)

    async def _outcome_elsewhere(self, screened: Screened, source: Id | None) -> Outcome:
        """The outcome of the same bytes, which another call (or an earlier place of this one) verified."""
        if screened.outcome is None and self._screening.get(screened.transaction.id) is screened:
            if screened.done is None:
                screened.done = trio.Event()
            await screened.done.wait()
        if screened.outcome is None:  # the other call was cancelled
            return (await self.submit([screened.transaction.raw], source=source))[0]
        return screened.outcome

    def _advance(self, sender: Id, next_nonce: int, cause: Id | None) -> None:
        """*sender*'s nonces below *next_nonce* are used, the last of them by the transaction *cause*, if known."""
        for void in self._room.advance(sender, next_nonce):
            if void.transaction.id in self._committed:
                self.counters.committed += 1
            else:
                by = cause.hex() if cause else "another transaction"
                self._remember(void.transaction.id, "tx.nonce_used", f"its nonce, or a later one, was used by {by}")

    def _recheck(self, entry: Entry) -> bool:
        """Whether *entry* is admissible by the latest state; if not, it leaves the pool."""
        try:
            admission = self._gate.admit(entry.transaction)
        except Inadmissible as error:
            self.drop(entry.transaction.id, error.code, str(error))
            return False
        entry.checked = self._gate.generation
        self._advance(entry.sender, admission.next_nonce, None)
        return entry.transaction.id in self._room.entries

    def _expire(self) -> None:
        for entry in self._room.expire(self._gate.next_block_ms):
            self.counters.expired += 1
            self._remember(entry.transaction.id, "tx.expired", "no block took it in time")

    def _refuse(self, identity: Id | None, code: str, text: str) -> Outcome:
        if identity is None:
            self.counters.refuse(code)
        else:
            self._remember(identity, code, text)
        return Outcome(identity, code, text)

    def _remember(self, identity: Id, code: str, text: str) -> None:
        self.counters.refuse(code)
        self._refusals.put(identity, code, text)
