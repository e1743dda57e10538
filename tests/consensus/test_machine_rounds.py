# ruff: noqa: N802 (names end in the lines of Algorithm 1 that they pin)
"""How rounds begin and end: L1–L21, L47–L48, L55–L67, and WAIT, which stands before round 0."""

from __future__ import annotations

import pytest

from consensus.effects import BuildValue, EnteredRound, EnteredStep, SignProposal
from consensus.inputs import BeginRound, HeaderSeen, Input, Step, ValueBuilt
from consensus.machine import Machine
from consensus.params import TINY
from tests.consensus.play import (
    BEGIN,
    HEIGHT,
    SET,
    A,
    B,
    C,
    D,
    Script,
    V,
    W,
    begun,
    my_precommit,
    my_prevote,
    precommit,
    prevote,
    proposal,
    timeout,
    timer,
)


def test_height_starts_unlocked_in_wait_L1_L10() -> None:
    machine = Machine(height=HEIGHT, validators=SET, params=TINY, own_address=A)
    assert machine.start() == [EnteredStep(HEIGHT, -1, Step.WAIT)]
    assert (machine.locked_round, machine.locked_block_id) == (-1, None)
    assert (machine.valid_round, machine.valid_block_id, machine.decided) == (-1, None, None)


@pytest.mark.parametrize("event", [BEGIN, HeaderSeen(HEIGHT)])
def test_waiting_validator_begins_round_0_with_a_propose_timer_when_there_is_something_to_decide_L11_L21(
    event: Input,
) -> None:
    assert Script().play_all(event) == [EnteredRound(HEIGHT, 0, A), timer(0, Step.PROPOSE)]


def test_waiting_validator_begins_round_0_and_prevotes_on_its_proposal() -> None:
    assert Script().play(proposal(0, V)) == [timer(0, Step.PROPOSE), my_prevote(0, V)]


def test_waiting_validator_begins_round_0_when_more_than_a_third_vote_in_it_L55() -> None:
    script = Script()
    assert script.play(prevote(A, 0, None)) == []
    assert script.play(precommit(B, 0, None)) == [timer(0, Step.PROPOSE)]


def test_waiting_validator_does_not_begin_on_a_proposal_of_a_later_round() -> None:
    script = Script()
    assert script.play_all(proposal(1, V)) == []
    assert script.machine.step is Step.WAIT


@pytest.mark.parametrize("event", [BEGIN, HeaderSeen(HEIGHT), BeginRound(HEIGHT + 1), HeaderSeen(HEIGHT - 1)])
def test_round_begins_once_and_only_at_its_own_height(event: Input) -> None:
    if event in (BEGIN, HeaderSeen(HEIGHT)):
        assert begun().play_all(event) == []
    else:
        assert Script().play_all(event) == []


def test_proposer_without_a_valid_value_builds_one_and_proposes_it_L14_L18_L19() -> None:
    script = Script(A)
    assert script.play(BEGIN) == [timer(0, Step.PROPOSE), BuildValue(HEIGHT, 0)]
    assert script.play(ValueBuilt(HEIGHT, 0, V)) == [SignProposal(HEIGHT, 0, -1, V)]
    assert script.play(ValueBuilt(HEIGHT, 0, W)) == []


def test_proposer_prevotes_its_own_proposal_when_it_comes_back_L22() -> None:
    script = begun(A)
    assert script.play(ValueBuilt(HEIGHT, 0, V), proposal(0, V))[1:] == [my_prevote(0, V)]


def test_proposer_with_a_valid_value_proposes_that_with_its_round_L15_L16_L19() -> None:
    script = begun(B)
    script.play(proposal(0, V), prevote(A, 0, V), prevote(C, 0, V), prevote(B, 0, V))
    effects = script.play(timeout(0, Step.PRECOMMIT))
    assert effects == [timer(1, Step.PROPOSE), SignProposal(HEIGHT, 1, 0, V)]


def test_proposer_prefers_the_latest_valid_value_to_its_lock_L15_L16() -> None:
    script = begun(C)
    script.play(proposal(0, V), prevote(A, 0, V), prevote(B, 0, V), prevote(C, 0, V), timeout(0, Step.PRECOMMIT))
    script.play(timeout(1, Step.PROPOSE), timeout(1, Step.PREVOTE), proposal(1, W))
    script.play(prevote(A, 1, W), prevote(B, 1, W), prevote(D, 1, W))
    assert (script.machine.locked_round, script.machine.valid_round) == (0, 1)
    assert script.play(timeout(1, Step.PRECOMMIT))[1:] == [SignProposal(HEIGHT, 2, 1, W)]


def test_value_asked_for_in_a_former_round_is_not_proposed_in_this_one() -> None:
    script = begun(A)
    script.play(timeout(0, Step.PRECOMMIT))
    assert script.play(ValueBuilt(HEIGHT, 1, V)) == []


@pytest.mark.parametrize("stale", [ValueBuilt(HEIGHT, 1, V), ValueBuilt(HEIGHT + 1, 0, V)])
def test_built_value_of_another_round_or_height_is_dropped(stale: ValueBuilt) -> None:
    assert begun(A).play(stale) == []


def test_built_value_that_comes_after_the_propose_timeout_is_dropped() -> None:
    script = begun(A)
    assert script.play(timeout(0, Step.PROPOSE)) == [my_prevote(0, None)]
    assert script.play(ValueBuilt(HEIGHT, 0, V)) == []


