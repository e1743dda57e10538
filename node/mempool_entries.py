"""What waits in the mempool, by sender, and how much of it may."""

from __future__ import annotations

from dataclasses import dataclass

from consensus.params import DAY_MS
from consensus.transaction import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class MempoolLimits:
    """How much may wait, and for how long."""

    transactions_max: int = 20_000
    bytes_max: int = 64 * 2**20
    per_sender_max: int = 64
    per_sender_bytes_max: int = 4 * 2**20
    """A sixteenth of the pool: no sender with large transactions fills it."""
    per_payer_max: int = 256
    """Of all that one account pays for others: with what pays for one it could fill the pool through a thousand."""
    validity_ms_max: int = DAY_MS
    """A transaction valid for longer than this from now is refused."""


class NoRoom(Exception):
    """This transaction can't wait here now; *code* is stable (``tx.<what>``)."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(slots=True, eq=False, kw_only=True)
class Entry:
    """A transaction that waits, with verified signatures."""

    transaction: Transaction
    sender: bytes
    """Whose queue it waits in (`Admission.sender`)."""
    priority: int
    sequence: int
    """The order of arrival."""
    checked: int
    """The generation of the state over which it was last found admissible."""
    source: bytes | None
    """The peer that brought it; None: a client of this node."""
    ready: bool = False
    """Whether all nonces before it wait too, so that a block can hold it."""
    holders: int = 0
    """A bit for each peer that is known to have it; the gossip gives out the bits."""


class SenderQueue:
    """One sender's transactions by nonce. `next_nonce` … `ready_end` - 1 are all here."""

    __slots__ = ("by_nonce", "bytes", "next_nonce", "ready_end")

    def __init__(self, next_nonce: int) -> None:
        self.next_nonce = next_nonce
        self.ready_end = next_nonce
        self.by_nonce: dict[int, Entry] = {}
        self.bytes = 0
