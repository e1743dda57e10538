"""Which line of Algorithm 1 a machine carried out: an observer around its rules, of which it knows nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from consensus.effects import BuildValue, SignProposal
from consensus.inputs import Step
from consensus.machine import Machine
from consensus.params import Params
from consensus.validators import ValidatorSet
from consensus.vote import VoteKind

LINES = frozenset(
    {
        "L13 leaves WAIT: something to decide, or a header",
        "L13 leaves WAIT: a proposal",
        "L16 proposes its valid value again",
        "L18 builds a value",
        "L19 proposes what it built",
        "L21 starts the propose timer",
        "L24 prevotes a fresh block",
        "L24 prevotes the block of its lock, proposed afresh",
        "L26 prevotes nil: invalid",
        "L26 prevotes nil: untimely",
        "L26 prevotes nil: locked",
        "L30 prevotes a block with a polka, unlocked",
        "L30 prevotes a block with a polka as late as its lock",
        "L30 prevotes the block of its lock, older polka",
        "L32 prevotes nil: locked later than the polka",
        "L35 starts the prevote timer",
        "L38 locks and precommits",
        "L42 polka after its precommit: valid only",
        "L45 precommits nil: polka for nil",
        "L48 starts the precommit timer",
        "L51 decides in its round",
        "L51 decides an earlier round",
        "L51 decides a later round or in WAIT",
        "L56 skips to a later round",
        "L56 skips from WAIT",
        "L59 prevotes nil: propose timeout",
        "L58 propose timeout after its prevote",
        "L63 precommits nil: prevote timeout",
        "L62 prevote timeout after its precommit",
        "L67 next round: precommit timeout",
        "README fetches a block with a quorum",
    }
)
"""What must occur. ``L32 prevotes nil: invalid`` is absent: below 1/3 of liars no invalid block has a polka."""


class WatchedMachine(Machine):
    """A machine whose `lines` are counted as they are carried out. Says and does what any machine does."""

    def __init__(
        self,
        *,
        height: int,
        validators: ValidatorSet,
        params: Params,
        own_address: bytes | None,
        lines: Counter[str],
    ) -> None:
        super().__init__(height=height, validators=validators, params=params, own_address=own_address)
        self.lines = lines
        notes: dict[str, Callable[[], str | None]] = {
            "_decides": self._how_decided,
            "_fetches": lambda: "README fetches a block with a quorum",
            "_begins": lambda: "L13 leaves WAIT: a proposal",
            "_prevotes_fresh": self._how_prevoted_fresh,
            "_prevotes_again": self._how_prevoted_again,
            "_sees_polka": self._how_polka,
            "_sees_polka_for_nil": lambda: "L45 precommits nil: polka for nil",
            "_sees_prevotes_of_any": lambda: "L35 starts the prevote timer",
            "_sees_precommits_of_any": lambda: "L48 starts the precommit timer",
        }
        self._rules = tuple(
            self._watched(rule, notes[rule.__name__]) if rule.__name__ in notes else rule for rule in self._rules
        )

    def _watched(self, rule: Callable[[], bool], note: Callable[[], str | None]) -> Callable[[], bool]:
        def watched() -> bool:
            if not rule():
                return False
            name = note()
            if name is not None:
                self.lines[name] += 1
            return True

        return watched

    # What fired, told by the state that it left

    def _how_decided(self) -> str | None:
        if self.decided is None:
            return None
        if self.decided.round == self.round:
            return "L51 decides in its round"
        return f"L51 decides {'an earlier round' if self.decided.round < self.round else 'a later round or in WAIT'}"

    def _how_prevoted_fresh(self) -> str:
        event = next(event for event in self._proposals[self.round] if event.proposal.pol_round == -1)
        locked = self.locked_round != -1
        if event.proposal.block_id != self.locked_block_id and locked:
            return "L26 prevotes nil: locked"
        if not event.valid:
            return "L26 prevotes nil: invalid"
        if not event.timely:
            return "L26 prevotes nil: untimely"
        return "L24 prevotes the block of its lock, proposed afresh" if locked else "L24 prevotes a fresh block"

    def _how_prevoted_again(self) -> str | None:
        for event in self._proposals[self.round]:
            block_id, pol_round = event.proposal.block_id, event.proposal.pol_round
            polka = 0 <= pol_round < self.round and self.tally.has_quorum(pol_round, VoteKind.PREVOTE, block_id)
            if not polka or not event.valid:
                continue
            if self.locked_round == -1:
                return "L30 prevotes a block with a polka, unlocked"
            if self.locked_round <= pol_round:
                return "L30 prevotes a block with a polka as late as its lock"
            own = self.locked_block_id == block_id
            return (
                "L30 prevotes the block of its lock, older polka"
                if own
                else "L32 prevotes nil: locked later than the polka"
            )
        return None

    def _how_polka(self) -> str:
        locks = self.locked_round == self.round
        return "L38 locks and precommits" if locks else "L42 polka after its precommit: valid only"

    # What is no rule, but a line

    def _start_round(self, round_: int) -> None:
        waits = self.step is Step.WAIT
        if self.tally.round_to_skip_to() is not None:
            self.lines["L56 skips from WAIT" if waits else "L56 skips to a later round"] += 1
        elif waits and 0 not in self._proposals:
            self.lines["L13 leaves WAIT: something to decide, or a header"] += 1
        before = len(self._effects)
        super()._start_round(round_)
        self.lines["L21 starts the propose timer"] += 1
        for effect in self._effects[before:]:
            if isinstance(effect, BuildValue):
                self.lines["L18 builds a value"] += 1
            elif isinstance(effect, SignProposal):
                self.lines["L16 proposes its valid value again"] += 1

    def _propose_built(self, block_id: bytes) -> None:
        before = len(self._effects)
        super()._propose_built(block_id)
        if len(self._effects) > before:
            self.lines["L19 proposes what it built"] += 1

    def _time_out(self, step: Step) -> None:
        at = self.step
        super()._time_out(step)
        if step is Step.PROPOSE:
            waited = at is Step.PROPOSE
            self.lines["L59 prevotes nil: propose timeout" if waited else "L58 propose timeout after its prevote"] += 1
        elif step is Step.PREVOTE:
            waited = at is Step.PREVOTE
            name = "L63 precommits nil: prevote timeout" if waited else "L62 prevote timeout after its precommit"
            self.lines[name] += 1
        else:
            self.lines["L67 next round: precommit timeout"] += 1
