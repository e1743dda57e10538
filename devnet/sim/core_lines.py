"""Which line of Algorithm 1 a machine carried out: an observer around its rules, of which it knows nothing."""

from __future__ import annotations

from collections import Counter

from consensus.effects import BuildValue, Decide, Effect, FetchBlock, KeepBlock, SignProposal
from consensus.inputs import Input, ProposalReceived, Step
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
"""What must occur. Absent: ``L32 prevotes nil: invalid``, since below 1/3 of liars no invalid block has a polka."""


class WatchedMachine(Machine):
    """A machine whose `lines` are counted as they are carried out. Says and does what any machine does.

    What a rule does tells which rule it was: rules that don't fire cost nothing.
    """

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
        self._timed_out = False
        """Whether a timer is what fires."""

    def handle(self, event: Input) -> list[Effect]:
        """As `Machine.handle`."""
        effects = super().handle(event)
        for effect in effects:
            if isinstance(effect, KeepBlock) and not effect.locked:
                self.lines["L42 polka after its precommit: valid only"] += 1
            elif isinstance(effect, FetchBlock):
                self.lines["README fetches a block with a quorum"] += 1
            elif isinstance(effect, Decide):
                late = effect.round < self.round
                self.lines[f"L51 decides {'an earlier round' if late else 'in its round'}"] += 1
        return effects

    def _start_round(self, round_: int) -> None:
        waits = self.step is Step.WAIT
        if self.tally.round_to_skip_to() is not None:
            self.lines["L56 skips from WAIT" if waits else "L56 skips to a later round"] += 1
        elif waits:
            why = "a proposal" if 0 in self._proposals else "something to decide, or a header"
            self.lines[f"L13 leaves WAIT: {why}"] += 1
        before = len(self._effects)
        super()._start_round(round_)
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

    def _prevote(self, block_id: bytes | None) -> None:
        if not self._timed_out:
            events = self._proposals[self.round]
            fresh = next((event for event in events if event.proposal.pol_round == -1), None)
            self.lines[self._how_prevoted_fresh(fresh) if fresh is not None else self._how_prevoted_again()] += 1
        super()._prevote(block_id)

    def _how_prevoted_fresh(self, event: ProposalReceived) -> str:
        locked = self.locked_round != -1
        if locked and event.proposal.block_id != self.locked_block_id:
            return "L26 prevotes nil: locked"
        if not event.valid:
            return "L26 prevotes nil: invalid"
        if not event.timely:
            return "L26 prevotes nil: untimely"
        return "L24 prevotes the block of its lock, proposed afresh" if locked else "L24 prevotes a fresh block"

    def _how_prevoted_again(self) -> str:
        event = next(
            event
            for event in self._proposals[self.round]
            if self.tally.has_quorum(event.proposal.pol_round, VoteKind.PREVOTE, event.proposal.block_id)
        )
        if not event.valid:
            return "L32 prevotes nil: invalid"
        if self.locked_round == -1:
            return "L30 prevotes a block with a polka, unlocked"
        if self.locked_round <= event.proposal.pol_round:
            return "L30 prevotes a block with a polka as late as its lock"
        if self.locked_block_id == event.proposal.block_id:
            return "L30 prevotes the block of its lock, older polka"
        return "L32 prevotes nil: locked later than the polka"

    def _precommit(self, block_id: bytes | None) -> None:
        if block_id is not None:
            self.lines["L38 locks and precommits"] += 1
        elif not self._timed_out:
            self.lines["L45 precommits nil: polka for nil"] += 1
        super()._precommit(block_id)

    def _start_timer(self, step: Step, duration_ms: int) -> None:
        self.lines[_TIMERS[step]] += 1
        super()._start_timer(step, duration_ms)

    def _time_out(self, step: Step) -> None:
        self.lines[_TIMEOUTS[step, self.step is step or step is Step.PRECOMMIT]] += 1
        self._timed_out = True
        super()._time_out(step)
        self._timed_out = False


_TIMERS = {
    Step.PROPOSE: "L21 starts the propose timer",
    Step.PREVOTE: "L35 starts the prevote timer",
    Step.PRECOMMIT: "L48 starts the precommit timer",
}
_TIMEOUTS = {
    (Step.PROPOSE, True): "L59 prevotes nil: propose timeout",
    (Step.PROPOSE, False): "L58 propose timeout after its prevote",
    (Step.PREVOTE, True): "L63 precommits nil: prevote timeout",
    (Step.PREVOTE, False): "L62 prevote timeout after its precommit",
    (Step.PRECOMMIT, True): "L67 next round: precommit timeout",
}
"""By the timer's step, and whether it means anything any more."""