def test_value_that_nobody_asked_for_is_not_proposed() -> None:
    assert begun(D).play(ValueBuilt(HEIGHT, 0, V)) == []


def test_proposer_that_proposed_before_a_restart_does_not_propose_again_L14() -> None:
    assert Script(A).play(proposal(0, V)) == [timer(0, Step.PROPOSE), my_prevote(0, V)]


def test_vote_that_was_cast_before_a_restart_is_not_cast_again() -> None:
    script = begun()
    assert script.play(prevote(D, 0, W), proposal(0, V)) == []
    assert script.machine.step is Step.PREVOTE


def test_precommits_of_any_kind_start_the_timer_once_in_any_step_L47_L48() -> None:
    script = begun()
    assert script.play(precommit(A, 0, V), precommit(B, 0, None)) == []
    assert script.play(precommit(C, 0, W)) == [timer(0, Step.PRECOMMIT)]
    assert script.machine.step is Step.PROPOSE
    assert script.play(precommit(D, 0, None)) == []


def test_exactly_two_thirds_are_no_quorum_L47() -> None:
    three = type(SET)(SET.validators[:3])
    first, second, third = three.addresses
    script = Script(None, three)
    script.play(BEGIN)
    assert script.play(precommit(first, 0, None), precommit(second, 0, None)) == []
    assert script.play(precommit(third, 0, None)) == [timer(0, Step.PRECOMMIT)]


def test_round_is_skipped_to_where_more_than_a_third_are_L55_L56() -> None:
    script = begun()
    assert script.play(prevote(A, 5, V)) == []
    assert script.play_all(prevote(B, 5, None)) == [EnteredRound(HEIGHT, 5, B), timer(5, Step.PROPOSE)]


def test_one_sender_of_many_messages_is_no_third_L55() -> None:
    assert begun().play(prevote(A, 4, V), precommit(A, 4, V), proposal(4, V)) == []


def test_proposal_counts_its_proposer_towards_the_third_L55() -> None:
    script = begun()
    assert script.play(proposal(1, V), prevote(C, 1, V)) == [timer(1, Step.PROPOSE), my_prevote(1, V)]


def test_messages_of_different_rounds_do_not_add_up_L55() -> None:
    assert begun().play(prevote(A, 1, V), prevote(B, 2, V)) == []


def test_messages_of_past_rounds_never_bring_a_round_back_L55() -> None:
    script = begun()
    script.play(prevote(A, 5, None), prevote(B, 5, None))
    script.play(prevote(A, 2, None), prevote(B, 2, None))
    assert script.machine.round == 5


def test_votes_kept_for_a_round_count_when_it_is_reached() -> None:
    script = begun()
    script.play(prevote(A, 1, None), timeout(0, Step.PRECOMMIT))
    assert script.play(prevote(B, 1, None), timeout(1, Step.PROPOSE)) == [my_prevote(1, None)]
    assert script.play(prevote(D, 1, None)) == [my_precommit(1, None)]


def test_waiting_validator_skips_to_any_round_L55() -> None:
    assert Script().play(prevote(A, 3, None), precommit(B, 3, None)) == [timer(3, Step.PROPOSE), BuildValue(HEIGHT, 3)]


def test_waiting_validator_that_must_skip_does_not_begin_round_0_first() -> None:
    script = Script()
    script.play(prevote(B, 5, None))
    effects = script.play_all(proposal(5, V))
    assert effects == []  # round 5 is B's: one sender
    assert script.play_all(prevote(C, 5, None))[0] == EnteredRound(HEIGHT, 5, B)


def test_silent_proposer_gets_a_prevote_for_nil_L57_L60() -> None:
    script = begun()
    assert script.play_all(timeout(0, Step.PROPOSE)) == [my_prevote(0, None), EnteredStep(HEIGHT, 0, Step.PREVOTE)]
    assert script.play(timeout(0, Step.PROPOSE)) == []


def test_prevotes_without_a_quorum_for_one_value_get_a_precommit_for_nil_L61_L64() -> None:
    script = begun()
    script.play(proposal(0, V))
    expected = [my_precommit(0, None), EnteredStep(HEIGHT, 0, Step.PRECOMMIT)]
    assert script.play_all(timeout(0, Step.PREVOTE)) == expected
    assert script.play(timeout(0, Step.PREVOTE)) == []


def test_prevote_timer_means_nothing_before_the_prevote_L62() -> None:
    assert begun().play(timeout(0, Step.PREVOTE)) == []


def test_precommits_without_a_decision_end_the_round_L65_L67() -> None:
    script = begun()
    assert script.play_all(timeout(0, Step.PRECOMMIT)) == [EnteredRound(HEIGHT, 1, B), timer(1, Step.PROPOSE)]


@pytest.mark.parametrize("step", [Step.PROPOSE, Step.PREVOTE, Step.PRECOMMIT])
def test_timers_of_past_rounds_mean_nothing_L58_L62_L66(step: Step) -> None:
    script = begun()
    script.play(timeout(0, Step.PRECOMMIT))
    assert script.play_all(timeout(0, step)) == []


def test_timeouts_grow_with_the_round() -> None:
    script = begun()
    (later,) = script.play(timeout(0, Step.PRECOMMIT))
    assert later == timer(1, Step.PROPOSE)
    assert TINY.propose_ms(1) == TINY.propose_ms(0) + TINY.timeout_step_ms
