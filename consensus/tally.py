"""Counting: who voted what in each round of one height, in integers only."""

from __future__ import annotations

from bisect import insort
from collections.abc import Mapping

from consensus.validators import ValidatorSet
from consensus.vote import Vote, VoteKind

FUTURE_ROUNDS_MAX = 2
"""Rounds above the current one in which one validator's messages are kept: its two highest."""
CONFLICTING_FREE = 2
"""Different votes of one validator in one ballot that are kept whatever they are for: an equivocation and its proof."""


class Ballot:
    """The votes of one kind in one round.

    A validator counts once towards "any" and once towards each value that it voted for, as in the paper, where a quorum
    is a set of equal messages by different senders. If only its first vote counted, one liar of four could deadlock a
    height: it completes a polka at one correct validator, which locks, and shows the others another vote first, so that
    they never see the polka with which the locked value is proposed again (L28). Two polkas in one round still take
    more than 1/3 of liars.
    """

    def __init__(self, total_power: int) -> None:
        self._total_power = total_power
        self._kept: dict[bytes, list[Vote]] = {}
        self._power: dict[bytes | None, int] = {}
        self._power_any = 0
        self._value: bytes | None = None

    def add(self, vote: Vote, power: int) -> Vote | None:
        """*vote* is counted, if it is wanted. Returns the vote that it contradicts, once for its validator."""
        if not self.wants(vote):
            return None
        kept = self._kept.get(vote.validator, [])
        self._kept[vote.validator] = [*kept, vote]
        self._power[vote.block_id] = self._power.get(vote.block_id, 0) + power
        if self._value is None and self.has_quorum(vote.block_id):
            self._value = vote.block_id
        if not kept:
            self._power_any += power
        return kept[0] if len(kept) == 1 else None

    def wants(self, vote: Vote) -> bool:
        """Whether *vote* is new and counts.

        A third different vote and further ones count only for a value that more than 1/3 back: any quorum has that much
        of correct first votes, and at most five values can have it, so that a liar's votes stay few.
        """
        kept = self._kept.get(vote.validator, ())
        if any(known.block_id == vote.block_id for known in kept):
            return False
        return len(kept) < CONFLICTING_FREE or 3 * self._power.get(vote.block_id, 0) > self._total_power

    def remove(self, validator: bytes, power: int) -> None:
        """Nothing of *validator* is counted any more."""
        kept = self._kept.pop(validator, [])
        for vote in kept:
            self._power[vote.block_id] -= power
            if not self._power[vote.block_id]:
                del self._power[vote.block_id]
        if kept:
            self._power_any -= power
        self._value = next((block for block in self._power if block is not None and self.has_quorum(block)), None)

    @property
    def empty(self) -> bool:
        """Whether nothing is counted."""
        return not self._kept

    def has_quorum(self, block_id: bytes | None) -> bool:
        """Whether more than 2/3 of the power voted for *block_id* (None: nil)."""
        return 3 * self._power.get(block_id, 0) > 2 * self._total_power

    def has_quorum_of_any(self) -> bool:
        """Whether more than 2/3 of the power voted, whatever for."""
        return 3 * self._power_any > 2 * self._total_power

    def value(self) -> bytes | None:
        """The block that more than 2/3 of the power voted for, or None; of two (by liars), the first to have it."""
        return self._value

    def votes(self) -> dict[bytes, Vote]:
        """One vote of each validator that voted: that for `value()` if it cast one, else its first."""
        value = self.value()
        return {validator: _preferred(kept, value) for validator, kept in self._kept.items()}

    def vote(self, validator: bytes) -> Vote | None:
        """The entry of *validator* in `votes()`."""
        kept = self._kept.get(validator)
        return None if kept is None else _preferred(kept, self.value())

    def all_votes(self) -> list[Vote]:
        """Every kept vote, conflicting ones included, by order of the validators' arrival."""
        return [vote for kept in self._kept.values() for vote in kept]


def _preferred(kept: list[Vote], value: bytes | None) -> Vote:
    return next((vote for vote in kept if value is not None and vote.block_id == value), kept[0])


