"""What a validator's key signed last, as it lies on the disk, and whether the key may sign at all.

The state lies in two slots of one file, written in turn: the write that a crash tears is never the only copy. A slot is
a line of JSON with its SHA-256, padded with spaces to a block of its own, readable by people.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from consensus.signing import sha256
from node.disk import DISK, Disk, File
from node.files import PRIVATE_MODE, write_atomically

SLOT_BYTES = 4096
WHY_CHARACTERS_MAX = 300
"""Of the reason for a lock; it must fit into a slot."""
UNLOCK = "allting keys unlock"


class SignerStateMissing(Exception):
    """There is no last-sign state: what this key has signed is unknown. The text says what to do."""


class SignerStateDamaged(Exception):
    """The last-sign state can't be read, or belongs to another key or chain. The text says what to do."""


@dataclass(frozen=True, slots=True)
class LastSigned:
    """The last thing signed; an order over `place` is what the signer never goes back in."""

    sequence: int
    """Counts the writes of the file."""
    height: int
    round: int
    step: int
    """0 nothing yet, 1 proposal, 2 prevote, 3 precommit."""
    message: bytes
    """The sign-bytes."""
    signature: bytes
    locked: str = ""
    """Why this key signs nothing until its operator has looked (`unlock`); empty: it isn't locked."""
    waiting_since_ms: int | None = None
    """When it was unlocked (Unix ms): it signs from the height on that follows a block proposed later, decided without
    it. None: it isn't waiting."""
    adopts_height: int = 0
    """What peers show of this key up to this height was signed by a memory that is lost, and the operator took the
    risk: it is remembered as ours instead of being held against us."""

    @property
    def place(self) -> tuple[int, int, int]:
        """Height, round and step."""
        return (self.height, self.round, self.step)

    @property
    def is_silent(self) -> bool:
        """Whether nothing is signed: locked, or waiting."""
        return bool(self.locked) or self.waiting_since_ms is not None


NOTHING = LastSigned(0, 0, 0, 0, b"", b"")


def slot_of(last: LastSigned, key: bytes, chain_id: str) -> bytes:
    """The slot, `SLOT_BYTES` long, that says *last* of the public *key* on *chain_id*."""
    facts = {
        "sequence": last.sequence,
        "height": last.height,
        "round": last.round,
        "step": last.step,
        "message": last.message.hex(),
        "signature": last.signature.hex(),
        "locked": last.locked[:WHY_CHARACTERS_MAX],
        "waiting_since_ms": last.waiting_since_ms,
        "adopts_height": last.adopts_height,
        "public_key": key.hex(),
        "chain_id": chain_id,
    }
    text = json.dumps(facts).encode("ascii")
    line = text + b" " + sha256(text).hex().encode("ascii")
    assert len(line) < SLOT_BYTES, "the longest chain id, message and reason fit"
    return line.ljust(SLOT_BYTES - 1) + b"\n"


def slot_at(last: LastSigned) -> int:
    """The byte at which the slot of *last* stands."""
    return last.sequence % 2 * SLOT_BYTES


def file_of(last: LastSigned, key: bytes, chain_id: str) -> bytes:
    """A whole file that says *last* and nothing else."""
    content = bytearray((b" " * (SLOT_BYTES - 1) + b"\n") * 2)
    content[slot_at(last) : slot_at(last) + SLOT_BYTES] = slot_of(last, key, chain_id)
    return bytes(content)


def read_state(file: File, key: bytes, chain_id: str) -> LastSigned:
    """The newer of the slots that are whole. Raises SignerStateDamaged."""
    path = file.path
    data = file.read(2 * SLOT_BYTES)
    slots = [facts for at in (0, SLOT_BYTES) if (facts := _facts(data[at : at + SLOT_BYTES])) is not None]
    if not slots:
        raise SignerStateDamaged(
            f"{path} can't be read: what this validator has signed is unknown, so it must not sign. Restore the file "
            f"from a copy no older than the last signature; or, once no other machine has this key: {UNLOCK}"
        )
    facts = max(slots, key=lambda facts: facts["sequence"])
    if (facts["public_key"], facts["chain_id"]) != (key.hex(), chain_id):
        raise SignerStateDamaged(
            f"{path} belongs to key {facts['public_key']} on chain {facts['chain_id']}, not to key {key.hex()} on "
            f"chain {chain_id}. Put the file back beside its own key"
        )
    return LastSigned(
        facts["sequence"],
        facts["height"],
        facts["round"],
        facts["step"],
        bytes.fromhex(facts["message"]),
        bytes.fromhex(facts["signature"]),
        facts.get("locked", ""),
        facts.get("waiting_since_ms"),
        facts.get("adopts_height", 0),
    )


def may_sign(path: Path, key: bytes, chain_id: str, *, disk: Disk = DISK) -> bool:
    """Whether the state at *path* is whole, and neither locked nor waiting."""
    last = _known(path, key, chain_id, disk)
    return last is not NOTHING and not last.is_silent


def unlock(path: Path, key: bytes, chain_id: str, *, since_ms: int, disk: Disk = DISK) -> None:
    """The state at *path* (missing, damaged, locked or waiting) lets the public *key* sign again, once that is safe.

    *since_ms*: now, by the own clock or the chain's latest block, whichever is later. Raises SignerStateDamaged if the
    file belongs to another key or chain, DiskFailed.
    """
    last = _known(path, key, chain_id, disk)
    _put(path, dataclasses.replace(last, locked="", waiting_since_ms=since_ms), key, chain_id, disk)


def unlock_at_risk(path: Path, key: bytes, chain_id: str, *, height: int, disk: Disk = DISK) -> None:
    """As `unlock`, but the key signs at once, from *height* on, the one in progress: where no quorum is without it.

    What it signed there before, and nobody shows it in time, it may contradict.
    """
    last = LastSigned(_known(path, key, chain_id, disk).sequence, height, 0, 0, b"", b"", adopts_height=height)
    _put(path, last, key, chain_id, disk)


def _known(path: Path, key: bytes, chain_id: str, disk: Disk) -> LastSigned:
    """What can still be read."""
    if not disk.exists(path):
        return NOTHING
    with disk.open(path) as file:
        data = file.read(2 * SLOT_BYTES)
        if _facts(data[:SLOT_BYTES]) is None and _facts(data[SLOT_BYTES:]) is None:
            return NOTHING
        return read_state(file, key, chain_id)


def _put(path: Path, last: LastSigned, key: bytes, chain_id: str, disk: Disk) -> None:
    changed = dataclasses.replace(last, sequence=last.sequence + 1)
    write_atomically(path, file_of(changed, key, chain_id), mode=PRIVATE_MODE, disk=disk)


def missing(path: Path) -> SignerStateMissing:
    """What is said where there is no state at *path* though the key may have signed."""
    return SignerStateMissing(
        f"{path} is missing: what this validator has signed is unknown, so it must not sign. Restore the file from the "
        f"machine where the key was last used; or, once no other machine has this key: {UNLOCK}"
    )


def _facts(slot: bytes) -> dict[str, Any] | None:
    """What a slot says, None where it is empty or torn."""
    text, _, checksum = slot.rstrip().rpartition(b" ")
    if not text or sha256(text).hex().encode("ascii") != checksum:
        return None
    facts: dict[str, Any] = json.loads(text)
    return facts
