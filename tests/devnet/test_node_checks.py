"""The checker of node worlds sees what it looks for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from consensus.evidence import DuplicateVote
from consensus.vote import Proposal, Vote, VoteKind
from devnet.sim.node_checks import Checker
from devnet.sim.node_trace import Trace
from devnet.sim.outcome import Broken

KEY, A, B = bytes(32), b"a" * 32, b"b" * 32


def vote(block_id: bytes | None, *, round_: int = 0) -> Vote:
    return Vote(
        kind=VoteKind.PREVOTE, height=3, round=round_, block_id=block_id, validator=bytes(20), signature=bytes(64)
    )


def proposal(block_id: bytes) -> Proposal:
    return Proposal(height=3, round=0, pol_round=-1, block_id=block_id, signature=bytes(64))


def test_the_same_vote_again_and_another_round_contradict_nothing() -> None:
    checker = Checker(Trace(None))
    for said in (vote(A), vote(A), vote(None, round_=1), vote(B, round_=2)):
        checker.signed_vote(0, KEY, said)


@pytest.mark.parametrize("other", [None, B])
def test_two_votes_of_one_place_are_double_signing_also_after_a_restart(other: bytes | None) -> None:
    checker = Checker(Trace(None))
    checker.signed_vote(0, KEY, vote(A))
    with pytest.raises(Broken, match="double_signing: node 0 signed two prevotes at height 3, round 0"):
        checker.signed_vote(0, KEY, vote(other))


def test_two_proposals_of_one_round_are_double_signing() -> None:
    checker = Checker(Trace(None))
    checker.signed_proposal(0, KEY, proposal(A))
    with pytest.raises(Broken, match="two proposals"):
        checker.signed_proposal(0, KEY, proposal(B))


def lie(height: int) -> DuplicateVote:
    return DuplicateVote.of(*(replace(vote(value), height=height) for value in (A, B)))


def test_an_honest_validator_is_never_convicted() -> None:
    with pytest.raises(Broken, match="framed"):
        Checker(Trace(None)).convicts(5, 5_000, lie(3))


async def test_a_liar_is_convicted_once_of_what_it_did_before_and_again_of_what_it_did_since() -> None:
    checker = Checker(Trace(None), frozenset({bytes(20)}))
    checker.convicts(5, 5_000, lie(3))
    checker.convicts(8, 8_000, lie(6))
    with pytest.raises(Broken, match="punished_twice"):
        checker.convicts(9, 9_000, lie(8))
