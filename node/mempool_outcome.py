"""What becomes of a transaction on its way into the mempool."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import trio

from consensus.application import Admission
from consensus.transaction import Transaction
from node.mempool_entries import Entry


class Outcome(NamedTuple):
    """What became of submitted bytes."""

    id: bytes | None
    """None where the bytes are no transaction."""
    code: str
    """Empty if it waits in the pool; else ``tx.<what>``, ``bad_message.<what>`` or a code of the application."""
    text: str


@dataclass(slots=True, eq=False)
class Screened:
    """A transaction that passed what is cheap; its signatures are being verified."""

    transaction: Transaction
    admission: Admission
    generation: int
    outcome: Outcome | None = None
    done: trio.Event | None = None
    """Made by the first who brings the same bytes meanwhile."""


def waits(entry: Entry) -> Outcome:
    """The outcome of what waits in the pool, and how."""
    return Outcome(entry.transaction.id, "", "waits for a block" if entry.ready else "waits for an earlier nonce")
