"""Our voice: what the machine wants said is signed, logged, durable, and only then spoken."""

from __future__ import annotations

import structlog

from consensus.effects import SignProposal, SignVote
from consensus.vote import Proposal, Vote
from node.consensus_log import OwnProposal, OwnVote, to_record
from node.height import HeightInProgress
from node.signer import DoubleSignRefused, Signer
from node.wal import Wal

log = structlog.get_logger("consensus")


class Voice:
    """Signs for one validator, or stays silent. What was said at this height is in the height's ``own_*``."""

    def __init__(self, signer: Signer | None, wal: Wal) -> None:
        self._signer = signer
        self._wal = wal
        self._unspoken: list[Proposal | Vote] = []
        self.muted = False
        """While we are known to be behind, we don't sign."""
        self.failed = False
        """Whether what was signed last may not be durable: it must not leave, whatever else goes on till the end."""

    @property
    def address(self) -> bytes | None:
        """The validator's address; None on a full node."""
        return self._signer.address if self._signer is not None else None

    def proposal(self, height: HeightInProgress, effect: SignProposal) -> Proposal | None:
        """What we say, or have said, in this round; None if we may not."""
        said = height.own_proposals.get(effect.round)
        if said is not None or self._signer is None or self.muted:
            return said
        try:
            proposal = self._signer.sign_proposal(effect.height, effect.round, effect.pol_round, effect.block_id)
        except DoubleSignRefused as refused:
            _stay_silent(effect, refused)
            return None
        height.own_proposals[effect.round] = proposal
        self._wal.append(to_record(height.number, OwnProposal(proposal)))
        self._unspoken.append(proposal)
        return proposal

    def vote(self, height: HeightInProgress, effect: SignVote) -> Vote | None:
        """What we vote, or have voted, in this round; None if we may not."""
        said = height.own_votes.get((effect.kind, effect.round))
        if said is not None or self._signer is None or self.muted:
            return said
        try:
            vote = self._signer.sign_vote(effect.kind, effect.height, effect.round, effect.block_id)
        except DoubleSignRefused as refused:
            _stay_silent(effect, refused)
            return None
        height.own_votes[effect.kind, effect.round] = vote
        self._wal.append(to_record(height.number, OwnVote(vote)))
        self._unspoken.append(vote)
        return vote

    def recall(self, height: HeightInProgress) -> None:
        """What the log says that we said at *height* is remembered as signed, on the disk. Raises DiskFailed."""
        if self._signer is None:
            return
        for vote in height.own_votes.values():
            if vote.validator == self._signer.address:  # the log may be of a former key
                self._signer.recall(vote)
        for round_, proposal in height.own_proposals.items():
            if height.parent.validators.proposer(round_).address == self._signer.address:
                self._signer.recall(proposal)
        self._signer.sync()

    def take_unspoken(self) -> list[Proposal | Vote]:
        """What may leave now: it and all that led to it is durable, the log first (see `Signer`)."""
        if self._unspoken:
            try:
                self._wal.sync()
                if self._signer is not None:
                    self._signer.sync()
            except BaseException:
                self.failed = True
                raise
        unspoken, self._unspoken = self._unspoken, []
        return unspoken


def _stay_silent(effect: SignProposal | SignVote, refused: DoubleSignRefused) -> None:
    log.warning("signature_refused", height=effect.height, round=effect.round, why=str(refused))
