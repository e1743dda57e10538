"""What validators signed, read from the logs of all nodes: two different things for one place is the worst of all."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from consensus.inputs import ProposalReceived, VoteReceived
from consensus.vote import Proposal, Vote
from node.consensus_log import OwnProposal, OwnVote, all_records
from node.wal import kept_payloads

_BEGINNING = 18
"""Bytes by which two logs at one path are told apart: they hold its salt."""


class SignedTwice(Exception):
    """A validator signed two different things for one place; the text names all of it."""


@dataclass
class Audit:
    """Every signature that a node of the devnet logged: its own, and those it heard."""

    signatures: int = 0
    """Looked at; each validator's is in the log of every node that heard it."""
    by_kind: Counter[str] = field(default_factory=Counter)
    """Different ones."""
    _said: dict[tuple[object, ...], object] = field(default_factory=dict)
    _read: dict[Path, tuple[bytes, int]] = field(default_factory=dict)

    def read(self, log: Path) -> None:
        """What *log* (a ``consensus.wal``) holds beyond the last reading is taken in. Raises SignedTwice."""
        data = log.read_bytes()
        beginning, known = self._read.get(log, (b"", 0))
        payloads, end = kept_payloads(data, known=known if data[:_BEGINNING] == beginning else 0)
        self._read[log] = (data[:_BEGINNING], end)
        for record in all_records(payloads):
            match record:
                case OwnVote(vote) | VoteReceived(vote):
                    self.vote(vote)
                case OwnProposal(proposal) | ProposalReceived(proposal):
                    self.proposal(proposal)
                case _:
                    pass

    def vote(self, vote: Vote) -> None:
        """*vote* was signed. Raises SignedTwice."""
        place = (vote.kind.name.lower(), vote.validator.hex(), vote.height, vote.round)
        self._note(place, vote.block_id.hex() if vote.block_id else None)

    def proposal(self, proposal: Proposal) -> None:
        """*proposal* was signed, by whoever's turn it was. Raises SignedTwice."""
        place = ("proposal", "the proposer", proposal.height, proposal.round)
        self._note(place, (proposal.block_id.hex(), proposal.pol_round))

    def _note(self, place: tuple[object, ...], value: object) -> None:
        self.signatures += 1
        if place not in self._said:
            self._said[place] = value
            self.by_kind[str(place[0])] += 1
        elif self._said[place] != value:
            kind, who, height, round_ = place
            raise SignedTwice(
                f"{who} signed two {kind}s at height {height}, round {round_}: {self._said[place]} and {value}"
            )
