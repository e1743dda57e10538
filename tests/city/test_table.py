"""Tables give rows in key order, as of the last write, whatever was rolled back."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from city.sdk import U63, Address, Amount, Cell, Length, Module, Page, Record, Refused, Table, replace
from city.sdk.keys import after_prefix, decoder_of, encode_part, encode_parts, table_prefix
from city.sdk.refusal import OUT_OF_WEIGHT, OVERFLOW
from city.sdk.runtime import Moment, Registry, Runtime
from city.sdk.space import roll_back
from city.sdk.weights import Meter
from city.testing import MemoryState
from consensus.params import TINY
from consensus.shape import INTEGER_MAX

Colour = Annotated[str, Length(10)]


class Thing(Record):
    """Something."""

    colour: Colour
    weight: Amount = 0


class Shed(Module):
    """Rows for tests."""

    name, version = "shed", 1

    things = Table(int, Thing)
    by_colour = things.index(Colour, lambda it: it.colour or None)
    owners = Table(Address, U63)
    pairs = Table(tuple[int, Address, str], U63)
    total = Cell(Amount, 7)


def opened(state: MemoryState, limit: int = 10**9) -> tuple[Shed, Runtime]:
    runtime = Runtime(Registry.of([Shed]), state, Moment("c", 1, 1, TINY), Meter(limit))
    shed = runtime.modules["shed"]
    assert isinstance(shed, Shed)
    return shed, runtime


@pytest.fixture
def shed() -> Shed:
    return opened(MemoryState())[0]


def keys(page: Page[Any, Any]) -> list[Any]:
    return [key for key, _ in page.rows]


def test_keys_are_written_as_the_design_says() -> None:
    assert table_prefix("tools") == b"tools\x00"
    assert encode_part(258) == bytes([0, 0, 0, 0, 0, 0, 1, 2])
    assert encode_part(b"ab") == b"\x00\x02ab"
    assert encode_parts(("å", 1)) == b"\x00\x02\xc3\xa5" + bytes(7) + b"\x01"
    assert encode_parts(()) == b""
    assert after_prefix(b"a\xff\xff") == b"b"


@pytest.mark.parametrize("part", [-1, INTEGER_MAX + 1])
def test_a_number_that_no_key_can_hold_is_refused(part: int) -> None:
    with pytest.raises(Refused) as refused:
        encode_part(part)
    assert refused.value.code == OVERFLOW


def test_the_place_of_parameters_is_taken() -> None:
    with pytest.raises(TypeError, match=r"rows\.param: the name is taken"):

        class Rows(Module):
            """Would overwrite its parameters."""

            name, version = "rows", 1
            param = Table(int, U63)

    with pytest.raises(TypeError, match=r"rows\.params: the name is taken"):

        class Other(Module):
            """Would hide its parameters."""

            name, version = "rows", 1
            params = Table(int, U63)


def test_a_key_of_another_size_is_a_defect(shed: Shed) -> None:
    shed.owners[b"a" * 20] = 1
    for key in (b"a" * 19, "a" * 20):
        with pytest.raises(TypeError, match="expected 20 bytes"):
            shed.owners.get(key)  # type: ignore[arg-type]


def test_what_no_key_is_made_of_is_a_defect() -> None:
    with pytest.raises(TypeError):
        encode_part(None)
    with pytest.raises(TypeError):
        decoder_of(Thing)


@given(st.tuples(st.integers(0, INTEGER_MAX), st.binary(min_size=20, max_size=20), st.text(max_size=9)))
def test_keys_decode_to_themselves(key: tuple[int, bytes, str]) -> None:
    raw = encode_parts(key)
    assert decoder_of(tuple[int, Address, str])(raw, 0) == (key, len(raw))


@given(st.lists(st.integers(0, INTEGER_MAX), unique=True, max_size=20))
def test_rows_come_in_the_order_of_their_keys(numbers: list[int]) -> None:
    shed, _ = opened(MemoryState())
    for number in numbers:
        shed.things[number] = Thing(colour="red")
    assert keys(shed.things.page()) == sorted(numbers)
    assert keys(shed.things.page(reverse=True)) == sorted(numbers, reverse=True)


def test_rows_are_found_inserted_changed_and_removed(shed: Shed) -> None:
    assert shed.things.get(1) is None
    assert shed.things.get(1, "none") == "none"
    assert 1 not in shed.things
    shed.things.insert(1, Thing(colour="red"))
    shed.things[1] = replace(shed.things[1], weight=5)
    assert shed.things[1] == Thing(colour="red", weight=5)
    assert shed.things.remove(1) == Thing(colour="red", weight=5)
    assert 1 not in shed.things


def test_absent_and_present_rows_refuse_with_the_tables_code(shed: Shed) -> None:
    with pytest.raises(Refused, match=r"shed\.things_absent: there is no such row in things"):
        shed.things[1]
    with pytest.raises(Refused, match=r"shed\.things_absent"):
        shed.things.remove(1)
    shed.things.insert(1, Thing(colour="red"))
    with pytest.raises(Refused, match=r"shed\.things_present"):
        shed.things.insert(1, Thing(colour="red"))


def test_a_page_goes_on_after_the_last_one(shed: Shed) -> None:
    for number in range(5):
        shed.things[number] = Thing(colour="red", weight=number)
    first = shed.things.page(limit=2)
    assert (keys(first), first.next) == ([0, 1], 1)
    assert keys(shed.things.page(1, 2)) == [2, 3]
    assert keys(shed.things.page(3, 2, reverse=True)) == [2, 1]
    assert keys(shed.things.page(where=lambda it: it.weight % 2 == 1)) == [1, 3]
    assert shed.things.page(3).next is None


def test_a_page_looks_at_a_thousand_rows_and_no_more(shed: Shed) -> None:
    for number in range(1_002):
        shed.things[number] = Thing(colour="red")
    page = shed.things.page(where=lambda it: False)
    assert (page.rows, page.next) == ((), 999)
    assert shed.things.page(999, where=lambda it: False).next is None


def test_rows_under_a_part_of_the_key(shed: Shed) -> None:
    anna, bella = b"a" * 20, b"b" * 20
    for key in ((1, anna, "x"), (1, bella, "y"), (2, anna, "z")):
        shed.pairs[key] = 1
    assert keys(shed.pairs.page(under=1)) == [(1, anna, "x"), (1, bella, "y")]
    assert keys(shed.pairs.page(under=(1, bella))) == [(1, bella, "y")]
    assert shed.pairs.first() == ((1, anna, "x"), 1)
    assert shed.pairs.last(under=1) == ((1, bella, "y"), 1)
    assert shed.pairs.first(under=3) is None
    assert shed.pairs.last(under=3) is None


def test_an_index_lists_rows_by_what_they_hold(shed: Shed) -> None:
    for number, colour in enumerate(("red", "blue", "red", "", "red")):
        shed.things[number] = Thing(colour=colour)
    assert keys(shed.by_colour.page("red")) == [0, 2, 4]
    first = shed.by_colour.page("red", limit=2)
    assert (keys(first), first.next) == ([0, 2], 2)
    assert keys(shed.by_colour.page("red", after=2)) == [4]
    shed.things[0] = Thing(colour="blue", weight=3)
    shed.things[1] = Thing(colour="blue", weight=3)
    shed.things.remove(2)
    shed.things.remove(3)
    assert keys(shed.by_colour.page("red")) == [4]
    assert shed.by_colour.first("blue") == (0, Thing(colour="blue", weight=3))
    assert shed.by_colour.first("green") is None


def test_a_cell_has_a_default_and_a_value(shed: Shed) -> None:
    assert shed.total.value == 7
    shed.total.value += 1
    assert shed.total.value == 8


def test_a_number_out_of_its_range_is_refused_and_another_type_is_a_defect(shed: Shed) -> None:
    for weight in (-1, 2**53):
        with pytest.raises(Refused) as refused:
            shed.things[1] = Thing(colour="red", weight=weight)
        assert refused.value.code == OVERFLOW
        with pytest.raises(Refused) as refused:
            shed.total.value = weight
        assert refused.value.code == OVERFLOW
    with pytest.raises(Refused):
        shed.things[1] = Thing(colour="a colour that is too long")
    with pytest.raises(TypeError):
        shed.total.value = True
    with pytest.raises(TypeError):
        shed.things[1] = Thing(colour=7)  # type: ignore[arg-type]


def test_reading_writing_and_scanning_use_weight() -> None:
    shed, runtime = opened(MemoryState(), limit=2_000)
    shed.things[1] = Thing(colour="")
    used = runtime.meter.used
    assert used > 500
    for action in (lambda: [shed.things.get(1) for _ in range(20)], lambda: list(shed.things.all())):
        runtime.meter.used = 1_950
        with pytest.raises(Refused) as refused:
            action()
        assert refused.value.code == OUT_OF_WEIGHT


def committed(shed: Shed, state: MemoryState) -> None:
    state.apply({"shed": shed.space.changes()})


def test_what_was_written_merges_with_what_is_committed_in_both_directions() -> None:
    state = MemoryState()
    shed, _ = opened(state)
    for number in (1, 3, 5, 7):
        shed.things[number] = Thing(colour="old")
    committed(shed, state)
    shed, runtime = opened(state)
    assert keys(shed.things.page()) == [1, 3, 5, 7]
    shed.things[2] = Thing(colour="new")
    shed.things[3] = Thing(colour="new")
    shed.things.remove(5)
    shed.things[9] = Thing(colour="new")
    mark = len(runtime.journal)
    shed.things[4] = Thing(colour="undone")
    shed.things[2] = Thing(colour="undone")
    roll_back(runtime.journal, mark)
    assert keys(shed.things.page()) == [1, 2, 3, 7, 9]
    assert keys(shed.things.page(reverse=True)) == [9, 7, 3, 2, 1]
    assert shed.things[2].colour == "new"
    shed.things[4] = Thing(colour="again")
    assert keys(shed.things.page(2, 2)) == [3, 4]


def test_a_row_that_came_and_went_in_one_block_is_no_change() -> None:
    state = MemoryState()
    shed, _ = opened(state)
    shed.total.value = 1
    shed.things[1] = Thing(colour="red")
    shed.things.remove(1)
    assert list(shed.space.changes()) == [b"total\x00"]
    committed(shed, state)
    assert state.module("shed") == {b"total\x00": b"\x01"}


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), st.integers(0, 8), st.sampled_from(["red", "blue", ""])),
        st.tuples(st.just("remove"), st.integers(0, 8), st.just("")),
        st.tuples(st.sampled_from(["mark", "undo", "commit", "read"]), st.just(0), st.just("")),
    ),
    max_size=60,
)


@given(OPERATIONS)
def test_a_table_and_its_index_behave_like_a_dictionary(operations: list[tuple[str, int, str]]) -> None:
    state = MemoryState()
    shed, runtime = opened(state)
    model: dict[int, str] = {}
    marked: tuple[int, dict[int, str]] = (0, {})
    for what, number, colour in operations:
        match what:
            case "set":
                shed.things[number] = Thing(colour=colour)
                model[number] = colour
            case "remove" if number in model:
                shed.things.remove(number)
                del model[number]
            case "mark":
                marked = (len(runtime.journal), dict(model))
            case "undo":
                roll_back(runtime.journal, marked[0])
                model = dict(marked[1])
            case "commit":
                committed(shed, state)
                shed, runtime = opened(state)
                marked = (0, dict(model))
        assert {key: row.colour for key, row in shed.things.all()} == model
        assert keys(shed.by_colour.page("red")) == sorted(key for key, held in model.items() if held == "red")


def test_a_row_of_another_type_is_a_defect_of_the_module_s(shed: Shed) -> None:
    """Even one that looks the same."""

    class Lookalike(Record):
        colour: Colour
        weight: Amount = 0

    with pytest.raises(TypeError, match="expected Thing, got Lookalike"):
        shed.things[1] = Lookalike(colour="red")  # type: ignore[assignment]
