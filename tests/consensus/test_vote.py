"""Votes and proposals: what is signed, and that nothing else is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from consensus.codec import BadMessage, encode
from consensus.params import ROUNDS_MAX
from consensus.shape import from_bytes, shape_of, to_bytes
from consensus.signing import public_key, sha256, sign
from consensus.vote import Proposal, Vote, VoteKind, proposal_sign_bytes, vote_sign_bytes
from tests.consensus.chain_builder import CHAIN_ID, seed, signed_vote

ID = sha256(b"block")
KEY = public_key(seed(0))
VOTE = signed_vote(seed(0), ID, height=5, round_=2)
NIL = signed_vote(seed(0), None, height=5, round_=2)
PROPOSAL = Proposal(
    height=5,
    round=2,
    pol_round=1,
    block_id=ID,
    signature=sign(seed(0), proposal_sign_bytes(CHAIN_ID, 5, 2, 1, ID)),
)


def test_sign_bytes_are_domain_chain_and_body() -> None:
    """No time and no validator."""
    assert vote_sign_bytes("c", VoteKind.PREVOTE, 5, 2, None) == encode(("allting/vote/1", "c", (1, 5, 2, None)))
    assert vote_sign_bytes("c", VoteKind.PRECOMMIT, 5, 2, ID) == encode(("allting/vote/1", "c", (2, 5, 2, ID)))
    assert proposal_sign_bytes("c", 5, 2, -1, ID) == encode(("allting/proposal/1", "c", (5, 2, -1, ID)))


@pytest.mark.parametrize("vote", [VOTE, NIL])
def test_a_vote_holds_for_its_signer_and_chain(vote: Vote) -> None:
    """Nil like any other value."""
    assert vote.verify(CHAIN_ID, KEY)
    assert not vote.verify("other", KEY)
    assert not vote.verify(CHAIN_ID, public_key(seed(1)))


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": VoteKind.PREVOTE},
        {"height": 6},
        {"round": 3},
        {"block_id": None},
        {"block_id": sha256(ID)},
        {"signature": bytes(64)},
    ],
)
def test_a_changed_vote_does_not_hold(fields: dict[str, Any]) -> None:
    """In any signed field."""
    assert not replace(VOTE, **fields).verify(CHAIN_ID, KEY)


def test_the_validator_only_says_whose_key_to_check_with() -> None:
    """It is not signed."""
    assert replace(VOTE, validator=bytes(20)).verify(CHAIN_ID, KEY)


def test_a_proposal_holds_for_its_signer_and_chain() -> None:
    """And not after a change."""
    assert PROPOSAL.verify(CHAIN_ID, KEY)
    assert not PROPOSAL.verify("other", KEY)
    assert not PROPOSAL.verify(CHAIN_ID, public_key(seed(1)))
    for fields in ({"height": 6}, {"round": 3}, {"pol_round": -1}, {"block_id": sha256(ID)}):
        assert not replace(PROPOSAL, **fields).verify(CHAIN_ID, KEY)


@pytest.mark.parametrize("value", [VOTE, NIL, PROPOSAL], ids=["vote", "nil", "proposal"])
def test_they_survive_the_wire(value: Vote | Proposal) -> None:
    """With the enum's member."""
    again = from_bytes(type(value), to_bytes(value))
    assert again == value
    if isinstance(again, Vote):
        assert again.kind is VoteKind.PRECOMMIT


@pytest.mark.parametrize(
    ("place", "value"),
    [(0, 0), (0, 3), (0, True), (1, -1), (2, -1), (2, ROUNDS_MAX + 1), (3, bytes(31)), (4, bytes(32)), (5, bytes(63))],
)
def test_a_malformed_vote_is_refused(place: int, value: Any) -> None:
    """Before its signature is looked at."""
    fields = list(shape_of(Vote).to_wire(VOTE))  # type: ignore[arg-type]  # an array
    fields[place] = value
    with pytest.raises(BadMessage):
        from_bytes(Vote, encode(fields))


@pytest.mark.parametrize(("place", "value"), [(1, -1), (2, -2), (2, ROUNDS_MAX + 1), (3, None)])
def test_a_malformed_proposal_is_refused(place: int, value: Any) -> None:
    """Likewise; the POL round alone may be -1."""
    fields = list(shape_of(Proposal).to_wire(PROPOSAL))  # type: ignore[arg-type]  # an array
    fields[place] = value
    with pytest.raises(BadMessage):
        from_bytes(Proposal, encode(fields))
