"""Proposals and votes: what validators sign."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Annotated

from consensus.params import ROUNDS_MAX
from consensus.shape import U63, Address, Hash, Range, Signature
from consensus.signing import sign_bytes, verify

Height = U63
Round = Annotated[int, Range(0, ROUNDS_MAX)]
PolRound = Annotated[int, Range(-1, ROUNDS_MAX)]


class VoteKind(enum.IntEnum):
    """The two kinds of votes of a round."""

    PREVOTE = 1
    PRECOMMIT = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """One validator's signed vote. Well formed by existing; `verify` says whether the signature holds."""

    kind: VoteKind
    height: Height
    round: Round
    block_id: Hash | None
    """None votes nil."""
    validator: Address
    """Not signed: it only says whose key to check with."""
    signature: Signature

    def verify(self, chain_id: str, public_key: bytes) -> bool:
        """Whether the signature is *public_key*'s over this vote on *chain_id*."""
        message = vote_sign_bytes(chain_id, self.kind, self.height, self.round, self.block_id)
        return verify(public_key, message, self.signature)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """The proposer's signed word that *block_id* is the value of this round."""

    height: Height
    round: Round
    pol_round: PolRound
    """The round whose polka lets this value be proposed again; -1 for a fresh one."""
    block_id: Hash
    signature: Signature

    def verify(self, chain_id: str, public_key: bytes) -> bool:
        """Whether the signature is *public_key*'s over this proposal on *chain_id*."""
        message = proposal_sign_bytes(chain_id, self.height, self.round, self.pol_round, self.block_id)
        return verify(public_key, message, self.signature)


def vote_sign_bytes(chain_id: str, kind: VoteKind, height: int, round_: int, block_id: bytes | None) -> bytes:
    """What a validator signs for a vote. Carries no time and no validator: the key is the validator."""
    return sign_bytes("vote", chain_id, (int(kind), height, round_, block_id))


def proposal_sign_bytes(chain_id: str, height: int, round_: int, pol_round: int, block_id: bytes) -> bytes:
    """What a proposer signs."""
    return sign_bytes("proposal", chain_id, (height, round_, pol_round, block_id))
