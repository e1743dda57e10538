"""Our voice: what the machine wants said is signed, logged, durable, and only then spoken."""

from __future__ import annotations

import structlog

from consensus.block import Commit, Header
from consensus.effects import SignProposal, SignVote
from consensus.validators import ValidatorSet
from consensus.vote import Proposal, Vote, VoteKind
from node.consensus_log import OwnProposal, OwnVote, to_record
from node.height import HeightInProgress
from node.signer import DoubleSignRefused, Signer
from node.signer_state import UNLOCK
from node.wal import Wal

log = structlog.get_logger("consensus")


class Voice:
    """Signs for one validator, or stays silent. What was said at this height is in the height's ``own_*``."""

    def __init__(self, signer: Signer | None, wal: Wal, chain_id: str) -> None:
        self._signer = signer
        self._wal = wal
        self._chain_id = chain_id
        self._unspoken: list[Proposal | Vote] = []
        self.muted = False
        """While we are known to be behind, we don't sign."""
        self.failed = False
        """Whether what was signed last may not be durable: it must not leave, whatever else goes on till the end."""

    @property
    def address(self) -> bytes | None:
        """The validator's address; None on a full node."""
        return self._signer.address if self._signer is not None else None

    @property
    def signing(self) -> str:
        """Whether our key signs: ``yes``, ``waiting``, ``locked``, or ``no key``."""
        return "no key" if self._signer is None else self._signer.state

    def introduce(self) -> None:
        """The log says so if our key is silent."""
        if self.signing == "locked":
            assert self._signer is not None
            log.warning("signing_locked", why=self._signer.last.locked, todo=_TODO)
        elif self.signing == "waiting":
            log.info("signing_waits", until="a block that was proposed after the unlock is decided without this key")

    def proposal(self, height: HeightInProgress, effect: SignProposal) -> Proposal | None:
        """What we say, or have said, in this round; None if we may not."""
        said = height.own_proposals.get(effect.round)
        if said is not None or self._signer is None or self.muted or self._signer.is_silent:
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
        if said is not None or self._signer is None or self.muted or self._signer.is_silent:
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

    def heard(self, height: HeightInProgress, message: Vote | Proposal) -> None:
        """A peer showed us *message*, signed by our key (verified). If it isn't ours, the key is locked."""
        if self._signer is None or self._signer.is_silent:
            return
        said: Vote | Proposal | None
        if isinstance(message, Vote):
            said = height.own_votes.get((message.kind, message.round))
        else:
            said = height.own_proposals.get(message.round)
        if message.height <= self._signer.last.adopts_height:
            self._signer.recall(message)
            self._signer.sync()
            return
        contradicts = said is not None and said.block_id != message.block_id
        if contradicts or not (said == message or self._signer.explains(message)):
            self._lock(message)

    def decided(self, validators: ValidatorSet, header: Header, commit: Commit, precision_ms: int) -> None:
        """The block of *header* is decided by *commit*, of *validators*. What that says of our key is acted upon.

        A signature of ours that we don't remember: another machine signs with this key, or this folder is an old copy.
        None of ours under a block that was proposed after the unlock: whoever waits signs from the next height on.
        """
        if self._signer is None or self._signer.last.locked:
            return
        since_ms = self._signer.last.waiting_since_ms
        is_later = since_ms is not None and header.time_ms > since_ms + precision_ms
        own = self._own_precommit(validators, commit)
        if own is not None:
            if is_later or (since_ms is None and not self._signer.explains(own)):
                self._lock(own)
        elif is_later:
            self._signer.resume(header.height + 1)
            log.info("signing_resumed", height=header.height + 1)

    def _own_precommit(self, validators: ValidatorSet, commit: Commit) -> Vote | None:
        """Our precommit in *commit*, if there is one and its signature holds."""
        assert self._signer is not None
        index = validators.index_of(self._signer.address)
        entry = commit.entries[index] if index is not None else None
        if entry is None:
            return None
        vote = Vote(
            kind=VoteKind.PRECOMMIT,
            height=commit.height,
            round=commit.round,
            block_id=commit.block_id if entry.for_block else None,
            validator=self._signer.address,
            signature=entry.signature,
        )
        return vote if vote.verify(self._chain_id, self._signer.public_key) else None

    def _lock(self, message: Vote | Proposal) -> None:
        assert self._signer is not None
        what = message.kind.name.lower() if isinstance(message, Vote) else "proposal"
        why = (
            f"a {what} of height {message.height}, round {message.round} bears this key's signature, and this node "
            "does not remember making it: another machine signs with the key, or this folder is an old copy"
        )
        self._signer.lock(why)
        log.error("key_used_elsewhere", why=why, todo=_TODO)

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


_TODO = (
    "this node follows the chain and signs nothing more; find the other machine and stop it for good, then stop this "
    f"node, run {UNLOCK}, and start it again"
)


def _stay_silent(effect: SignProposal | SignVote, refused: DoubleSignRefused) -> None:
    log.warning("signature_refused", height=effect.height, round=effect.round, why=str(refused))
