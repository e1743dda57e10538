"""Proof that a validator lied: two different votes of one kind in one round, both signed.

Found evidence is kept and told; blocks of this version carry none (`consensus.chain.check_block`).
"""

from __future__ import annotations

from dataclasses import dataclass

from consensus.codec import BadMessage
from consensus.params import Params
from consensus.shape import to_bytes
from consensus.signing import sha256
from consensus.validators import ValidatorSet
from consensus.vote import Vote


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
        return sha256(to_bytes(self))

    def verify(self, chain_id: str, validators: ValidatorSet) -> None:
        """The votes convict a member of *validators*, the set of their height. Raises BadMessage: a false charge."""
        first, second = self.first, self.second
        if _slot(first) != _slot(second):
            raise _false("the votes are not of one validator, kind, height and round")
        if _order(first) >= _order(second):
            raise _false("the votes are not different, in order of their block ids")
        member = validators.by_address(first.validator)
        if member is None:
            raise _false(f"{first.validator.hex()} was no validator at height {first.height}")
        if not (first.verify(chain_id, member.public_key) and second.verify(chain_id, member.public_key)):
            raise _false("a signature does not hold")


def is_expired(params: Params, *, found_height: int, found_time_ms: int, height: int, time_ms: int) -> bool:
    """Whether a lie at *found_height* is too old to count at *height*: too old in time and in blocks, not in one."""
    return found_time_ms + params.evidence_age_ms < time_ms and found_height + params.evidence_age_blocks < height


def _slot(vote: Vote) -> tuple[object, ...]:
    return vote.validator, vote.kind, vote.height, vote.round


def _order(vote: Vote) -> bytes:
    return vote.block_id or b""


def _false(text: str) -> BadMessage:
    return BadMessage(text, "bad_message.evidence")
