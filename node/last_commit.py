"""The stored height after its decision: its commit as this node has it, and who voted otherwise than it says."""

from __future__ import annotations

from collections.abc import Iterator

from consensus.block import Commit, Signed
from consensus.evidence import DuplicateVote
from consensus.tally import Tally
from consensus.validators import ValidatorSet
from consensus.vote import Vote, VoteKind


class LastCommit:
    """What our next proposal carries, with every precommit that came since; the fuller, the fewer count as absent."""

    def __init__(self, validators: ValidatorSet, commit: Commit | None, tally: Tally | None = None) -> None:
        """*validators*: those of the stored height. *commit*: None before block 1.

        *tally*: the votes of that height that came before its decision; None after a restart, which forgets them.
        """
        self._validators = validators
        self._tally = tally or Tally(validators)
        self.commit = commit

    def lacks(self, vote: Vote) -> bool:
        """Whether *vote*, if its signature holds, fills a gap."""
        commit = self.commit
        if commit is None or vote.kind is not VoteKind.PRECOMMIT:
            return False
        if (vote.height, vote.round) != (commit.height, commit.round):
            return False
        index = self._validators.index_of(vote.validator)
        return index is not None and commit.entries[index] is None and vote.block_id in (None, commit.block_id)

    def doubts(self, vote: Vote) -> bool:
        """Whether *vote* of the stored height, if its signature holds, contradicts another one that is known here."""
        known = self._tally.vote(vote.round, vote.kind, vote.validator)
        return known is not None and self._tally.wants(vote)

    def take(self, vote: Vote) -> DuplicateVote | None:
        """*vote* of the stored height, verified, fills its gap. Returns what it proves of its validator, once."""
        if self.lacks(vote):
            commit = self.commit
            index = self._validators.index_of(vote.validator)
            assert commit is not None
            assert index is not None
            entries = list(commit.entries)
            entries[index] = Signed(vote.block_id is not None, vote.signature)
            self.commit = Commit(commit.height, commit.round, commit.block_id, tuple(entries))
        contradicted = self._tally.add(vote)
        return None if contradicted is None else DuplicateVote.of(contradicted, vote)

    def compared(self, commit: Commit | None) -> Iterator[DuplicateVote]:
        """What the precommits of a verified *commit* of the stored height, ours or another, prove of their makers."""
        if commit is None:
            return
        for address, entry in zip(self._validators.addresses, commit.entries, strict=True):
            if entry is not None:
                vote = Vote(
                    kind=VoteKind.PRECOMMIT,
                    height=commit.height,
                    round=commit.round,
                    block_id=commit.block_id if entry.for_block else None,
                    validator=address,
                    signature=entry.signature,
                )
                proof = self.take(vote)
                if proof is not None:
                    yield proof
