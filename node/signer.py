"""The validator's key and the memory that keeps it from contradicting itself, whatever the core asks.

The last-sign state lies in two slots of one file, written in turn: the write that a crash tears is never the only copy.
A slot is a line of JSON with its SHA-256, padded with spaces to a block of its own, readable by people.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from consensus.address import key_address
from consensus.signing import public_key, sha256, sign
from consensus.vote import Proposal, Vote, VoteKind, proposal_sign_bytes, vote_sign_bytes
from node.disk import DISK, Disk, File

_SLOT_BYTES = 4096
_PROPOSE = 1
_STEPS = {VoteKind.PREVOTE: 2, VoteKind.PRECOMMIT: 3}


class DoubleSignRefused(Exception):
    """The request contradicts what was signed, or goes back behind it: nothing was signed. The text names both."""


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

    @property
    def place(self) -> tuple[int, int, int]:
        """Height, round and step."""
        return (self.height, self.round, self.step)


_NOTHING = LastSigned(0, 0, 0, 0, b"", b"")


class Signer:
    """Signs proposals and votes of one key on one chain. No signature may leave before `sync`.

    The log is synced first, this memory second: a signature that only this memory kept would silence its key for ever
    in a round that all others have forgotten, too. After an OSError it signs nothing more: what the disk remembers is
    unknown.
    """

    def __init__(self, key_seed: bytes, chain_id: str, file: File, last: LastSigned) -> None:
        self._seed = key_seed
        self._chain_id = chain_id
        self._file = file
        self._last = last
        self._is_synced = True
        self._broken = False
        self.public_key = public_key(key_seed)
        """32 bytes."""
        self.address = key_address(self.public_key)
        """20 bytes, as in the validator set."""

    @classmethod
    def create(cls, key_seed: bytes, state_path: Path, chain_id: str, *, disk: Disk = DISK) -> Signer:
        """A signer whose key has signed nothing on *chain_id*. Raises FileExistsError rather than forget anything."""
        state_path = Path(state_path)
        fresh = state_path.with_name(state_path.name + ".new")
        file = disk.create(fresh)
        try:
            slot = _slot(_NOTHING, public_key(key_seed), chain_id)
            file.write(slot + b" " * (_SLOT_BYTES - 1) + b"\n", 0)
            file.sync()
            disk.link(fresh, state_path)  # never over an existing file, and never half a file
            disk.unlink(fresh)
            disk.sync_folder(state_path.parent)
            file.close()
            return cls(key_seed, chain_id, disk.open(state_path), _NOTHING)
        except BaseException:
            file.close()
            raise

    @classmethod
    def open(cls, key_seed: bytes, state_path: Path, chain_id: str, *, disk: Disk = DISK) -> Signer:
        """The signer that remembers what *state_path* says.

        Raises SignerStateMissing, SignerStateDamaged, DiskFailed.
        """
        state_path = Path(state_path)
        try:
            file = disk.open(state_path)
        except FileNotFoundError:
            raise SignerStateMissing(
                f"{state_path} is missing: what this validator has signed is unknown, so it must not sign. Restore the "
                f"file from the machine where the key was last used; a new key (allting init) needs no old state"
            ) from None
        try:
            last = _read(file, public_key(key_seed), chain_id)
        except BaseException:
            file.close()
            raise
        return cls(key_seed, chain_id, file, last)

    @property
    def last(self) -> LastSigned:
        """What was signed last."""
        return self._last

    def sign_vote(self, kind: VoteKind, height: int, round_: int, block_id: bytes | None) -> Vote:
        """The signed vote. Raises DoubleSignRefused, OSError."""
        message = vote_sign_bytes(self._chain_id, kind, height, round_, block_id)
        signature = self._sign((height, round_, _STEPS[kind]), message)
        return Vote(
            kind=kind, height=height, round=round_, block_id=block_id, validator=self.address, signature=signature
        )

    def sign_proposal(self, height: int, round_: int, pol_round: int, block_id: bytes) -> Proposal:
        """The signed proposal. Raises DoubleSignRefused, OSError."""
        message = proposal_sign_bytes(self._chain_id, height, round_, pol_round, block_id)
        signature = self._sign((height, round_, _PROPOSE), message)
        return Proposal(height=height, round=round_, pol_round=pol_round, block_id=block_id, signature=signature)

    def recall(self, message: Vote | Proposal) -> None:
        """*message*, which the log knows as ours, counts as signed: a crash came before its `sync`."""
        if isinstance(message, Vote):
            kind, block_id = message.kind, message.block_id
            place = (message.height, message.round, _STEPS[kind])
            signed = vote_sign_bytes(self._chain_id, kind, message.height, message.round, block_id)
        else:
            place = (message.height, message.round, _PROPOSE)
            signed = proposal_sign_bytes(
                self._chain_id, message.height, message.round, message.pol_round, message.block_id
            )
        if place > self._last.place:
            self._remember(place, signed, message.signature)

    def sync(self) -> None:
        """Everything signed is remembered on the disk. Raises DiskFailed, and from then on nothing is signed."""
        if self._is_synced:
            return
        if self._broken:
            raise OSError("the last-sign state could not be written; restart the node once the disk is well")
        last = dataclasses.replace(self._last, sequence=self._last.sequence + 1)
        try:
            self._file.write(_slot(last, self.public_key, self._chain_id), last.sequence % 2 * _SLOT_BYTES)
            self._file.sync()
        except OSError:
            self._broken = True
            raise
        self._last = last
        self._is_synced = True

    def close(self) -> None:
        """The file is closed; this signer signs nothing more."""
        self._file.close()

    def _sign(self, place: tuple[int, int, int], message: bytes) -> bytes:
        last = self._last
        if place == last.place and message == last.message:
            return last.signature
        if place <= last.place:
            what = "contradicts" if place == last.place else "goes back behind"
            raise DoubleSignRefused(f"{_place_text(place)} {what} {_place_text(last.place)}, which is signed")
        if self._broken:
            raise OSError("the last-sign state could not be written; restart the node once the disk is well")
        signature = sign(self._seed, message)
        self._remember(place, message, signature)
        return signature

    def _remember(self, place: tuple[int, int, int], message: bytes, signature: bytes) -> None:
        self._last = LastSigned(self._last.sequence, *place, message, signature)
        self._is_synced = False


def _place_text(place: tuple[int, int, int]) -> str:
    height, round_, step = place
    return f"{('nothing', 'proposal', 'prevote', 'precommit')[step]} of height {height}, round {round_}"


def _slot(last: LastSigned, key: bytes, chain_id: str) -> bytes:
    facts = {
        "sequence": last.sequence,
        "height": last.height,
        "round": last.round,
        "step": last.step,
        "message": last.message.hex(),
        "signature": last.signature.hex(),
        "public_key": key.hex(),
        "chain_id": chain_id,
    }
    text = json.dumps(facts).encode("ascii")
    line = text + b" " + sha256(text).hex().encode("ascii")
    assert len(line) < _SLOT_BYTES, "the longest chain id and message fit many times over"
    return line.ljust(_SLOT_BYTES - 1) + b"\n"


def _read(file: File, key: bytes, chain_id: str) -> LastSigned:
    """The newer of the slots that are whole."""
    path = file.path
    data = file.read(2 * _SLOT_BYTES)
    slots = [facts for at in (0, _SLOT_BYTES) if (facts := _facts(data[at : at + _SLOT_BYTES])) is not None]
    if not slots:
        raise SignerStateDamaged(
            f"{path} can't be read: what this validator has signed is unknown, so it must not sign. Restore the file "
            f"from a copy no older than the last signature, or take a new validator key"
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
    )


def _facts(slot: bytes) -> dict[str, Any] | None:
    """What a slot says, None where it is empty or torn."""
    text, _, checksum = slot.rstrip().rpartition(b" ")
    if not text or sha256(text).hex().encode("ascii") != checksum:
        return None
    facts: dict[str, Any] = json.loads(text)
    return facts
