"""The validator's key and the memory that keeps it from contradicting itself, whatever the core asks."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from consensus.address import key_address
from consensus.signing import public_key, sign
from consensus.vote import Proposal, Vote, VoteKind, proposal_sign_bytes, vote_sign_bytes
from node.disk import DISK, Disk, File
from node.signer_state import (
    NOTHING,
    LastSigned,
    SignerStateDamaged,
    SignerStateMissing,
    file_of,
    missing,
    read_state,
    slot_at,
    slot_of,
)

__all__ = ["DoubleSignRefused", "LastSigned", "Signer", "SignerStateDamaged", "SignerStateMissing"]

_PROPOSE = 1
_STEPS = {VoteKind.PREVOTE: 2, VoteKind.PRECOMMIT: 3}

Place = tuple[int, int, int]
"""Height, round and step."""


class DoubleSignRefused(Exception):
    """The request contradicts what was signed, or goes back behind it: nothing was signed. The text names both."""


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
            file.write(file_of(NOTHING, public_key(key_seed), chain_id), 0)
            file.sync()
            disk.link(fresh, state_path)  # never over an existing file, and never half a file
            disk.unlink(fresh)
            disk.sync_folder(state_path.parent)
            file.close()
            return cls(key_seed, chain_id, disk.open(state_path), NOTHING)
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
            raise missing(state_path) from None
        try:
            last = read_state(file, public_key(key_seed), chain_id)
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
        """*message*, which the log or a peer knows as ours, counts as signed after the next `sync`."""
        place, signed = self._content(message)
        if place > self._last.place:
            self._remember(place, signed, message.signature)

    def explains(self, message: Vote | Proposal) -> bool:
        """Whether this signer may have signed *message*, as far as it remembers. Nothing beyond the last place."""
        place, signed = self._content(message)
        if message.height <= self._last.adopts_height:
            return True
        return place < self._last.place or (place == self._last.place and signed == self._last.message)

    @property
    def is_silent(self) -> bool:
        """Whether it is locked or waiting, and signs nothing."""
        return self._last.is_silent

    @property
    def state(self) -> str:
        """``yes`` if it signs, else ``locked`` or ``waiting``."""
        if self._last.locked:
            return "locked"
        return "waiting" if self.is_silent else "yes"

    def lock(self, why: str) -> None:
        """Nothing is signed any more, also after a restart, until the operator unlocks the key. Raises DiskFailed."""
        self._change(dataclasses.replace(self._last, locked=why, waiting_since_ms=None))

    def resume(self, height: int) -> None:
        """The waiting is over: it signs from *height* on. Raises DiskFailed."""
        assert self._last.waiting_since_ms is not None, "only who waits resumes"
        last = self._last
        if (height, 0, 0) > last.place:
            last = LastSigned(last.sequence, height, 0, 0, b"", b"", adopts_height=last.adopts_height)
        self._change(dataclasses.replace(last, waiting_since_ms=None))

    def sync(self) -> None:
        """Everything signed is remembered on the disk. Raises DiskFailed, and from then on nothing is signed."""
        if self._is_synced:
            return
        if self._broken:
            raise OSError("the last-sign state could not be written; restart the node once the disk is well")
        last = dataclasses.replace(self._last, sequence=self._last.sequence + 1)
        try:
            self._file.write(slot_of(last, self.public_key, self._chain_id), slot_at(last))
            self._file.sync()
        except OSError:
            self._broken = True
            raise
        self._last = last
        self._is_synced = True

    def close(self) -> None:
        """The file is closed; this signer signs nothing more."""
        self._file.close()

    def _sign(self, place: Place, message: bytes) -> bytes:
        last = self._last
        assert not self.is_silent, "who is locked or waits is not asked"
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

    def _remember(self, place: Place, message: bytes, signature: bytes) -> None:
        height, round_, step = place
        self._last = dataclasses.replace(
            self._last, height=height, round=round_, step=step, message=message, signature=signature
        )
        self._is_synced = False

    def _change(self, last: LastSigned) -> None:
        self._last, self._is_synced = last, False
        self.sync()

    def _content(self, message: Vote | Proposal) -> tuple[Place, bytes]:
        """The place of *message*, and its sign-bytes."""
        height, round_, block_id = message.height, message.round, message.block_id
        if isinstance(message, Vote):
            signed = vote_sign_bytes(self._chain_id, message.kind, height, round_, block_id)
            return (height, round_, _STEPS[message.kind]), signed
        signed = proposal_sign_bytes(self._chain_id, height, round_, message.pol_round, message.block_id)
        return (height, round_, _PROPOSE), signed


def _place_text(place: Place) -> str:
    height, round_, step = place
    return f"{('nothing', 'proposal', 'prevote', 'precommit')[step]} of height {height}, round {round_}"
