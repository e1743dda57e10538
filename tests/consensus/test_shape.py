"""Annotations are law on the wire: what fits comes back equal, what does not is a BadMessage naming the field."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.codec import BadMessage, encode
from consensus.shape import (
    I64,
    U63,
    Address,
    Anything,
    Count,
    Encoded,
    Hash,
    Length,
    Range,
    Size,
    from_bytes,
    shape_of,
    to_bytes,
)


class Colour(enum.IntEnum):
    """Some members."""

    RED = 1
    BLUE = 2


@dataclass(frozen=True, slots=True)
class Inner:
    """A record inside a record."""

    number: U63
    note: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outer:
    """One field of every kind."""

    natural: int
    signed: I64
    small: Annotated[int, Range(-1, 5)]
    raw: bytes
    short: Annotated[bytes, Size(1, 3)]
    hash: Hash
    address: Address | None
    text: str
    name: Annotated[str, Length(4)]
    flag: bool
    colour: Colour
    inner: Inner
    many: tuple[Inner, ...]
    few: Annotated[tuple[Colour, ...], Count(2, 1)]
    pair: tuple[bool, bytes]
    rest: Anything
    noted: Annotated[bytes, "a mark that means nothing here"]


texts = st.text(st.characters(codec="utf-8"), max_size=8)
inners = st.builds(Inner, st.integers(0, 2**63 - 1), st.none() | texts)
outers = st.builds(
    Outer,
    natural=st.integers(0, 2**63 - 1),
    signed=st.integers(-(2**63), 2**63 - 1),
    small=st.integers(-1, 5),
    raw=st.binary(max_size=8),
    short=st.binary(min_size=1, max_size=3),
    hash=st.binary(min_size=32, max_size=32),
    address=st.none() | st.binary(min_size=20, max_size=20),
    text=texts,
    name=st.text(st.characters(codec="utf-8"), max_size=4),
    flag=st.booleans(),
    colour=st.sampled_from(Colour),
    inner=inners,
    many=st.lists(inners, max_size=3).map(tuple),
    few=st.lists(st.sampled_from(Colour), min_size=1, max_size=2).map(tuple),
    pair=st.tuples(st.booleans(), st.binary(max_size=3)),
    rest=st.recursive(st.none() | st.integers(0, 9), lambda inner: st.lists(inner, max_size=2).map(tuple)),
    noted=st.binary(max_size=3),
)
OUTER = Outer(
    natural=1,
    signed=-1,
    small=0,
    raw=b"",
    short=b"a",
    hash=bytes(32),
    address=None,
    text="",
    name="four",
    flag=True,
    colour=Colour.BLUE,
    inner=Inner(1, None),
    many=(),
    few=(Colour.RED,),
    pair=(False, b""),
    rest=(1, (None,)),
    noted=b"",
)
NAMES = tuple(OUTER.__slots__)


@given(outers)
def test_what_fits_comes_back_equal(value: Outer) -> None:
    """Enum members as themselves, and to the same bytes."""
    data = to_bytes(value)
    decoded = from_bytes(Outer, data)
    assert decoded == value
    assert isinstance(decoded.colour, Colour)
    assert to_bytes(decoded) == data


@given(outers, st.data())
@settings(max_examples=60)
def test_a_changed_byte_is_refused_or_means_something_else(value: Outer, data: st.DataObject) -> None:
    """No two messages mean the same, and no stranger raises anything but BadMessage."""
    raw = bytearray(to_bytes(value))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        decoded = from_bytes(Outer, bytes(raw))
    except BadMessage:
        return
    assert to_bytes(decoded) == bytes(raw)


def refusal(**fields: Any) -> BadMessage:
    """What the record with these wire values in place of `OUTER`'s is refused with."""
    values = dict(zip(NAMES, shape_of(Outer).to_wire(OUTER), strict=True))  # type: ignore[arg-type]  # an array
    with pytest.raises(BadMessage) as error:
        from_bytes(Outer, encode(tuple((values | fields)[name] for name in NAMES)))
    return error.value


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("natural", -1),
        ("natural", 2**63),
        ("signed", 2**63),
        ("small", -2),
        ("small", 6),
        ("short", b""),
        ("short", b"four"),
        ("hash", bytes(31)),
        ("hash", bytes(33)),
        ("address", bytes(19)),
        ("name", "fives"),
        ("colour", 3),
        ("few", ()),
        ("few", (1, 1, 1)),
    ],
)
def test_what_is_out_of_range_is_refused_by_name(field: str, value: Any) -> None:
    """On either side."""
    error = refusal(**{field: value})
    assert error.code == "bad_message.out_of_range"
    assert str(error).startswith(f"{field}: ")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("natural", True),
        ("natural", None),
        ("natural", "1"),
        ("raw", "text"),
        ("raw", None),
        ("short", "a"),
        ("hash", "a" * 32),
        ("address", 0),
        ("text", b"raw"),
        ("name", b"raw"),
        ("flag", 1),
        ("flag", None),
        ("inner", (1,)),
        ("inner", None),
        ("inner", (1, None, 2)),
        ("many", 5),
        ("many", ((1, 2),)),
        ("few", b""),
        ("pair", (False,)),
        ("pair", 7),
        ("pair", (False, "text")),
    ],
)
def test_what_is_of_another_type_is_refused_by_name(field: str, value: Any) -> None:
    """True is no number, text is no bytes, and an array has its length."""
    error = refusal(**{field: value})
    assert error.code == "bad_message.malformed"
    assert str(error).startswith(f"{field}: ")


