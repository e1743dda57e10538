"""The rotation of proposers, exactly as CometBFT turns, and what updates do to a set."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus import merkle
from consensus.codec import encode
from consensus.params import VALIDATORS_MAX
from consensus.shape import from_bytes, to_bytes
from consensus.signing import sha256
from consensus.validators import POWER_TOTAL_MAX, BadUpdate, Update, Validator, ValidatorSet

KEYS = [sha256(b"key %d" % number) for number in range(VALIDATORS_MAX + 1)]
BY_ADDRESS = sorted(KEYS[:8], key=lambda key: Validator(key, 1).address)
"""Eight keys by ascending address, so that ties fall as in CometBFT's own tests, whose addresses are in order."""


def members(*powers: int, priorities: Sequence[int] | None = None) -> ValidatorSet:
    """A set as it stands, in the order given."""
    return ValidatorSet(
        tuple(
            Validator(BY_ADDRESS[place], power, priorities[place] if priorities else 0)
            for place, power in enumerate(powers)
        )
    )


def priorities_of(validators: ValidatorSet) -> list[int]:
    """Priorities in set order."""
    return [validator.priority for validator in validators.validators]


powers_of_sets = st.lists(st.integers(1, 50), min_size=1, max_size=8)


def test_proposers_turn_as_in_cometbft() -> None:
    """`TestProposerSelection1`: foo, bar and baz with 1000, 300 and 330 (addresses in the order bar, baz, foo)."""
    validators = ValidatorSet.of([Update(BY_ADDRESS[2], 1000), Update(BY_ADDRESS[0], 300), Update(BY_ADDRESS[1], 330)])
    names = {BY_ADDRESS[2]: "foo", BY_ADDRESS[0]: "bar", BY_ADDRESS[1]: "baz"}
    turns = " ".join(names[validators.proposer(round_).public_key] for round_ in range(99))
    assert turns == (
        "foo baz foo bar foo foo baz foo bar foo foo baz foo foo bar foo baz foo foo bar foo foo baz foo bar foo foo "
        "baz foo bar foo foo baz foo foo bar foo baz foo foo bar foo baz foo foo bar foo baz foo foo bar foo baz foo "
        "foo foo baz bar foo foo foo baz foo bar foo foo baz foo bar foo foo baz foo bar foo foo baz foo bar foo foo "
        "baz foo foo bar foo baz foo foo bar foo baz foo foo bar foo baz foo foo"
    )


def test_equal_powers_take_turns_in_order_of_address() -> None:
    """`TestProposerSelection2`, first part: whoever has the lower address is first."""
    validators = members(100, 100, 100)
    turns = [validators.proposer(round_).public_key for round_ in range(6)]
    assert turns == BY_ADDRESS[:3] * 2


@pytest.mark.parametrize(("power", "first_turns"), [(400, [2, 0]), (401, [2, 2, 0])])
def test_one_validator_may_get_two_turns_in_a_row(power: int, first_turns: list[int]) -> None:
    """`TestProposerSelection2`: with 400 of 600 the third is first once, with 401 of 601 twice."""
    validators = members(100, 100, power)
    assert [validators.proposer(round_).public_key for round_ in range(len(first_turns))] == [
        BY_ADDRESS[place] for place in first_turns
    ]


def test_priorities_move_as_in_cometbft() -> None:
    """`TestAveragingInIncrementProposerPriorityWithVotingPower`: powers 10, 1, 1, one turn after the other."""
    validators = members(10, 1, 1)
    expected = [
        [-2, 1, 1],
        [-4, 2, 2],
        [-6, 3, 3],
        [-8, 4, 4],
        [2, -7, 5],  # the second, by its lower address
        [0, -6, 6],
        [-2, -5, 7],
        [-4, -4, 8],
        [6, -3, -3],
        [4, -2, -2],
        [2, -1, -1],
        [0, 0, 0],
    ]
    for times, priorities in enumerate(expected, start=1):
        assert priorities_of(validators.advanced(times)) == priorities


def test_the_average_is_rounded_down() -> None:
    """Go's `big.Int.Div`, with which CometBFT centres, floors where its `/` truncates: -1 / 3 is -1."""
    validators = members(10, 10, 10, priorities=[-1, 0, 0])
    # centred: [0, 1, 1]; plus powers: [10, 11, 11]; the second wins by its lower address and pays 30
    assert priorities_of(validators.advanced()) == [10, -19, 11]


@pytest.mark.parametrize(("priorities", "average"), [([1, 2, 3], 2), ([10, -10, 1], 0), ([100, -10, 1], 30)])
def test_priorities_are_centred_before_a_turn(priorities: list[int], average: int) -> None:
    """`TestAveragingInIncrementProposerPriority`, with powers, since here nobody can have none."""
    power = 1_000
    after = priorities_of(members(power, power, power, priorities=priorities).advanced())
    winner = priorities.index(max(priorities))
    charges = [3 * power if place == winner else 0 for place in range(3)]
    assert after == [priority - average + power - charge for priority, charge in zip(priorities, charges, strict=True)]


