"""What holds for every machine, whatever it is fed: it keeps its word and its lock, and replays are equal."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.effects import Decide, Effect, EnteredRound, RefusedDecision, SignVote
from consensus.inputs import BlockArrived, HeaderSeen, Input, Step, ValueBuilt
from tests.consensus.play import (
    BEGIN,
    HEIGHT,
    PRECOMMIT,
    PREVOTE,
    A,
    B,
    C,
    D,
    Script,
    V,
    W,
    X,
    precommit,
    prevote,
    proposal,
    timeout,
)

VERDICTS = {V: True, W: True, X: False}
ROUNDS = st.integers(0, 4)
BLOCKS = st.sampled_from((V, W, X))
VALUES = st.sampled_from((V, V, W, X, None))
OTHERS = st.sampled_from((A, B, C))
STEPS = st.sampled_from((Step.PROPOSE, Step.PREVOTE, Step.PRECOMMIT))

INPUTS: st.SearchStrategy[Input] = st.one_of(
    st.builds(prevote, OTHERS, ROUNDS, VALUES),
    st.builds(precommit, OTHERS, ROUNDS, VALUES),
    st.builds(
        lambda round_, block_id, pol_round, timely: proposal(
            round_, block_id, pol_round, valid=VERDICTS[block_id], timely=timely
        ),
        ROUNDS,
        BLOCKS,
        st.integers(-1, 3),
        st.booleans(),
    ),
    st.builds(lambda block_id: BlockArrived(HEIGHT, block_id, VERDICTS[block_id]), BLOCKS),
    st.builds(timeout, ROUNDS, STEPS),
    st.builds(ValueBuilt, st.just(HEIGHT), ROUNDS, st.sampled_from((V, W))),
    st.sampled_from((BEGIN, HeaderSeen(HEIGHT))),
)


class Watched(Script):
    """D's machine, whose own votes come back at once, as a driver would feed them; checks each step."""

    def __init__(self) -> None:
        super().__init__()
        self.signed: dict[tuple[int, int], bytes | None] = {}
        self.inputs: list[Input] = []
        self.effects: list[Effect] = []

    def feed(self, event: Input) -> None:
        machine = self.machine
        round_, locked_round, locked_block_id = machine.round, machine.locked_round, machine.locked_block_id
        over = machine.decided is not None or machine.refused is not None
        effects = machine.handle(event)
        self.inputs.append(event)
        self.effects += effects
        assert not (over and any(_is_rule(effect) for effect in effects))
        assert machine.round >= round_
        assert machine.valid_round >= machine.locked_round >= locked_round
        for effect in effects:
            if isinstance(effect, SignVote):
                self._check_vote(effect, locked_round, locked_block_id)
        for effect in effects:
            if isinstance(effect, SignVote):
                own = prevote if effect.kind is PREVOTE else precommit
                self.feed(own(D, effect.round, effect.block_id))

    def _check_vote(self, said: SignVote, locked_round: int, locked_block_id: bytes | None) -> None:
        tally = self.machine.tally
        assert (said.kind, said.round) not in self.signed
        self.signed[said.kind, said.round] = said.block_id
        if said.block_id is None:
            return
        assert VERDICTS[said.block_id]
        if said.kind is PRECOMMIT:
            assert tally.has_quorum(said.round, PREVOTE, said.block_id)
        elif locked_block_id not in (None, said.block_id):
            later = range(locked_round, said.round)
            assert any(tally.has_quorum(round_, PREVOTE, said.block_id) for round_ in later)


def _is_rule(effect: Effect) -> bool:
    return isinstance(effect, SignVote | EnteredRound | Decide | RefusedDecision)


@settings(max_examples=400, deadline=None)
@given(st.lists(INPUTS, max_size=60))
def test_machine_keeps_its_word_and_its_lock_whatever_it_is_fed(events: list[Input]) -> None:
    watched = Watched()
    for event in events:
        watched.feed(event)
    decisions = [effect for effect in watched.effects if isinstance(effect, Decide | RefusedDecision)]
    assert len(decisions) <= 1
    for decision in decisions:
        assert watched.machine.tally.has_quorum(decision.round, PRECOMMIT, decision.block_id)
        assert isinstance(decision, Decide) == VERDICTS[decision.block_id]
    assert Script().play_all(*watched.inputs) == watched.effects
