"""Whatever arguments a message bears, its module answers or refuses: no defect can be reached from outside."""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from typing import Annotated, Any

from hypothesis import given, settings
from hypothesis import strategies as st

from city.app import Town as Application
from city.testing import Town
from consensus.application import Inadmissible
from consensus.shape import INTEGER_MAX, Count, Length, Range, Size
from consensus.transaction import Message

HANDLERS = Application().registry.handlers
PLACES = [bytes([i]) * 20 for i in range(2)]
WIRES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.binary(max_size=40) | st.text("aåß", max_size=9),
    lambda inner: st.lists(inner, max_size=3).map(tuple),
    max_leaves=6,
)
NESTED = st.sampled_from(
    [Message("coin", "burn", (1,)), Message("town", "upgrade", ("coin", 2)), Message("x", "y", ())]
)


def values_of(annotation: Any) -> st.SearchStrategy[Any]:
    """Values of *annotation*, with a liking for the edges of ranges and for few different ones."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return marked(args[0], args[1:])
    if origin is types.UnionType or origin is typing.Union:
        return st.none() | values_of(args[0])
    if annotation is Message:
        return NESTED
    if annotation in (int, bool):
        return st.booleans() if annotation is bool else st.integers(0, 3) | st.just(INTEGER_MAX)
    if isinstance(annotation, type) and issubclass(annotation, enum.IntEnum):
        return st.sampled_from(annotation)
    hints = typing.get_type_hints(annotation, include_extras=True)
    return st.builds(
        annotation, **{field.name: values_of(hints[field.name]) for field in dataclasses.fields(annotation)}
    )


def marked(base: Any, marks: tuple[Any, ...]) -> st.SearchStrategy[Any]:
    """Values within the bounds that *marks* set."""
    for mark in marks:
        match mark:
            case Range(low=low, high=high):
                return st.integers(low, min(high, low + 3)) | st.sampled_from([low, high])
            case Size(low=size):
                return st.sampled_from([bytes([i]) * size for i in range(2)])
            case Length():
                return st.sampled_from(["", "coin", "registrar", "weight_price", "engine", "heartbeat_ms"])
            case Count(low=low):
                return st.lists(values_of(typing.get_args(base)[0]), min_size=low, max_size=3).map(tuple)
    return values_of(base)


def messages() -> st.SearchStrategy[Message]:
    """Any message of the town with arguments of its types."""

    def made(name: tuple[str, str]) -> st.SearchStrategy[Message]:
        signature = HANDLERS[name].signature
        arguments = st.fixed_dictionaries({a.name: values_of(a.type) for a in signature.arguments})
        return arguments.map(lambda values: Message(*name, signature.write(values)))

    return st.sampled_from(sorted(HANDLERS)).flatmap(made)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.booleans(), messages()), max_size=12))
def test_no_arguments_reach_a_defect(steps: list[tuple[bool, Message]]) -> None:
    town = Town(town_params={"governance.deposit": 1, "governance.voting_period_ms": 1_000})
    anna = town.person(coins=1_000)
    for governs, message in steps:
        if governs:
            town.carries(message)
        else:
            town.block(anna.transaction(message))
            if message.name in ("create", "rotate_keys"):
                anna = town.person(coins=1_000)  # the former one may obey keys now that nobody has
    town.passes(hours=1)
    assert town.faults == []


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(sorted(HANDLERS)), st.lists(WIRES, max_size=4).map(tuple))
def test_no_wire_form_gets_past_admission_but_a_canonical_one(name: tuple[str, str], args: tuple[Any, ...]) -> None:
    message = Message(*name, args)
    transaction = TOWN.registrar.transaction(message)
    try:
        TOWN.app.admit(transaction, TOWN.state, time_ms=TOWN.time_ms, params=TOWN.params)
    except Inadmissible as error:
        assert error.code == "tx.bad_arguments"  # noqa: PT017  # anything else that is raised fails the test
    else:
        signature = HANDLERS[name].signature
        assert signature.write(signature.read(args)) == args


TOWN = Town()
