"""What the log holds comes back as it was written, by height; what it can't explain is refused."""

from __future__ import annotations

import pytest

from consensus.codec import encode
from consensus.inputs import (
    BeginRound,
    BlockArrived,
    HeaderSeen,
    ProposalReceived,
    Step,
    TimerFired,
    ValueBuilt,
    VoteReceived,
)
from consensus.vote import Proposal, VoteKind
from node.consensus_log import OwnProposal, OwnVote, Record, UnreadableRecord, block_here, records_of, to_record
from tests.node.bench import vote

ID = b"\x05" * 32
VOTE = vote(VoteKind.PRECOMMIT, 4, 1, ID, 2)
PROPOSAL = Proposal(height=4, round=1, pol_round=-1, block_id=ID, signature=bytes(64))
RECORDS: list[Record] = [
    BeginRound(4),
    HeaderSeen(4),
    ProposalReceived(PROPOSAL, valid=True, timely=False),
    VoteReceived(VOTE),
    ValueBuilt(4, 1, ID),
    TimerFired(4, 1, Step.PREVOTE),
    BlockArrived(4, ID, valid=False),
    OwnVote(VOTE),
    OwnProposal(PROPOSAL),
]


def test_records_come_back_in_order() -> None:
    assert list(records_of(4, [to_record(4, record) for record in RECORDS])) == RECORDS


def test_records_of_other_heights_are_skipped() -> None:
    payloads = [to_record(3, BeginRound(3)), to_record(4, BeginRound(4)), to_record(5, BeginRound(5))]
    assert list(records_of(4, payloads)) == [BeginRound(4)]


@pytest.mark.parametrize(
    "payload", [b"", b"\xc1", encode(4), encode((4,)), encode((4, (99, ()))), encode((4, (0, ())))]
)
def test_a_foreign_record_is_refused_with_what_to_do(payload: bytes) -> None:
    with pytest.raises(UnreadableRecord, match="start with the version that wrote it"):
        list(records_of(4, [payload]))


def test_only_inputs_that_speak_of_a_valid_block_say_that_it_is_here() -> None:
    here = [block_here(record) for record in RECORDS[:7]]  # type: ignore[arg-type]
    assert here == [None, None, ID, None, ID, None, None]
    assert block_here(ProposalReceived(PROPOSAL, valid=False, timely=True)) is None
    assert block_here(BlockArrived(4, ID, valid=True)) == ID