@pytest.mark.parametrize("value", [True, None, "1", (), b""])
def test_an_enum_is_a_number(value: Any) -> None:
    """Though True equals 1."""
    assert str(refusal(colour=value)).startswith("colour: ")


def test_the_path_to_a_wrong_field_is_named() -> None:
    """Through all records."""
    assert str(refusal(inner=(-1, None))).startswith("inner: number: -1")


def test_of_two_wrong_fields_the_first_is_named() -> None:
    assert str(refusal(flag=1, noted=None)).startswith("flag: ")


@pytest.mark.parametrize("wire", [(), (1,), (1, None, 3), 5, None, b""])
def test_a_record_is_an_array_of_its_fields(wire: Any) -> None:
    """Neither more nor less."""
    with pytest.raises(BadMessage, match="Inner as an array of 2"):
        from_bytes(Inner, encode(wire))


def test_the_size_limit_is_the_caller_s() -> None:
    """Where it knows a smaller one."""
    data = to_bytes(Inner(1, "a"))
    assert from_bytes(Inner, data, bytes_max=len(data)) == Inner(1, "a")
    with pytest.raises(BadMessage, match="at most"):
        from_bytes(Inner, data, bytes_max=len(data) - 1)


@pytest.mark.parametrize("annotation", [float, dict[str, int], int | str, int | str | None, list[int], object, 5])
def test_other_types_have_no_shape(annotation: Any) -> None:
    """Found when the shape is asked for, which is at import."""
    with pytest.raises(TypeError):
        shape_of(annotation)


def test_fields_that_are_computed_stay_off_the_wire() -> None:
    """Only what the constructor takes is sent."""
    import dataclasses

    @dataclass(frozen=True)
    class Computed:
        number: U63
        double: int = dataclasses.field(init=False, default=0)

    shape = shape_of(Computed)
    assert shape.to_wire(Computed(4)) == (4,)
    assert shape.from_wire((4,)) == Computed(4)


def test_a_record_that_checks_itself_does_so_when_it_is_read() -> None:
    """Though its slots could be filled without its constructor."""

    @dataclass(frozen=True, slots=True)
    class Even:
        number: U63

        def __post_init__(self) -> None:
            if self.number % 2:
                raise BadMessage("odd", "bad_message.odd")

    shape = shape_of(Even)
    assert shape.from_wire((4,)) == Even(4)
    with pytest.raises(BadMessage, match="odd"):
        shape.from_wire((5,))


def test_what_stays_unread_can_stand_in_an_array_or_be_missing() -> None:
    assert shape_of(tuple[Anything, ...]).from_wire((1, (2,))) == (1, (2,))
    assert [shape_of(Anything | None).from_wire(value) for value in ((2,), None)] == [(2,), None]


def test_what_stays_unread_can_be_bounded_in_bytes() -> None:
    shape = shape_of(Annotated[Anything, Encoded(4)])
    assert shape.from_wire((1, (2,))) == (1, (2,))
    assert shape.to_wire((1, (2,))) == (1, (2,))
    with pytest.raises(BadMessage, match="5 bytes, at most 4") as error:
        shape.from_wire((1, (2, 3)))
    assert error.value.code == "bad_message.out_of_range"
