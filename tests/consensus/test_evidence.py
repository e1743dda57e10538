"""Two votes convict their signer, and nobody else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from consensus.codec import BadMessage
from consensus.evidence import DuplicateVote, is_expired
from consensus.params import TINY
from consensus.shape import from_bytes, to_bytes
from consensus.signing import sha256
from consensus.validators import ValidatorSet
from consensus.vote import Vote, VoteKind
from tests.consensus.chain_builder import CHAIN_ID, seed, signed_vote, update

MEMBERS = ValidatorSet.of([update(0, 10), update(1, 10)])
A, B = sorted([sha256(b"a"), sha256(b"b")])


@pytest.mark.parametrize("kind", list(VoteKind))
@pytest.mark.parametrize(("one", "other"), [(A, B), (None, A)])
def test_two_different_votes_convict(kind: VoteKind, one: bytes | None, other: bytes | None) -> None:
    """In whichever order they came; nil counts as a value."""
    votes = [signed_vote(seed(0), block_id, kind=kind) for block_id in (one, other)]
    evidence = DuplicateVote.of(*votes)
    evidence.verify(CHAIN_ID, MEMBERS)
    assert evidence == DuplicateVote.of(*reversed(votes))
    assert evidence.id == sha256(to_bytes(evidence))
    assert from_bytes(DuplicateVote, to_bytes(evidence)) == evidence


def refused(first: Vote, second: Vote, chain_id: str = CHAIN_ID) -> bool:
    """Whether the charge is thrown out."""
    with pytest.raises(BadMessage) as error:
        DuplicateVote(first, second).verify(chain_id, MEMBERS)
    return error.value.code == "bad_message.evidence"


def test_votes_of_different_slots_convict_nobody() -> None:
    """Another validator, kind, height or round is no contradiction."""
    vote = signed_vote(seed(0), A)
    assert refused(vote, signed_vote(seed(1), B))
    assert refused(vote, signed_vote(seed(0), B, kind=VoteKind.PREVOTE))
    assert refused(vote, signed_vote(seed(0), B, height=2))
    assert refused(vote, signed_vote(seed(0), B, round_=1))


def test_the_same_vote_twice_convicts_nobody() -> None:
    """Nor do two in the wrong order, of which each lie would have two proofs."""
    assert refused(signed_vote(seed(0), A), signed_vote(seed(0), A))
    assert refused(signed_vote(seed(0), None), signed_vote(seed(0), None))
    assert refused(signed_vote(seed(0), B), signed_vote(seed(0), A))


def test_a_stranger_cannot_be_convicted() -> None:
    """Only members of that height's set."""
    assert refused(signed_vote(seed(9), A), signed_vote(seed(9), B))


def test_both_signatures_must_hold() -> None:
    """On this chain."""
    first, second = signed_vote(seed(0), A), signed_vote(seed(0), B)
    assert refused(replace(first, signature=bytes(64)), second)
    assert refused(first, replace(second, signature=bytes(64)))
    assert refused(first, second, chain_id="other")


def test_evidence_expires_when_too_old_in_time_and_in_blocks() -> None:
    """In one alone it counts: a quiet chain makes few blocks, a busy one many."""

    def expired(*, age_ms: int, age_blocks: int) -> bool:
        return is_expired(TINY, found_height=5, found_time_ms=7, height=5 + age_blocks, time_ms=7 + age_ms)

    old_ms, old_blocks = TINY.evidence_age_ms + 1, TINY.evidence_age_blocks + 1
    assert expired(age_ms=old_ms, age_blocks=old_blocks)
    assert not expired(age_ms=old_ms - 1, age_blocks=old_blocks)
    assert not expired(age_ms=old_ms, age_blocks=old_blocks - 1)
