"""The audit reads each log once, also when it was begun anew, and finds what was signed twice in whoever's log."""

from __future__ import annotations

from pathlib import Path

import pytest

from consensus.inputs import ProposalReceived, VoteReceived
from consensus.signing import sign
from consensus.vote import Proposal, Vote, VoteKind, vote_sign_bytes
from devnet.audit import Audit, SignedTwice
from devnet.kills import histogram
from node import wal as wal_module
from node.consensus_log import OwnProposal, OwnVote, to_record
from node.wal import Wal

ONE, TWO = b"\x01" * 32, b"\x02" * 32


def vote(height: int, block_id: bytes | None, round_: int = 0) -> Vote:
    signature = sign(b"k" * 32, vote_sign_bytes("audit-1", VoteKind.PREVOTE, height, round_, block_id))
    return Vote(
        kind=VoteKind.PREVOTE, height=height, round=round_, block_id=block_id, validator=b"v" * 20, signature=signature
    )


def proposal(block_id: bytes) -> Proposal:
    return Proposal(height=1, round=0, pol_round=-1, block_id=block_id, signature=bytes(64))


def test_every_signature_of_every_height_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    audit, path = Audit(), tmp_path / "consensus.wal"
    wal = Wal.open(path)
    wal.append(to_record(1, OwnVote(vote(1, ONE))))
    wal.append(to_record(1, OwnProposal(proposal(ONE))))
    wal.sync()
    audit.read(path)
    wal.reset(1)
    wal.append(to_record(2, VoteReceived(vote(2, None))))
    wal.append(to_record(2, ProposalReceived(proposal(ONE), valid=True, timely=True)))
    wal.sync()
    audit.read(path)
    audit.read(path)
    assert audit.signatures == 4
    assert audit.by_kind == {"prevote": 2, "proposal": 1}
    monkeypatch.setattr(wal_module, "REWRITE_BYTES", 1)
    wal.reset(2)
    wal.append(to_record(3, OwnVote(vote(3, ONE))))
    wal.close()
    audit.read(path)
    assert audit.signatures == 5


def test_what_was_signed_twice_is_found_across_logs(tmp_path: Path) -> None:
    audit = Audit()
    for name, said in (("a", vote(5, ONE)), ("b", vote(5, ONE)), ("c", vote(5, TWO))):
        wal = Wal.open(tmp_path / name)
        wal.append(to_record(5, VoteReceived(said)))
        wal.close()
    audit.read(tmp_path / "a")
    audit.read(tmp_path / "b")
    with pytest.raises(SignedTwice, match="two prevotes at height 5, round 0"):
        audit.read(tmp_path / "c")
    audit.proposal(proposal(ONE))
    with pytest.raises(SignedTwice, match="two proposals"):
        audit.proposal(proposal(TWO))


def test_a_histogram_shows_the_buckets_that_hold_something() -> None:
    assert histogram([]) == []
    lines = histogram([100, 700, 800, 500_000])
    assert [line.rsplit(" ", 1)[1] for line in lines] == ["1", "2", "1"]
    assert lines[2].strip().startswith("180.0 s or more")
