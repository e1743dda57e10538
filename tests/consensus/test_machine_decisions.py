# ruff: noqa: N802 (names end in the lines of Algorithm 1 that they pin)
"""How a height ends, L49–L54, and what the machine does with what it should not get."""

from __future__ import annotations

import pytest

from consensus.effects import Decide, EnteredRound, FetchBlock, FoundEquivocation, KeepBlock, RefusedDecision
from consensus.inputs import BlockArrived, Input, Step, VoteReceived
from consensus.machine import PROPOSALS_PER_ROUND_MAX
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
    begun,
    locked_on_v,
    my_precommit,
    my_prevote,
    precommit,
    prevote,
    proposal,
    timeout,
    timer,
    vote,
)


def test_precommits_for_a_valid_block_decide_it_once_L49_L51() -> None:
    script = begun()
    assert script.play(proposal(0, V), precommit(A, 0, V), precommit(B, 0, V)) == [my_prevote(0, V)]
    assert script.play(precommit(C, 0, V)) == [Decide(HEIGHT, 0, V)]
    assert script.machine.decided == Decide(HEIGHT, 0, V)
    assert script.machine.step is Step.DECIDED
    assert script.play(precommit(D, 0, V)) == []


def test_precommits_for_nil_decide_nothing_L49() -> None:
    script = begun()
    script.play(proposal(0, V), precommit(A, 0, None), precommit(B, 0, None), precommit(C, 0, None))
    assert script.machine.decided is None


def test_precommits_of_different_rounds_do_not_add_up_L49() -> None:
    script = begun()
    script.play(proposal(0, V), precommit(A, 0, V), precommit(B, 0, V), timeout(0, Step.PRECOMMIT))
    assert script.play(precommit(C, 1, V)) == []


def test_untimely_block_that_others_decided_is_decided_L50() -> None:
    script = begun()
    assert script.play(proposal(0, V, timely=False)) == [my_prevote(0, None)]
    assert script.play(precommit(A, 0, V), precommit(B, 0, V), precommit(C, 0, V)) == [Decide(HEIGHT, 0, V)]


def test_block_locked_elsewhere_is_decided_in_spite_of_our_lock_L49() -> None:
    script = locked_on_v()
    script.play(proposal(1, W), precommit(A, 1, W), precommit(B, 1, W))
    assert script.play(precommit(C, 1, W)) == [Decide(HEIGHT, 1, W)]


def test_past_round_decides_when_its_last_precommit_arrives_L49() -> None:
    script = begun()
    script.play(proposal(0, V), precommit(A, 0, V), precommit(B, 0, V), timeout(0, Step.PRECOMMIT))
    assert script.play(precommit(C, 0, V)) == [Decide(HEIGHT, 0, V)]


def test_waiting_validator_decides_on_precommits_and_the_fetched_block_L49() -> None:
    script = Script()
    effects = script.play_all(precommit(A, 2, V), precommit(B, 2, V))
    assert effects == [EnteredRound(HEIGHT, 2, C), timer(2, Step.PROPOSE)]
    assert script.play(precommit(C, 2, V)) == [FetchBlock(HEIGHT, 2, V), timer(2, Step.PRECOMMIT)]
    assert script.play(BlockArrived(HEIGHT, V, True)) == [Decide(HEIGHT, 2, V)]


def test_block_that_came_while_waiting_is_decided_without_its_proposal_L49() -> None:
    script = Script()
    assert script.play(BlockArrived(HEIGHT, V, True)) == []
    assert script.machine.step is Step.WAIT
    assert script.play(precommit(A, 0, V), precommit(B, 0, V), precommit(C, 0, V))[-1] == Decide(HEIGHT, 0, V)


def test_block_is_asked_for_once_L49() -> None:
    script = begun()
    assert script.play(prevote(A, 0, V), prevote(B, 0, V), prevote(C, 0, V)) == [FetchBlock(HEIGHT, 0, V)]
    assert script.play(precommit(A, 0, V), precommit(B, 0, V), precommit(C, 0, V)) == [timer(0, Step.PRECOMMIT)]


def test_decision_that_we_refuse_is_said_and_ends_the_machine_L50() -> None:
    script = begun()
    script.play(proposal(0, V, valid=False), precommit(A, 0, V), precommit(B, 0, V))
    assert script.play(precommit(C, 0, V)) == [RefusedDecision(HEIGHT, 0, V)]
    assert script.machine.decided is None
    assert script.play_all(timeout(0, Step.PREVOTE), proposal(0, W), precommit(D, 0, V)) == []