class Tally:
    """The ballots of a height, and who has been heard in rounds above the current one (L55).

    Everything of the current round and the past ones is kept. Of the rounds above, each validator occupies at most
    `FUTURE_ROUNDS_MAX`, its highest: the lower ones are forgotten, to be sent again by whoever sees that we lack them.
    So a liar fills only its own places, and validators that are ahead meet in a round that we can skip to.
    """

    def __init__(self, validators: ValidatorSet) -> None:
        self.round = -1
        """The machine's; set by `enter`."""
        self.commit: tuple[int, bytes] | None = None
        """The first round and block with precommits of more than 2/3 (L49)."""
        self._total_power = validators.total_power
        powers = [validator.power for validator in validators.validators]
        self._power = dict(zip(validators.addresses, powers, strict=True))
        self._ballots: dict[tuple[int, VoteKind], Ballot] = {}
        self._nothing = Ballot(self._total_power)
        self._ahead: dict[bytes, list[int]] = {}
        self._heard: dict[int, set[bytes]] = {}

    def enter(self, round_: int) -> None:
        """*round_* is the current round; what was heard of it and of lower ones is bounded no longer."""
        assert round_ > self.round, (round_, self.round)
        self.round = round_
        self._heard = {ahead: senders for ahead, senders in self._heard.items() if ahead > round_}
        kept = {sender: [ahead for ahead in rounds if ahead > round_] for sender, rounds in self._ahead.items()}
        self._ahead = {sender: rounds for sender, rounds in kept.items() if rounds}

    def add(self, vote: Vote) -> Vote | None:
        """*vote* (of this height, its signature verified) is counted. Returns the vote that it contradicts, once."""
        assert vote.validator in self._power, "votes of strangers are refused by the driver"
        if not self.hear(vote.validator, vote.round):
            return None
        ballot = self._ballots.get((vote.round, vote.kind))
        if ballot is None:
            ballot = self._ballots[vote.round, vote.kind] = Ballot(self._total_power)
        contradicted = ballot.add(vote, self._power[vote.validator])
        if self.commit is None and vote.kind is VoteKind.PRECOMMIT and vote.block_id is not None:
            self.commit = (vote.round, vote.block_id) if ballot.has_quorum(vote.block_id) else None
        return contradicted

    def wants(self, vote: Vote) -> bool:
        """Whether `add` would count *vote* (of this height). Costs less than its signature and its record in a log."""
        return not self._too_low(vote.validator, vote.round) and self._ballot(vote.round, vote.kind).wants(vote)

    def hear(self, validator: bytes, round_: int) -> bool:
        """*validator* has spoken in *round_* (a vote or, as its proposer, a proposal). False: too low to be kept."""
        if round_ <= self.round:
            return True
        if self._too_low(validator, round_):
            return False
        rounds = self._ahead.setdefault(validator, [])
        if round_ not in rounds:
            if len(rounds) == FUTURE_ROUNDS_MAX:
                self._forget(validator, rounds.pop(0))
            insort(rounds, round_)
        self._heard.setdefault(round_, set()).add(validator)
        return True

    def keeps(self, validator: bytes, round_: int) -> bool:
        """Whether what *validator* said in *round_* is among what is kept."""
        return round_ <= self.round or validator in self._heard.get(round_, ())

    def round_to_skip_to(self) -> int | None:
        """The highest round above the current one in which more than 1/3 of the power was heard (L55), or None."""
        if not self._heard:
            return None
        total = self._total_power
        enough = [r for r, senders in self._heard.items() if 3 * sum(self._power[s] for s in senders) > total]
        return max(enough, default=None)

    def has_quorum(self, round_: int, kind: VoteKind, block_id: bytes | None) -> bool:
        """Whether more than 2/3 of the power voted for *block_id* (None: nil)."""
        return self._ballot(round_, kind).has_quorum(block_id)

    def has_quorum_of_any(self, round_: int, kind: VoteKind) -> bool:
        """Whether more than 2/3 of the power voted, whatever for."""
        return self._ballot(round_, kind).has_quorum_of_any()

    def value(self, round_: int, kind: VoteKind) -> bytes | None:
        """The block that more than 2/3 of the power voted for, or None."""
        return self._ballot(round_, kind).value()

    def votes(self, round_: int, kind: VoteKind) -> Mapping[bytes, Vote]:
        """One vote of each validator, by address: that for the block with more than 2/3 if it cast one, else its first.

        So the precommits of the round of `commit` are always enough for a commit, whatever its liars said first.
        """
        return self._ballot(round_, kind).votes()

    def vote(self, round_: int, kind: VoteKind, validator: bytes) -> Vote | None:
        """The entry of *validator* (address) in `votes`."""
        return self._ballot(round_, kind).vote(validator)

    def all_votes(self, round_: int, kind: VoteKind) -> list[Vote]:
        """Every kept vote, conflicting ones included: what a peer that lacks a quorum must be sent."""
        return self._ballot(round_, kind).all_votes()

    def rounds(self) -> list[int]:
        """Rounds with a vote, ascending."""
        return sorted({round_ for round_, _ in self._ballots})

    def _ballot(self, round_: int, kind: VoteKind) -> Ballot:
        return self._ballots.get((round_, kind), self._nothing)

    def _too_low(self, validator: bytes, round_: int) -> bool:
        """Whether *round_* is above the current one, but below all those that *validator* occupies."""
        rounds = self._ahead.get(validator, [])
        return self.round < round_ and len(rounds) == FUTURE_ROUNDS_MAX and round_ < rounds[0]

    def _forget(self, validator: bytes, round_: int) -> None:
        """Nothing of *validator* in the future round *round_* is kept."""
        for kind in VoteKind:
            ballot = self._ballots.get((round_, kind))
            if ballot is not None:
                ballot.remove(validator, self._power[validator])
                if ballot.empty:
                    del self._ballots[round_, kind]
        senders = self._heard[round_]
        senders.remove(validator)
        if not senders:
            del self._heard[round_]
