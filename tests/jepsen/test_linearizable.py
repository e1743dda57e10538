"""The judge is judged first: it accepts what has an order, and refuses what has none."""

from __future__ import annotations

import dataclasses
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.jepsen.history import Kind, Operation
from tests.jepsen.linearizable import is_linearizable

READ, WRITE, CAS = Kind.READ, Kind.WRITE, Kind.CAS


def op(
    kind: Kind, invoked: float, completed: float, value: int, *, expected: int = 0, swapped: bool = True
) -> Operation:
    """An operation on register 0."""
    return Operation(kind, 0, invoked, completed, value, expected, swapped)


@pytest.mark.parametrize(
    "history",
    [
        [],
        [op(READ, 0, 1, 0)],
        [op(WRITE, 0, 1, 5), op(READ, 2, 3, 5)],
        [op(WRITE, 0, 9, 5), op(READ, 1, 2, 0), op(READ, 3, 4, 5)],
        [op(WRITE, 0, 1, 1), op(CAS, 2, 3, 2, expected=1), op(READ, 4, 5, 2)],
        [op(WRITE, 0, 1, 1), op(CAS, 2, 3, 2, expected=7, swapped=False), op(READ, 4, 5, 1)],
        [op(WRITE, 0, math.inf, 3), op(READ, 8, 9, 0), op(READ, 10, 11, 3)],
        [op(WRITE, 0, 5, 1), op(WRITE, 0, 5, 2), op(READ, 6, 7, 1)],
    ],
)
def test_histories_that_an_order_explains_are_accepted(history: list[Operation]) -> None:
    assert is_linearizable(history)


@pytest.mark.parametrize(
    "history",
    [
        [op(READ, 0, 1, 5)],
        [op(WRITE, 0, 1, 5), op(READ, 2, 3, 0)],
        [op(WRITE, 0, 9, 5), op(READ, 1, 2, 5), op(READ, 3, 4, 0)],
        [op(WRITE, 0, 1, 1), op(CAS, 2, 3, 2, expected=1), op(CAS, 4, 5, 3, expected=1)],
        [op(CAS, 0, 1, 2, expected=0, swapped=False)],
        [op(WRITE, 0, 1, 1), op(WRITE, 2, 3, 2), op(READ, 4, 5, 1)],
        [op(WRITE, 0, math.inf, 3), op(READ, 8, 9, 3), op(READ, 10, 11, 0)],
    ],
    ids=["of nothing", "stale", "back in time", "two swaps of one value", "no reason", "lost write", "undone"],
)
def test_histories_that_no_order_explains_are_refused(history: list[Operation]) -> None:
    assert not is_linearizable(history)


def made(seed: int, count: int) -> list[Operation]:
    """A history of a register that is one: each operation takes effect at a moment within its time."""
    dice = random.Random(seed)
    value, history = 0, []
    for moment in range(1, count + 1):
        begin, end = moment - dice.random() * 4, moment + dice.random() * 4
        kind = dice.choice((READ, WRITE, CAS))
        if kind is READ:
            history.append(op(READ, begin, end, value))
        elif kind is WRITE:
            value = dice.randint(1, 4)
            history.append(op(WRITE, begin, end, value))
        else:
            expected, new = dice.randint(0, 4), dice.randint(1, 4)
            swapped = value == expected
            history.append(op(CAS, begin, end, new, expected=expected, swapped=swapped))
            value = new if swapped else value
    return history


@given(st.integers(0, 2**32), st.integers(0, 40))
def test_what_one_register_did_is_always_accepted(seed: int, count: int) -> None:
    assert is_linearizable(made(seed, count))


@given(st.integers(0, 2**32), st.integers(1, 30))
def test_a_read_of_what_nobody_wrote_is_always_refused(seed: int, count: int) -> None:
    history = made(seed, count)
    place = seed % len(history)
    history[place] = dataclasses.replace(history[place], kind=READ, value=99)
    assert not is_linearizable(history)
