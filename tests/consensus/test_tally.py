"""Counting votes: thresholds, liars, and what is kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.signing import sha256
from consensus.tally import FUTURE_ROUNDS_MAX, Tally
from consensus.validators import Update, ValidatorSet
from consensus.vote import VoteKind
from tests.consensus.play import PRECOMMIT, PREVOTE, SET, A, B, C, D, V, W, X, vote


def tally_in_round(round_: int) -> Tally:
    tally = Tally(SET)
    tally.enter(round_)
    return tally


def weighted(*powers: int) -> ValidatorSet:
    return ValidatorSet.of([Update(sha256(bytes([number])), power) for number, power in enumerate(powers)])


def test_nothing_has_a_quorum_before_the_first_vote() -> None:
    tally = Tally(SET)
    assert not tally.has_quorum(0, PREVOTE, V)
    assert not tally.has_quorum_of_any(0, PREVOTE)
    assert tally.value(0, PREVOTE) is None
    assert tally.vote(0, PREVOTE, A) is None
    assert tally.votes(0, PREVOTE) == {}
    assert tally.round_to_skip_to() is None


@given(powers=st.lists(st.integers(1, 2**40), min_size=1, max_size=8), data=st.data())
def test_quorum_is_more_than_two_thirds_in_exact_integers(powers: list[int], data: st.DataObject) -> None:
    validators = weighted(*powers)
    chosen = data.draw(st.sets(st.sampled_from(validators.addresses)))
    tally = Tally(validators)
    tally.enter(0)
    for address in sorted(chosen):
        tally.add(vote(PRECOMMIT, address, 0, V))
    power = sum(validator.power for validator in validators.validators if validator.address in chosen)
    reached = power * 3 > sum(powers) * 2
    assert tally.has_quorum(0, PRECOMMIT, V) == tally.has_quorum_of_any(0, PRECOMMIT) == reached
    assert tally.commit == ((0, V) if reached else None)


def test_exactly_two_thirds_are_no_quorum() -> None:
    three = weighted(5, 5, 5)
    tally = Tally(three)
    tally.enter(0)
    for address in three.addresses[:2]:
        tally.add(vote(PRECOMMIT, address, 0, V))
    assert not tally.has_quorum(0, PRECOMMIT, V)
    assert not tally.has_quorum_of_any(0, PRECOMMIT)
    tally.add(vote(PRECOMMIT, three.addresses[2], 0, V))
    assert tally.commit == (0, V)


def test_kinds_rounds_and_values_are_counted_apart() -> None:
    tally = tally_in_round(1)
    for who, kind, round_, value in (
        (A, PREVOTE, 1, V),
        (B, PRECOMMIT, 1, V),
        (C, PREVOTE, 0, V),
        (D, PREVOTE, 1, None),
    ):
        tally.add(vote(kind, who, round_, value))
    assert not tally.has_quorum(1, PREVOTE, V)
    assert set(tally.votes(1, PREVOTE)) == {A, D}
    assert tally.rounds() == [0, 1]


def test_quorum_for_nil_is_no_value_and_no_commit() -> None:
    tally = tally_in_round(0)
    for who in (A, B, C):
        tally.add(vote(PRECOMMIT, who, 0, None))
    assert tally.has_quorum(0, PRECOMMIT, None)
    assert tally.value(0, PRECOMMIT) is None
    assert tally.commit is None


def test_repeated_vote_counts_once() -> None:
    tally = tally_in_round(0)
    for _ in range(3):
        assert tally.add(vote(PREVOTE, A, 0, V)) is None
    tally.add(vote(PREVOTE, B, 0, V))
    assert not tally.has_quorum(0, PREVOTE, V)


def test_contradiction_is_returned_once_with_the_first_vote() -> None:
    tally = tally_in_round(0)
    first = vote(PREVOTE, A, 0, V)
    assert tally.add(first) is None
    assert tally.add(vote(PREVOTE, A, 0, None)) == first
    assert tally.add(vote(PREVOTE, A, 0, None)) is None
    assert tally.add(vote(PREVOTE, A, 0, W)) is None


def test_liar_counts_once_for_any_and_once_for_each_value() -> None:
    tally = tally_in_round(0)
    for who, value in ((A, None), (A, V), (B, V)):
        tally.add(vote(PREVOTE, who, 0, value))
    assert not tally.has_quorum_of_any(0, PREVOTE)
    tally.add(vote(PREVOTE, C, 0, V))
    assert tally.has_quorum(0, PREVOTE, V)
    assert not tally.has_quorum(0, PREVOTE, None)


def test_third_vote_of_a_liar_counts_only_for_what_a_third_back() -> None:
    tally = tally_in_round(0)
    for who, value in ((A, None), (A, X), (B, V), (A, V)):
        tally.add(vote(PREVOTE, who, 0, value))
    assert len(tally.all_votes(0, PREVOTE)) == 3
    tally.add(vote(PREVOTE, C, 0, V))
    assert not tally.has_quorum(0, PREVOTE, V)
    assert tally.add(vote(PREVOTE, A, 0, V)) is None
    assert tally.has_quorum(0, PREVOTE, V)


@given(votes=st.lists(st.tuples(st.sampled_from((A, B, C, D)), st.integers(0, 40)), max_size=300))
def test_liars_cannot_fill_a_ballot(votes: list[tuple[bytes, int]]) -> None:
    tally = tally_in_round(0)
    for who, value in votes:
        tally.add(vote(PREVOTE, who, 0, bytes([value]) * 32))
    assert len(tally.all_votes(0, PREVOTE)) <= 4 * (2 + 5)


def test_wanted_votes_are_those_that_would_count() -> None:
    tally = tally_in_round(0)
    assert tally.wants(vote(PREVOTE, A, 0, None))
    for who, value in ((A, None), (A, X), (B, V)):
        tally.add(vote(PREVOTE, who, 0, value))
    assert not tally.wants(vote(PREVOTE, A, 0, None))
    assert not tally.wants(vote(PREVOTE, A, 0, V))
    tally.add(vote(PREVOTE, C, 0, V))
    assert tally.wants(vote(PREVOTE, A, 0, V))
    for round_ in (5, 7):
        tally.add(vote(PREVOTE, A, round_, V))
    assert not tally.wants(vote(PREVOTE, A, 3, V))
    assert tally.wants(vote(PREVOTE, A, 9, V))
    assert tally.wants(vote(PREVOTE, B, 3, V))


def test_shown_vote_is_the_one_for_the_winning_block_else_the_first() -> None:
    tally = tally_in_round(0)
    tally.add(vote(PRECOMMIT, A, 0, None))
    tally.add(vote(PRECOMMIT, A, 0, V))
    assert tally.vote(0, PRECOMMIT, A) == vote(PRECOMMIT, A, 0, None)
    tally.add(vote(PRECOMMIT, B, 0, V))
    tally.add(vote(PRECOMMIT, C, 0, V))
    tally.add(vote(PRECOMMIT, D, 0, W))
    assert tally.commit == (0, V)
    assert {who: kept.block_id for who, kept in tally.votes(0, PRECOMMIT).items()} == {A: V, B: V, C: V, D: W}
    assert tally.vote(0, PRECOMMIT, A) == vote(PRECOMMIT, A, 0, V)


def test_first_commit_stands() -> None:
    tally = tally_in_round(1)
    for round_ in (0, 1):
        for who in (A, B, C):
            tally.add(vote(PRECOMMIT, who, round_, V))
    assert tally.commit == (0, V)


def test_strangers_votes_are_a_defect_of_the_driver() -> None:
    with pytest.raises(AssertionError, match="strangers"):
        Tally(SET).add(vote(PREVOTE, bytes(20), 0, V))


def test_rounds_only_rise() -> None:
    with pytest.raises(AssertionError):
        tally_in_round(3).enter(3)


def test_highest_round_with_more_than_a_third_is_the_one_to_skip_to() -> None:
    tally = tally_in_round(0)
    for who, round_ in ((A, 3), (B, 3), (A, 6), (C, 6), (D, 9)):
        tally.add(vote(PREVOTE, who, round_, None))
    assert tally.round_to_skip_to() == 6
    tally.enter(6)
    assert tally.round_to_skip_to() is None


def test_exactly_a_third_is_not_enough_to_skip() -> None:
    three = weighted(1, 1, 1)
    tally = Tally(three)
    tally.add(vote(PREVOTE, three.addresses[0], 2, None))
    assert tally.round_to_skip_to() is None


def test_validator_occupies_only_its_highest_future_rounds() -> None:
    tally = tally_in_round(0)
    for round_ in (4, 2, 7, 3):
        tally.add(vote(PREVOTE, A, round_, V))
        tally.add(vote(PRECOMMIT, A, round_, V))
    assert FUTURE_ROUNDS_MAX == 2
    assert tally.rounds() == [4, 7]
    assert tally.keeps(A, 7)
    assert not tally.keeps(A, 2)


def test_forgetting_one_validator_leaves_the_others_in_that_round() -> None:
    tally = tally_in_round(0)
    for who, value in ((A, V), (A, W), (B, V)):
        tally.add(vote(PREVOTE, who, 1, value))
    tally.add(vote(PRECOMMIT, B, 1, V))
    for round_ in (5, 6):
        tally.hear(A, round_)
    assert tally.votes(1, PREVOTE) == {B: vote(PREVOTE, B, 1, V)}
    assert tally.round_to_skip_to() is None
    tally.enter(1)
    tally.add(vote(PREVOTE, C, 1, V))
    assert not tally.has_quorum_of_any(1, PREVOTE)
    tally.add(vote(PREVOTE, D, 1, V))
    assert tally.has_quorum(1, PREVOTE, V)
    assert tally.value(1, PREVOTE) == V


@pytest.mark.parametrize(("others", "value"), [((B, C), None), ((B, C, D), V)])
def test_what_is_forgotten_makes_no_quorum_and_what_is_left_may(others: tuple[bytes, ...], value: bytes | None) -> None:
    tally = tally_in_round(0)
    for who in (A, *others):
        tally.add(vote(PREVOTE, who, 1, V))
    assert tally.value(1, PREVOTE) == V
    for round_ in (5, 6):
        tally.hear(A, round_)
    assert tally.value(1, PREVOTE) == value
    assert tally.has_quorum(1, PREVOTE, V) == tally.has_quorum_of_any(1, PREVOTE) == (value is not None)


@pytest.mark.parametrize("count", [2, 3])
def test_third_vote_of_a_liar_does_not_count_for_what_exactly_a_third_or_nobody_backs(count: int) -> None:
    members = weighted(*[1] * count)
    liar, other = members.addresses[:2]
    tally = Tally(members)
    tally.enter(0)
    for value in (V, W):
        tally.add(vote(PREVOTE, liar, 0, value))
    if count == 3:
        tally.add(vote(PREVOTE, other, 0, X))
    assert not tally.wants(vote(PREVOTE, liar, 0, X))


def test_future_rounds_of_a_validator_leave_wanted_what_it_says_now_and_between() -> None:
    tally = tally_in_round(0)
    for round_ in (5, 8):
        tally.add(vote(PREVOTE, A, round_, V))
    assert tally.wants(vote(PREVOTE, A, 0, V))
    assert not tally.wants(vote(PREVOTE, A, 4, V))
    assert tally.wants(vote(PRECOMMIT, A, 5, V))
    assert tally.wants(vote(PREVOTE, A, 6, V))


def test_current_and_past_rounds_are_kept_whatever_comes_ahead() -> None:
    tally = tally_in_round(2)
    for round_ in (0, 1, 2, 50, 60, 70):
        tally.add(vote(PRECOMMIT, A, round_, V))
    assert tally.rounds() == [0, 1, 2, 60, 70]
    assert tally.keeps(A, 1)


def test_entering_a_round_frees_the_places_below_it() -> None:
    tally = tally_in_round(0)
    for round_ in (5, 9):
        tally.add(vote(PREVOTE, A, round_, V))
    tally.add(vote(PREVOTE, B, 5, V))
    tally.enter(5)
    tally.add(vote(PREVOTE, A, 6, V))
    assert tally.rounds() == [5, 6, 9]


@given(
    st.lists(
        st.tuples(
            st.sampled_from((A, B, C, D)), st.integers(0, 30), st.sampled_from(VoteKind), st.sampled_from((V, W, None))
        ),
        max_size=120,
    )
)
def test_future_rounds_are_bounded_for_every_order_of_votes(
    votes: list[tuple[bytes, int, VoteKind, bytes | None]],
) -> None:
    tally = tally_in_round(3)
    for who, round_, kind, value in votes:
        tally.add(vote(kind, who, round_, value))
    ahead = [round_ for round_ in tally.rounds() if round_ > 3]
    for who in (A, B, C, D):
        assert sum(any(tally.vote(round_, kind, who) for kind in VoteKind) for round_ in ahead) <= FUTURE_ROUNDS_MAX
