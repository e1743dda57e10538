"""Proof that a validator lied, and which of it counts in the next block.

A charge is *false* where nobody's lie could have made it: whoever passes it on lies (BadMessage). It may also be true
and not count (`Uncounted`): of a height that we have not reached, too old, or punished already. That is no fault of
whoever tells it, since peers may be at other heights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from consensus.application import Misbehaviour, State
from consensus.codec import BadMessage, Wire, decode, encode
from consensus.leaf import LEAF, BlockMark, leaf_key
from consensus.params import HOUR_MS, Params
from consensus.shape import from_bytes
from consensus.signing import sha256
from consensus.tags import TagTable
from consensus.validators import Validator, ValidatorSet
from consensus.vote import Vote

EVIDENCE_BYTES_MAX = 1_024
"""Of one piece, tagged: two votes take under 300. Room in a block for one is kept by `Params.check`."""


TOO_NEW, TOO_OLD, PUNISHED = "evidence.too_new", "evidence.too_old", "evidence.punished"


@dataclass(frozen=True, slots=True)
class DuplicateVote:
    """Two votes of one validator that no correct one signs. In one order only: nil first, then the lower block id."""

    first: Vote
    second: Vote

    @classmethod
    def of(cls, one: Vote, other: Vote) -> DuplicateVote:
        """The evidence that *one* and *other* make, whichever came first."""
        first, second = sorted((one, other), key=_order)
        return cls(first, second)

    @property
    def id(self) -> bytes:
        """32 bytes, SHA-256 of the canonical bytes."""
        return sha256(encode(to_wire(self)))

    @property
    def height(self) -> int:
        """The height at which the lie was told."""
        return self.first.height

    @property
    def accused(self) -> bytes:
        """20 bytes: the address of whoever told it."""
        return self.first.validator

    def verify(self, chain_id: str, validators: ValidatorSet) -> None:
        """It convicts a member of *validators*, the set of its height. Raises BadMessage: a false charge."""
        self.require_contradiction()
        self.require_signed_by(self.member_of(validators), chain_id)

    def member_of(self, validators: ValidatorSet) -> Validator:
        """The accused in *validators*, the set of its height. Raises BadMessage: a false charge."""
        member = validators.by_address(self.accused)
        if member is None:
            raise _false(f"{self.accused.hex()} was no validator at height {self.height}")
        return member

    def require_contradiction(self) -> None:
        """The votes contradict each other, whoever signed them. Raises BadMessage: a false charge."""
        if _slot(self.first) != _slot(self.second):
            raise _false("the votes are not of one validator, kind, height and round")
        if _order(self.first) >= _order(self.second):
            raise _false("the votes are not different, in order of their block ids")

    def require_signed_by(self, member: Validator, chain_id: str) -> None:
        """*member* signed both on this chain. Raises BadMessage: a false charge."""
        if not all(vote.verify(chain_id, member.public_key) for vote in (self.first, self.second)):
            raise _false("a signature does not hold")


Evidence: TypeAlias = DuplicateVote
"""Every kind that blocks and gossip carry.