def test_decided_height_still_gathers_precommits_and_evidence_and_nothing_else() -> None:
    script = begun()
    script.play(proposal(0, V), precommit(A, 0, V), precommit(B, 0, V), precommit(C, 0, V))
    script.play(precommit(D, 0, V))
    assert set(script.machine.tally.votes(0, PRECOMMIT)) == {A, B, C, D}
    found = FoundEquivocation(vote(PRECOMMIT, A, 0, V), vote(PRECOMMIT, A, 0, None))
    assert script.play_all(precommit(A, 0, None)) == [found]
    later = (timeout(0, Step.PRECOMMIT), prevote(A, 1, W), prevote(B, 1, W), proposal(1, W), BEGIN)
    assert script.play_all(*later) == []
    assert script.machine.round == 0


@pytest.mark.parametrize(
    "event",
    [
        VoteReceived(vote(PREVOTE, A, 0, V, height=HEIGHT + 1)),
        proposal(0, V, height=HEIGHT + 1),
        BlockArrived(HEIGHT + 1, V, True),
    ],
)
def test_other_heights_change_nothing(event: Input) -> None:
    script = Script()
    assert script.play_all(event) == []
    assert script.machine.tally.rounds() == []
    assert script.play_all(BlockArrived(HEIGHT, V, False)) == []  # nothing was noted about V


def test_two_verdicts_on_one_block_are_a_defect_of_ours() -> None:
    script = begun()
    script.play(proposal(0, V))
    with pytest.raises(AssertionError, match="function of the block"):
        script.play(BlockArrived(HEIGHT, V, False))


def test_lying_proposer_fills_no_memory_but_whichever_of_its_blocks_wins_a_quorum_is_here() -> None:
    script = begun()
    script.play(prevote(A, 0, W), prevote(B, 0, W), prevote(C, 0, W), timeout(0, Step.PRECOMMIT))
    blocks = [bytes([number]) * 32 for number in range(PROPOSALS_PER_ROUND_MAX)]
    script.play(*(proposal(1, block_id, 0) for block_id in blocks))
    assert script.play(proposal(1, W, 0)) == []  # one too many: no prevote on it
    script.play(timeout(1, Step.PROPOSE), prevote(A, 1, W), prevote(C, 1, W))
    assert script.play(prevote(D, 1, W)) == [KeepBlock(HEIGHT, 1, W, True), my_precommit(1, W)]


def test_block_of_a_proposal_that_came_too_early_to_keep_is_not_fetched() -> None:
    script = begun()
    script.play(prevote(B, 5, None), prevote(B, 9, None), proposal(1, V))
    assert script.play(timeout(0, Step.PRECOMMIT)) == [timer(1, Step.PROPOSE)]
    script.play(precommit(A, 1, V), precommit(B, 1, V))
    assert script.play(precommit(C, 1, V)) == [Decide(HEIGHT, 1, V)]


def test_proposals_far_ahead_give_way_to_later_ones_of_their_proposer() -> None:
    script = begun()
    script.play(*(proposal(round_, V) for round_ in (1, 5, 9, 13)))  # all of them B's rounds
    script.play(proposal(5, W))  # too low by now
    assert script.play(timeout(0, Step.PRECOMMIT)) == [timer(1, Step.PROPOSE)]  # that of round 1 is gone
    assert script.play(prevote(C, 9, None)) == [timer(9, Step.PROPOSE), my_prevote(9, V)]


def test_replayed_inputs_give_equal_effects() -> None:
    inputs: list[Input] = [
        BEGIN,
        prevote(A, 0, V),
        prevote(A, 0, W),
        proposal(0, V),
        prevote(D, 0, V),
        prevote(B, 0, V),
        precommit(D, 0, V),
        timeout(0, Step.PRECOMMIT),
        proposal(1, W),
        prevote(D, 1, None),
        timeout(1, Step.PREVOTE),
        precommit(D, 1, None),
        proposal(2, V, 0),
        prevote(C, 2, V),
        precommit(A, 2, V),
        precommit(B, 2, V),
        precommit(C, 2, V),
    ]
    once, again = Script(), Script()
    effects = once.play_all(*inputs)
    assert again.play_all(*inputs) == effects
    assert effects[-1] == Decide(HEIGHT, 2, V)
