"""Proof that a light client was, or could have been, deceived: a block with a quorum that the chain did not decide.

The proof names nobody. Whoever receives it holds it against a chain of its own, and works out who can be convicted and
of what: a list of culprits in the proof would be one more thing that a stranger can lie about (cometbft#5638).
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from consensus.block import Commit, Header, LightBlock
from consensus.chain import without_priorities
from consensus.codec import BadMessage
from consensus.evidence import DuplicateVote
from consensus.light import BadLightBlock, Trusted, check_signed
from consensus.shape import to_bytes
from consensus.signing import sha256
from consensus.tags import TagTable
from consensus.validators import ValidatorSet
from consensus.vote import Height, Vote, VoteKind


class AttackKind(enum.StrEnum):
    """How the conflicting block relates to the one that was decided at its height."""

    EQUIVOCATION = "equivocation"
    """Both were decided in the same round: more than a third of the power signed twice, and each of them is named."""
    LUNATIC = "lunatic"
    """It contradicts what follows from the block before: whoever signed it signed what no correct validator can."""
    AMNESIA = "amnesia"
    """Decided in different rounds, or on another parent: somebody forgot a lock, and two commits don't show who."""


@dataclass(frozen=True, slots=True)
class LightClientAttack:
    """A block that whoever trusts the block of `common_height` must believe, though the chain decided otherwise."""

    common_height: Height
    """The last height at which the deceived client and the chain agree; 0 for the genesis."""
    header: Header
    """Of the conflicting block."""
    commit: Commit
    validators: ValidatorSet
    """Of the conflicting block's height, by its own header; all priorities 0."""

    @classmethod
    def of(cls, common_height: int, light_block: LightBlock, validators: ValidatorSet) -> LightClientAttack:
        """The proof that *light_block* deceives whoever trusts the block of *common_height*."""
        return cls(common_height, light_block.header, light_block.commit, without_priorities(validators))

    @property
    def id(self) -> bytes:
        """32 bytes, SHA-256 of the canonical bytes."""
        return sha256(to_bytes(self))

    @property
    def encoded(self) -> bytes:
        """How it is told: its canonical bytes with the tag of its kind."""
        return _PROOFS.to_bytes(self)

    @property
    def height(self) -> int:
        """The height of the conflicting block."""
        return self.header.height

    def verify(self, common: Trusted, own: Header) -> None:
        """The conflicting block has a quorum, and is none of our chain. Raises BadMessage: a false charge.

        *common* is our block of `common_height`. *own* is our block of the conflicting height, or our latest one if
        that height is not decided here yet: then the block conflicts if its time lies in our past, since time only goes
        forward.
        """
        assert common.height == self.common_height, (common.height, self.common_height)
        if self.header.id == own.id:
            raise _false("the block is the one that was decided")
        if self.header.height != own.height and not contradicts_time(self.header, own):
            raise _false(f"nothing is decided at height {self.height} that the block could contradict")
        self.verify_signed(common)

    def verify_signed(self, common: Trusted) -> None:
        """Whoever trusts *common* had to believe the block, be it one of our chain or not. Raises BadMessage."""
        if any(member.priority for member in self.validators.validators):
            raise _false("the validators bear priorities, which no header vouches for")
        try:
            check_signed(common, LightBlock(self.header, self.commit, canonical=False), self.validators)
        except BadLightBlock as error:
            raise _false(f"nobody had to believe the block: {error}") from error

    def judge(self, common: Trusted, own: LightBlock, members: ValidatorSet) -> Finding:
        """What a verified attack proves against whom; *members* is our set of *own*'s height."""
        duplicates = tuple(self._duplicates(own, members))
        signers = tuple(self._signers())
        culprits = {each.first.validator for each in duplicates}
        if self.height == own.header.height and self.commit.round == own.commit.round:
            kind = AttackKind.EQUIVOCATION
        else:
            kind = AttackKind.AMNESIA
        if contradicts_time(self.header, own.header) or _contradicts_parent(self.header, common, own.header):
            kind = AttackKind.LUNATIC
            culprits.update(address for address in signers if common.next_validators.by_address(address) is not None)
        return Finding(kind, duplicates, tuple(sorted(culprits)), signers)

    def _signers(self) -> Iterator[bytes]:
        for address, entry in zip(self.validators.addresses, self.commit.entries, strict=True):
            if entry is not None and entry.for_block:
                yield address

    def _duplicates(self, own: LightBlock, members: ValidatorSet) -> Iterator[DuplicateVote]:
        """Whoever precommitted two values in the one round of both commits."""
        if (self.height, self.commit.round) != (own.header.height, own.commit.round):
            return
        for vote in _votes(own.commit, members):
            for other in _votes(self.commit, self.validators):
                if vote.validator == other.validator and vote.block_id != other.block_id:
                    yield DuplicateVote.of(vote, other)


Proof: TypeAlias = DuplicateVote | LightClientAttack
"""What can be told of lies. Blocks carry the first kind only: it convicts by itself."""

PROOF_BYTES_MAX = 64 * 2**10
"""Header, commit and set of the largest validator set take half of it."""

_PROOFS = TagTable(DuplicateVote, LightClientAttack)


def proof_from_bytes(data: bytes) -> Proof:
    """The proof in *data*, not verified. Raises BadMessage."""
    proof: Proof = _PROOFS.from_bytes(data, bytes_max=PROOF_BYTES_MAX)
    return proof


@dataclass(frozen=True, slots=True)
class Finding:
    """What an attack proves."""

    kind: AttackKind
    duplicates: tuple[DuplicateVote, ...]
    """Each convicts its signer by itself."""
    culprits: tuple[bytes, ...]
    """Addresses of those who are proved to have lied, ascending: by duplicates, or by a block that can't follow."""
    signers: tuple[bytes, ...]
    """Addresses of all who signed the conflicting block. Signing it may be no lie of theirs but the effect of one."""


def contradicts_time(header: Header, own: Header) -> bool:
    """Whether *header* has a later height than *own* and no later time, which one chain can't have."""
    return header.height > own.height and header.time_ms <= own.time_ms


def _contradicts_parent(header: Header, common: Trusted, own: Header) -> bool:
    """Whether *header*, on the same parent as *own*, differs in what the parent alone decides.

    On another parent it may follow: the lie was told further down.
    """
    if not header.height == own.height == common.height + 1:
        return False
    return (header.version, header.params_hash) != (own.version, own.params_hash)


def _votes(commit: Commit, members: ValidatorSet) -> Iterator[Vote]:
    for address, entry in zip(members.addresses, commit.entries, strict=True):
        if entry is not None:
            yield Vote(
                kind=VoteKind.PRECOMMIT,
                height=commit.height,
                round=commit.round,
                block_id=commit.block_id if entry.for_block else None,
                validator=address,
                signature=entry.signature,
            )


def _false(text: str) -> BadMessage:
    return BadMessage(text, "bad_message.evidence")