Another one, such as a light client's divergence, joins this union and the table below. `Past` asks of a kind what
`DuplicateVote` has: id, height, accused, its member, and the two requirements.
"""

_KINDS = TagTable(DuplicateVote)


def to_wire(evidence: Evidence) -> Wire:
    """``[kind, fields]``: as it stands in a block."""
    return _KINDS.to_wire(evidence)


def from_wire(value: Wire) -> Evidence:
    """The evidence that *value* stands for. Raises BadMessage."""
    evidence: Evidence = _KINDS.from_wire(value)
    return evidence


class Uncounted(Exception):
    """No lie, but the evidence does not count in the next block. ``code`` is `TOO_NEW`, `TOO_OLD` or `PUNISHED`."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class Past:
    """What the state after a block says of the heights that evidence in the next one can speak of.

    All of it is in leaf ``chain``, which a snapshot proves: a node that joined yesterday judges as the others do.
    """

    def __init__(self, state: State, *, chain_id: str, height: int, time_ms: int, params: Params) -> None:
        """*height*, *time_ms*: of the block whose *state* this is; *params*: those of the next one."""
        self._state = state
        self._chain_id = chain_id
        self._height = height
        self._time_ms = time_ms
        self._params = params

    @cached_property
    def oldest_height(self) -> int:
        """Lies before it are too old to count: too old in blocks, and in time.

        A block is as old as the first one in its hour, which all nodes know.
        """
        young_in_blocks = self._height - self._params.evidence_age_blocks
        since_ms = max(0, self._time_ms - self._params.evidence_age_ms)
        marks = self._state.scan(
            LEAF, leaf_key("hour", since_ms // HOUR_MS), leaf_key("hour", self._time_ms // HOUR_MS + 1)
        )
        for _, row in marks:  # two at most: the hour of *since_ms* may have begun before it
            mark = from_bytes(BlockMark, row)
            if mark.time_ms >= since_ms:
                return min(young_in_blocks, mark.height)
        return young_in_blocks

    def validators_at(self, height: int) -> ValidatorSet | None:
        """The set of a *height* up to this one, priorities 0; None if it is not known any more."""
        rows = self._state.scan(LEAF, leaf_key("members", 0), leaf_key("members", height + 1), reverse=True)
        latest = next(rows, None)
        return None if latest is None else from_bytes(ValidatorSet, latest[1])

    def convicted_at(self, validator: bytes) -> int:
        """The height of the block that last convicted the *validator* with this address; -1: none did."""
        row = self._state.get(LEAF, leaf_key("convicted", validator))
        if row is None:
            return -1
        height = decode(row, bytes_max=16)
        assert isinstance(height, int)
        return height

    def require_counts(self, evidence: Evidence) -> Validator:
        """Whom *evidence* would convict, if the signatures hold. Raises BadMessage (a false charge), Uncounted.

        A conviction covers all that the validator did up to the block that bore it: else whoever holds a stolen key
        could fill blocks for weeks with lies about the past.
        """
        evidence.require_contradiction()
        height = evidence.height
        if height > self._height:
            raise Uncounted(TOO_NEW, f"height {height} is not decided here; the latest is {self._height}")
        validators = self.validators_at(height) if height >= self.oldest_height else None
        if validators is None:
            raise Uncounted(TOO_OLD, f"height {height} is too far back in time and in blocks")
        member = evidence.member_of(validators)
        convicted_at = self.convicted_at(evidence.accused)
        if height <= convicted_at:
            text = f"the block at height {convicted_at} convicted {evidence.accused.hex()} of what it did until then"
            raise Uncounted(PUNISHED, text)
        return member

    def judge(self, evidence: Evidence) -> Misbehaviour:
        """What *evidence* proves, in the next block. Raises BadMessage (a false charge), Uncounted."""
        member = self.require_counts(evidence)
        evidence.require_signed_by(member, self._chain_id)
        return Misbehaviour(public_key=member.public_key, power=member.power, height=evidence.height)

    def judge_all(self, items: Sequence[Wire]) -> tuple[Misbehaviour, ...]:
        """What a block's evidence convicts of. Raises BadMessage or Uncounted unless each piece counts.

        They stand in order of the accused, each once: one block convicts nobody twice, and has one form.
        """
        pieces = [from_wire(item) for item in items]
        accused = [piece.accused for piece in pieces]
        if accused != sorted(set(accused)):
            raise _false("the accused are not in order, each once")
        return tuple([self.judge(piece) for piece in pieces])


def is_expired(params: Params, *, found_height: int, found_time_ms: int, height: int, time_ms: int) -> bool:
    """Whether a lie at *found_height* is too old to count at *height*: too old in time and in blocks, not in one.

    For whoever knows the times of all blocks. `Past` takes for a block's time that of the first one in its hour, so a
    lie may count a little shorter, and never longer.
    """
    return found_time_ms + params.evidence_age_ms < time_ms and found_height + params.evidence_age_blocks < height


def _slot(vote: Vote) -> tuple[object, ...]:
    return vote.validator, vote.kind, vote.height, vote.round


def _order(vote: Vote) -> bytes:
    return vote.block_id or b""


def _false(text: str) -> BadMessage:
    return BadMessage(text, "bad_message.evidence")
