"""The commit of the stored height as this node has it: with every precommit that came since."""

from __future__ import annotations

from consensus.block import Commit, Signed
from consensus.validators import ValidatorSet
from consensus.vote import Vote, VoteKind


class LastCommit:
    """What our next proposal carries; the fuller it is, the fewer count as absent."""

    def __init__(self, validators: ValidatorSet, commit: Commit | None) -> None:
        """*validators*: those of the stored height. *commit*: None before block 1."""
        self._validators = validators
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

    def add(self, vote: Vote) -> None:
        """*vote*, verified, fills the gap that `lacks` found."""
        commit = self.commit
        index = self._validators.index_of(vote.validator)
        assert commit is not None
        assert index is not None
        entries = list(commit.entries)
        entries[index] = Signed(vote.block_id is not None, vote.signature)
        self.commit = Commit(commit.height, commit.round, commit.block_id, tuple(entries))
