# ruff: noqa: N802 (names end in the lines of Algorithm 1 that they pin)
"""What a validator votes for and when it locks: L22–L46."""

from __future__ import annotations

from consensus.effects import EnteredStep, FetchBlock, FoundEquivocation, KeepBlock
from consensus.inputs import BlockArrived, Step
from tests.consensus.play import (
    BEGIN,
    HEIGHT,
    PREVOTE,
    A,
    B,
    C,
    D,
    Script,
    V,
    W,
    X,
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


def test_validator_prevotes_a_valid_timely_proposal_L22_L24_L27() -> None:
    assert begun().play_all(proposal(0, V)) == [my_prevote(0, V), EnteredStep(HEIGHT, 0, Step.PREVOTE)]


def test_validator_prevotes_nil_for_an_invalid_proposal_L23_L26() -> None:
    assert begun().play(proposal(0, V, valid=False)) == [my_prevote(0, None)]


def test_validator_prevotes_nil_for_an_untimely_fresh_proposal_L26() -> None:
    assert begun().play(proposal(0, V, timely=False)) == [my_prevote(0, None)]


def test_validator_prevotes_once_in_a_round_L22() -> None:
    assert begun().play(proposal(0, V), proposal(0, W), proposal(0, V)) == [my_prevote(0, V)]


def test_proposal_of_another_round_gets_no_prevote_L22() -> None:
    script = begun()
    script.play(timeout(0, Step.PRECOMMIT))
    assert script.play(proposal(0, V), proposal(2, W)) == []


def test_proposal_kept_for_a_later_round_gets_its_prevote_there_L22() -> None:
    script = begun()
    assert script.play(proposal(1, V)) == []
    assert script.play(timeout(0, Step.PRECOMMIT)) == [timer(1, Step.PROPOSE), my_prevote(1, V)]


def test_locked_validator_prevotes_nil_for_a_fresh_block_L26() -> None:
    assert locked_on_v().play(proposal(1, W)) == [my_prevote(1, None)]


def test_locked_validator_prevotes_nil_when_no_proposal_comes_L59() -> None:
    """Not what it has locked: that was another round's proposal."""
    assert locked_on_v().play(timeout(1, Step.PROPOSE)) == [my_prevote(1, None)]


def test_locked_validator_prevotes_its_own_block_proposed_afresh_L23() -> None:
    assert locked_on_v().play(proposal(1, V)) == [my_prevote(1, V)]


def test_locked_validator_prevotes_its_own_block_proposed_again_whatever_the_polka_L29() -> None:
    script = locked_on_v()
    script.play(
        proposal(1, V, 0),
        prevote(A, 1, V),
        prevote(B, 1, V),
        prevote(D, 1, V),  # locks V once more, in round 1
        timeout(1, Step.PRECOMMIT),
    )
    assert script.machine.locked_round == 1
    assert script.play(proposal(2, V, 0)) == [my_prevote(2, V)]


def test_locked_validator_follows_a_later_polka_to_another_block_L28_L30() -> None:
    script = locked_on_v()
    script.play(timeout(1, Step.PROPOSE), prevote(A, 1, W), prevote(B, 1, W), prevote(C, 1, W))
    script.play(timeout(1, Step.PRECOMMIT))
    assert script.play(proposal(2, W, 1, timely=False)) == [my_prevote(2, W)]


def test_locked_validator_refuses_another_block_with_an_older_polka_L29_L32() -> None:
    script = begun()
    script.play(prevote(A, 0, W), prevote(B, 0, W), prevote(C, 0, W), timeout(0, Step.PROPOSE))
    script.play(timeout(0, Step.PRECOMMIT), proposal(1, V), prevote(A, 1, V), prevote(B, 1, V), prevote(D, 1, V))
    assert (script.machine.locked_round, script.machine.locked_block_id) == (1, V)
    script.play(timeout(1, Step.PRECOMMIT))
    assert script.play(proposal(2, W, 0)) == [my_prevote(2, None)]


def test_polka_of_the_locked_round_itself_is_enough_L29() -> None:
    """Only more than 1/3 of liars can give another block a polka in that round; the rule says ≤ all the same."""
    script = locked_on_v()
    script.play(prevote(A, 0, W), prevote(B, 0, W), prevote(C, 0, W))
    assert script.play(proposal(1, W, 0)) == [my_prevote(1, W)]


def test_unlocked_validator_prevotes_an_old_valid_block_with_its_polka_L28_L30() -> None:
    script = begun()
    script.play(timeout(0, Step.PROPOSE), prevote(A, 0, V), prevote(B, 0, V), prevote(C, 0, V))
    script.play(timeout(0, Step.PRECOMMIT))
    assert script.play(proposal(1, V, 0)) == [my_prevote(1, V)]


def test_proposal_with_a_pol_round_waits_for_the_polka_L28() -> None:
    script = begun()
    script.play(timeout(0, Step.PRECOMMIT))
    assert script.play(proposal(1, V, 0), prevote(A, 0, V), prevote(B, 0, V), prevote(C, 0, W)) == []
    assert script.play(prevote(D, 0, V)) == [my_prevote(1, V)]


def test_second_proposal_of_a_liar_counts_where_the_first_waits_for_a_polka_L22() -> None:
    """Others may have seen only that one."""
    script = begun()
    script.play(timeout(0, Step.PROPOSE), timeout(0, Step.PRECOMMIT))
    assert script.machine.round == 1
    assert script.play(proposal(1, V, 0)) == []
    assert script.play(proposal(1, W)) == [my_prevote(1, W)]


def test_invalid_block_with_a_polka_gets_a_prevote_for_nil_L29_L32() -> None:
    script = begun()
    script.play(prevote(A, 0, V), prevote(B, 0, V), prevote(C, 0, V), timeout(0, Step.PRECOMMIT))
    assert script.play(proposal(1, V, 0, valid=False)) == [my_prevote(1, None)]


def test_pol_round_that_is_not_in_the_past_gets_no_prevote_L28() -> None:
    script = begun()
    assert script.play(proposal(0, V, 0), prevote(A, 0, V), prevote(B, 0, V), prevote(C, 0, V)) == []
    script.play(timeout(0, Step.PROPOSE))
    assert script.machine.locked_block_id == V  # the polka holds all the same (L36)


def test_polka_for_a_new_proposal_again_is_ignored_after_the_prevote_L28() -> None:
    script = begun()
    script.play(prevote(A, 0, V), prevote(B, 0, V), prevote(C, 0, V), timeout(0, Step.PRECOMMIT))
    script.play(timeout(1, Step.PROPOSE))
    assert script.play(proposal(1, V, 0)) == []


def test_prevotes_of_any_kind_start_the_timer_once_after_the_prevote_L34_L35() -> None:
    script = begun()
    assert script.play(prevote(A, 0, V), prevote(B, 0, None), prevote(C, 0, W)) == []
    assert script.play(timeout(0, Step.PROPOSE)) == [my_prevote(0, None), timer(0, Step.PREVOTE)]
    assert script.play(prevote(D, 0, None)) == []


def test_prevotes_below_the_quorum_start_no_timer_L34() -> None:
    script = begun()
    assert script.play(proposal(0, V), prevote(D, 0, V), prevote(A, 0, None)) == [my_prevote(0, V)]


def test_polka_locks_the_block_and_gets_a_precommit_L36_L41() -> None:
    script = begun()
    script.play(proposal(0, V), prevote(A, 0, V), prevote(D, 0, V))
    assert script.play_all(prevote(B, 0, V)) == [
        KeepBlock(HEIGHT, 0, V, True),
        my_precommit(0, V),
        EnteredStep(HEIGHT, 0, Step.PRECOMMIT),
    ]
    machine = script.machine
    assert (machine.locked_round, machine.locked_block_id) == (0, V)
    assert (machine.valid_round, machine.valid_block_id) == (0, V)


def test_polka_after_the_precommit_makes_the_block_valid_but_does_not_lock_it_L37_L42_L43() -> None:
    script = begun()
    script.play(proposal(0, V), timeout(0, Step.PREVOTE))
    assert script.play(prevote(A, 0, V), prevote(B, 0, V), prevote(D, 0, V)) == [KeepBlock(HEIGHT, 0, V, False)]
    machine = script.machine
    assert (machine.locked_round, machine.locked_block_id) == (-1, None)
    assert (machine.valid_round, machine.valid_block_id) == (0, V)


def test_polka_counts_for_the_first_time_only_L36() -> None:
    script = begun()
    script.play(proposal(0, V), prevote(A, 0, V), prevote(B, 0, V), prevote(D, 0, V))
    assert script.play(prevote(C, 0, V)) == []


def test_polka_before_the_proposal_waits_for_it_L36() -> None:
    script = begun()
    assert script.play(prevote(A, 0, V), prevote(B, 0, V)) == []
    assert script.play(prevote(C, 0, V)) == [FetchBlock(HEIGHT, 0, V)]
    assert script.play(proposal(0, V)) == [my_prevote(0, V), KeepBlock(HEIGHT, 0, V, True), my_precommit(0, V)]


def test_polka_waits_for_the_prevote_though_the_block_is_here_L36() -> None:
    script = begun()
    script.play(prevote(A, 0, V), prevote(B, 0, V), prevote(C, 0, V))
    assert script.play(BlockArrived(HEIGHT, V, True)) == []
    locked = [my_prevote(0, None), KeepBlock(HEIGHT, 0, V, True), my_precommit(0, V)]
    assert script.play(timeout(0, Step.PROPOSE)) == locked


def test_each_round_has_its_own_polka_and_its_own_timers_L34_L36_L47() -> None:
    script = begun()
    script.play(timeout(0, Step.PROPOSE), prevote(A, 0, V), prevote(B, 0, None), prevote(D, 0, None))
    script.play(precommit(A, 0, V), precommit(B, 0, None), precommit(D, 0, None), timeout(0, Step.PRECOMMIT))
    assert script.play(timeout(1, Step.PROPOSE), prevote(A, 1, V), prevote(B, 1, None)) == [my_prevote(1, None)]
    assert script.play(prevote(D, 1, None)) == [timer(1, Step.PREVOTE)]
    assert script.play(precommit(A, 1, V), precommit(B, 1, None)) == []
    assert script.play(precommit(D, 1, None)) == [timer(1, Step.PRECOMMIT)]


def test_polka_for_an_invalid_block_locks_nothing_L36() -> None:
    script = begun()
    script.play(proposal(0, V, valid=False), prevote(A, 0, V), prevote(B, 0, V))
    assert script.play(prevote(C, 0, V)) == [timer(0, Step.PREVOTE)]
    assert script.machine.valid_block_id is None


def test_polka_for_a_block_never_proposed_to_us_fetches_and_locks_it_L36() -> None:
    script = begun()
    script.play(proposal(0, W), prevote(A, 0, V), prevote(B, 0, V))
    assert script.play(prevote(C, 0, V)) == [FetchBlock(HEIGHT, 0, V), timer(0, Step.PREVOTE)]
    assert script.play(prevote(D, 0, W)) == []
    assert script.play(BlockArrived(HEIGHT, V, True)) == [KeepBlock(HEIGHT, 0, V, True), my_precommit(0, V)]


def test_second_block_of_a_lying_proposer_can_have_the_polka_L36() -> None:
    script = begun()
    script.play(proposal(0, W), proposal(0, V), prevote(A, 0, V), prevote(B, 0, V))
    assert script.play(prevote(C, 0, V)) == [KeepBlock(HEIGHT, 0, V, True), my_precommit(0, V)]


def test_polka_of_a_past_round_locks_nothing_L36() -> None:
    script = begun()
    script.play(proposal(0, V), timeout(0, Step.PRECOMMIT))
    assert script.play(prevote(A, 0, V), prevote(B, 0, V), prevote(C, 0, V)) == []
    assert script.machine.valid_round == -1


def test_polka_for_nil_gets_a_precommit_for_nil_L44_L46() -> None:
    script = begun()
    script.play(proposal(0, V), prevote(A, 0, None), prevote(B, 0, None))
    assert script.play_all(prevote(C, 0, None)) == [my_precommit(0, None), EnteredStep(HEIGHT, 0, Step.PRECOMMIT)]


def test_polka_for_nil_waits_for_the_prevote_and_counts_once_L44() -> None:
    script = begun()
    assert script.play(prevote(A, 0, None), prevote(B, 0, None), prevote(C, 0, None)) == []
    assert script.play(proposal(0, V)) == [my_prevote(0, V), my_precommit(0, None)]
    assert script.play(prevote(D, 0, None)) == []


def test_two_different_votes_are_found_once_L36() -> None:
    first, second = vote(PREVOTE, A, 0, V), vote(PREVOTE, A, 0, W)
    script = begun()
    assert script.play(prevote(A, 0, V), prevote(A, 0, W)) == [FoundEquivocation(first, second)]
    assert script.play(prevote(A, 0, W), prevote(A, 0, None), precommit(A, 0, W)) == []


def test_two_votes_of_one_validator_are_one_voice_L34() -> None:
    script = begun()
    script.play(timeout(0, Step.PROPOSE), prevote(A, 0, V), prevote(A, 0, W), prevote(B, 0, V))
    assert script.play(prevote(D, 0, None)) == [timer(0, Step.PREVOTE)]


def test_liar_that_showed_us_another_vote_cannot_hide_the_polka_it_completed_elsewhere_L28() -> None:
    """Were only first votes counted, nobody could ever follow the validator that this polka locked: a deadlock."""
    script = begun()
    script.play(timeout(0, Step.PROPOSE))  # D saw no proposal; A is the liar, B and C prevoted V, C locked it
    script.play(prevote(A, 0, None), prevote(A, 0, X), prevote(B, 0, V), timeout(0, Step.PRECOMMIT))
    script.play(timeout(1, Step.PRECOMMIT))
    assert script.play(proposal(2, V, 0), prevote(A, 0, V), prevote(C, 0, V)) == []
    assert script.play(prevote(A, 0, V)) == [my_prevote(2, V)]


def test_full_node_follows_in_silence() -> None:
    script = Script(None)
    assert script.play(BEGIN, proposal(0, V), prevote(A, 0, V), prevote(B, 0, V), prevote(C, 0, V)) == [
        timer(0, Step.PROPOSE),
        KeepBlock(HEIGHT, 0, V, True),
    ]
    assert script.machine.step is Step.PRECOMMIT


def test_stranger_to_the_set_has_no_vote() -> None:
    assert Script(bytes(20)).play(proposal(0, V)) == [timer(0, Step.PROPOSE)]