def test_a_wide_spread_is_scaled_toward_zero() -> None:
    """`TestRescalePriorities`-like: -7 divided by 3 is -2 as in Go, not -3 as Python's ``//`` has it."""
    validators = members(1, 1, priorities=[-7, 5])  # a spread of 12 where 4 are allowed: ratio 3
    # scaled: [-2, 1]; average floor(-1 / 2) = -1: [-1, 2]; plus powers: [0, 3]; the second wins and pays 2
    assert priorities_of(validators.advanced()) == [0, 1]


def test_a_spread_as_wide_as_allowed_is_left_alone() -> None:
    """Twice the total power."""
    validators = members(1, 1, priorities=[-2, 2])
    assert priorities_of(validators.advanced()) == [-1, 1]


def test_priorities_are_clipped_to_64_bits() -> None:
    """Extremes that no chain reaches stay in range, as in CometBFT."""
    low, high = -(2**63), 2**63 - 1
    validators = members(POWER_TOTAL_MAX // 2, POWER_TOTAL_MAX // 2, priorities=[low, high])
    assert all(low <= priority <= high for priority in priorities_of(validators.advanced(3)))


@given(powers_of_sets, st.integers(0, 30))
def test_everybody_proposes_in_proportion_to_power(powers: list[int], start: int) -> None:
    """In as many turns as there is power, exactly as often as the power says, wherever one begins to count."""
    divisor = math.gcd(*powers)
    validators = ValidatorSet.of([Update(KEYS[place], power) for place, power in enumerate(powers)]).advanced(start)
    turns = Counter(validators.proposer(round_).public_key for round_ in range(sum(powers) // divisor))
    assert turns == {KEYS[place]: power // divisor for place, power in enumerate(powers)}


@given(powers_of_sets, st.integers(0, 20), st.integers(0, 20))
def test_turns_add_up(powers: list[int], first: int, second: int) -> None:
    """The way to a round does not matter, and the proposer of a round is the winner of that turn."""
    validators = ValidatorSet.of([Update(KEYS[place], power) for place, power in enumerate(powers)])
    assert validators.advanced(first).advanced(second) == validators.advanced(first + second)
    assert validators.advanced(first).proposer(second).public_key == validators.proposer(first + second).public_key


@given(powers_of_sets, st.integers(1, 40))
def test_priorities_stay_within_the_window(powers: list[int], times: int) -> None:
    """And centred on zero, up to rounding."""
    validators = ValidatorSet.of([Update(KEYS[place], power) for place, power in enumerate(powers)]).advanced(times)
    priorities = priorities_of(validators)
    assert max(priorities) - min(priorities) <= 2 * validators.total_power
    assert 0 <= sum(priorities) < len(priorities)


def test_the_proposer_is_a_member_of_this_set() -> None:
    """With the priority that it has here, not that of a later turn; asked again, the answer is the same."""
    validators = members(5, 3, 1)
    assert {validators.proposer(round_) for round_ in (8, 3, 0, 3)} <= set(validators.validators)
    assert validators.proposer(0) == validators.validators[0]


def test_members_stand_by_power_then_address() -> None:
    """Whatever the order of the updates."""
    updates = [Update(BY_ADDRESS[0], 1), Update(BY_ADDRESS[3], 5), Update(BY_ADDRESS[1], 5), Update(BY_ADDRESS[2], 9)]
    expected = [BY_ADDRESS[2], BY_ADDRESS[1], BY_ADDRESS[3], BY_ADDRESS[0]]
    for order in (updates, updates[::-1]):
        assert [validator.public_key for validator in ValidatorSet.of(order).validators] == expected


def test_members_are_found_by_address() -> None:
    """A stranger is not."""
    validators = members(5, 3)
    for place, validator in enumerate(validators.validators):
        assert validators.addresses[place] == validator.address
        assert validators.index_of(validator.address) == place
        assert validators.by_address(validator.address) == validator
    assert validators.index_of(bytes(20)) is None
    assert validators.by_address(bytes(20)) is None


@pytest.mark.parametrize(
    ("total", "quorum", "third"), [(1, 1, 1), (2, 2, 1), (3, 3, 2), (4, 3, 2), (6, 5, 3), (7, 5, 3), (100, 67, 34)]
)
def test_quorums_are_strictly_more(total: int, quorum: int, third: int) -> None:
    """Than two thirds, and than one third, by whole numbers."""
    validators = members(total)
    assert (validators.has_two_thirds(quorum), validators.has_two_thirds(quorum - 1)) == (True, False)
    assert (validators.has_one_third(third), validators.has_one_third(third - 1)) == (True, False)


def test_quorums_are_exact_for_the_largest_powers() -> None:
    """Where a float would be wrong."""
    total = POWER_TOTAL_MAX - POWER_TOTAL_MAX % 3
    validators = members(total)
    assert not validators.has_two_thirds(total // 3 * 2)
    assert validators.has_two_thirds(total // 3 * 2 + 1)


def test_a_newcomer_waits_as_in_cometbft() -> None:
    """It starts at -1.125 times the total; the others keep their places; then all are scaled and centred."""
    validators = ValidatorSet.of([Update(BY_ADDRESS[0], 80)])
    joined = validators.updated([Update(BY_ADDRESS[1], 20)])
    # total 100: the newcomer at -112; average -56
    assert priorities_of(joined) == [56, -56]


def test_leaving_and_coming_back_resets_no_debt() -> None:
    """What a newcomer starts with is worse than any place in the queue that it can have left."""
    validators = ValidatorSet.of([Update(key, 10) for key in BY_ADDRESS[:4]]).advanced()
    leaver = validators.proposer(0).public_key
    back = validators.updated([Update(leaver, 0)]).updated([Update(leaver, 10)])
    rejoined = next(validator for validator in back.validators if validator.public_key == leaver)
    assert rejoined.priority == min(priorities_of(back))


def test_the_start_of_a_newcomer_counts_those_who_leave() -> None:
    """Total 30 stays, 70 leaves, 10 joins: P' is 110, the start -123."""
    validators = members(70, 30)
    after = validators.updated([Update(BY_ADDRESS[0], 0), Update(BY_ADDRESS[2], 10)])
    # [0, -123] spread 123 > 2 * 40: ratio 2 → [0, -61]; average -31 → [31, -30]
    assert priorities_of(after) == [31, -30]
    two_leave = members(40, 30, 30).updated(
        [Update(BY_ADDRESS[0], 0), Update(BY_ADDRESS[1], 0), Update(BY_ADDRESS[3], 10)]
    )
    assert priorities_of(two_leave) == [31, -30]


def test_a_change_of_power_keeps_the_priority() -> None:
    """Only scaled and centred with the rest."""
    validators = members(10, 10, priorities=[3, -3])
    after = validators.updated([Update(BY_ADDRESS[1], 12)])
    assert [(validator.power, validator.priority) for validator in after.validators] == [(12, -3), (10, 3)]


def test_no_updates_change_nothing() -> None:
    """Not even the average."""
    validators = members(1, 2, priorities=[5, 9])
    assert validators.updated([]) is validators


def test_members_can_leave() -> None:
    """The others stay."""
    after = members(3, 2, 1).updated([Update(BY_ADDRESS[1], 0)])
    assert [validator.public_key for validator in after.validators] == [BY_ADDRESS[0], BY_ADDRESS[2]]
    assert after.total_power == 4


@pytest.mark.parametrize(
    ("updates", "text"),
    [
        ([Update(BY_ADDRESS[0], 0), Update(BY_ADDRESS[1], 0)], "no validator would be left"),
        ([Update(BY_ADDRESS[0], 5), Update(BY_ADDRESS[0], 6)], "twice"),
        ([Update(BY_ADDRESS[0], 0), Update(BY_ADDRESS[0], 5)], "twice"),
        ([Update(BY_ADDRESS[2], 0)], "no validator and can't be removed"),
        ([Update(BY_ADDRESS[2], POWER_TOTAL_MAX)], "exceeds"),
        ([Update(key, 1) for key in KEYS[: VALIDATORS_MAX + 1] if key not in BY_ADDRESS[:2]], "at most"),
    ],
)
def test_impossible_updates_are_refused(updates: list[Update], text: str) -> None:
    """An empty result, a key twice, a stranger's removal, too much power, too many members."""
    with pytest.raises(BadUpdate, match=text):
        members(2, 1).updated(updates)


def test_the_largest_set_is_accepted() -> None:
    """To the last member and the last unit of power."""
    updates = [Update(key, 1) for key in KEYS[:VALIDATORS_MAX]]
    assert len(ValidatorSet.of(updates).validators) == VALIDATORS_MAX
    full = ValidatorSet.of([Update(KEYS[0], POWER_TOTAL_MAX)])
    assert full.advanced(2).total_power == POWER_TOTAL_MAX
    swapped = full.updated([Update(KEYS[0], 0), Update(KEYS[1], POWER_TOTAL_MAX)])
    assert swapped.total_power == POWER_TOTAL_MAX


def test_a_chain_does_not_begin_empty() -> None:
    """Somebody must vote."""
    with pytest.raises(BadUpdate):
        ValidatorSet.of([])


def test_the_hash_covers_keys_and_powers_not_priorities() -> None:
    """RFC 6962 over (key, power) in set order."""
    validators = members(5, 3)
    leaves = [encode((validator.public_key, validator.power)) for validator in validators.validators]
    assert validators.hash == merkle.root(leaves) == validators.advanced(3).hash
    assert validators.hash != members(5, 4).hash


def test_a_set_survives_the_wire() -> None:
    """Priorities included."""
    validators = ValidatorSet.of([Update(key, 7) for key in BY_ADDRESS]).advanced(3)
    assert from_bytes(ValidatorSet, to_bytes(validators)) == validators
