"""One value, one encoding; and nothing a stranger sends raises anything but BadMessage."""

from __future__ import annotations

import tracemalloc

import msgpack
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from consensus.codec import DEPTH_MAX, BadMessage, Wire, decode, decode_own, encode, encode_array, encode_checked

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.binary(max_size=40)
    | st.text(st.characters(codec="utf-8"), max_size=40)
)
wires = st.recursive(scalars, lambda inner: st.lists(inner, max_size=5).map(tuple), max_leaves=20)


def code_of(data: bytes, bytes_max: int = 2**20) -> str:
    """The code that *data* is refused with."""
    with pytest.raises(BadMessage) as error:
        decode(data, bytes_max=bytes_max)
    return error.value.code


def code_without_room(data: bytes) -> str:
    """The code that *data* is refused with, before memory is taken for what it announces."""
    tracemalloc.start()
    try:
        code = code_of(data)
        assert tracemalloc.get_traced_memory()[1] < 100_000
        return code
    finally:
        tracemalloc.stop()


@given(wires)
def test_what_is_encoded_comes_back(value: Wire) -> None:
    """Values and their types: True is not 1, bytes are not text."""
    decoded = decode(encode(value), bytes_max=2**20)
    assert (decoded, repr(decoded)) == (value, repr(value))


@given(st.binary(max_size=60))
@settings(max_examples=300)
@example(b"")
@example(b"\xc1")
@example(b"\xd6\xff\x00\x00\x00\x00")
@example(b"\xc7\x0c\xff" + bytes(12))
@example(b"\xd4\x05\x00")
@example(b"\xdd\xff\xff\xff\xff")
@example(b"\xdf\xff\xff\xff\xff")
@example(b"\xc6\xff\xff\xff\xff")
@example(b"\xa1\xff")
@example(b"\x81\x90\x01")
@example(b"\x81\x80\x01")
@example(b"\x91" * 2000 + b"\xc0")
def test_any_bytes_are_the_one_encoding_or_a_bad_message(data: bytes) -> None:
    """No other exception, and no second way to write a value."""
    try:
        value = decode(data, bytes_max=2**20)
    except BadMessage:
        return
    assert encode(value) == data


@given(wires, st.data())
def test_a_changed_byte_gives_another_value_or_none(value: Wire, data: st.DataObject) -> None:
    """Never the same one."""
    raw = bytearray(encode(value))
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] ^= data.draw(st.integers(1, 255))
    try:
        other = decode(bytes(raw), bytes_max=2**20)
    except BadMessage:
        return
    assert repr(other) != repr(value)


@pytest.mark.parametrize(
    "data",
    [
        b"\xcc\x01",
        b"\xcd\x00\xff",
        b"\xce\x00\x00\xff\xff",
        b"\xcf" + bytes(7) + b"\x01",
        b"\xd0\x01",
        b"\xd0\xff",
        b"\xd1\xff\x80",
        b"\xd9\x01a",
        b"\xda\x00\x01a",
        b"\xc5\x00\x01a",
        b"\xdc\x00\x01\xc0",
        b"\xdd\x00\x00\x00\x01\xc0",
    ],
)
def test_longer_encodings_are_not_canonical(data: bytes) -> None:
    """Though MessagePack reads them."""
    msgpack.unpackb(data, raw=False)
    assert code_of(data) == "bad_message.not_canonical"


@pytest.mark.parametrize("value", [1.5, {}, {"a": 1}, {b"a": {}}, [1.0], [[{}]], msgpack.Timestamp(1)])
def test_floats_maps_and_extensions_cannot_stand_in_a_message(value: object) -> None:
    """At any depth."""
    assert code_of(msgpack.packb(value)) == "bad_message.malformed"


def test_extensions_of_others_are_refused() -> None:
    """Of any code."""
    assert code_of(msgpack.packb(msgpack.ExtType(5, b"a"))) == "bad_message.malformed"


@pytest.mark.parametrize("data", [b"", b"\x92\x01", b"\xc4\x05a", b"\xa1\xff", b"\xc1"])
def test_broken_bytes_are_malformed(data: bytes) -> None:
    """Cut short, not UTF-8, or no MessagePack at all."""
    assert code_of(data) == "bad_message.malformed"


def test_nothing_may_follow() -> None:
    """A message is all of its bytes."""
    assert code_of(b"\x01\x01") == "bad_message.trailing_bytes"


def test_size_is_checked_first() -> None:
    """To the byte, before anything is read."""
    data = encode(bytes(100))
    assert decode(data, bytes_max=len(data)) == bytes(100)
    assert code_of(data, len(data) - 1) == "bad_message.too_large"


def nested(depth: int) -> bytes:
    """Empty arrays, *depth* of them inside each other."""
    return b"\x91" * (depth - 1) + b"\x90"


def headers(*counts: int, width: int = 4) -> bytes:
    """Headers of arrays with these numbers of items, in 5 or 3 bytes."""
    first = b"\xdd" if width == 4 else b"\xdc"
    return b"".join(first + count.to_bytes(width, "big") for count in counts)


@pytest.mark.parametrize(("count", "width"), [(60_000, 4), (60_000, 2), (5_000, 4)])
def test_a_small_message_takes_no_large_memory(count: int, width: int) -> None:
    """A thousand long arrays inside each other are refused before room is made for them."""
    bomb = headers(*[count] * 1_000, width=width)
    bomb += b"\xc0" * count
    assert code_without_room(bomb) == "bad_message.too_deep"


MANY = b"\xc4\x40" + b"\xdd" * 64
"""A byte string that makes the codec look closer."""


@given(st.lists(wires, max_size=4), st.integers(0, 3))
def test_a_closer_look_refuses_nothing_that_is_sound(values: list[Wire], place: int) -> None:
    """Whatever stands beside bytes that look like headers."""
    value = (*values[:place], b"\xdc" * 40, *values[place:])
    assert decode(encode(value), bytes_max=2**20) == value


@pytest.mark.parametrize(
    "before",
    [b"\x01", b"\xff", b"\xc0", b"\xa2aa", b"\xc4\x01a", b"\xcc\xff", b"\x90", b"\x91\x01", b"\x92\x90\x91\x01"],
)
def test_what_stands_before_a_bomb_does_not_hide_it(before: bytes) -> None:
    """The closer look goes on after every kind of item, at the end of an array, too."""
    bomb = b"\x92" + before + headers(*[5_000] * 1_000) + b"\xc0" * 5_000
    assert code_without_room(bomb) == "bad_message.too_deep"


@pytest.mark.parametrize("around", [b"", b"\x91", b"\x92\x01", b"\x92\x90"])
def test_no_room_is_made_for_an_array_longer_than_the_message(around: bytes) -> None:
    """Though it stands no deeper than it may."""
    message = b"\x92" + MANY + around + headers(2**26)
    assert code_without_room(message) == "bad_message.malformed"


@pytest.mark.parametrize(
    "item",
    [
        *(0, 127, 128, -1, -32, -33, 2**8, 2**16, 2**32, 2**64 - 1, -(2**63), None, True, False),
        *("", "a" * 31, "a" * 32, "a" * 256, "a" * 65_536, b"", bytes(255), bytes(256), bytes(65_536)),
    ],
    ids=lambda item: f"{len(item)}_{type(item).__name__}" if isinstance(item, (str, bytes)) else str(item),
)
def test_a_closer_look_knows_every_kind_of_item(item: Wire) -> None:
    """At the borders of its encodings."""
    value = (b"\xdd" * 40, item, (item, item), item)
    assert decode(encode(value), bytes_max=2**20) == value


def test_a_closer_look_allows_the_same_depth() -> None:
    """To the last array."""
    deepest = b"\x92" + MANY + nested(DEPTH_MAX - 1)
    assert encode(decode(deepest, bytes_max=2**20)) == deepest
    assert code_of(b"\x92" + MANY + nested(DEPTH_MAX)) == "bad_message.too_deep"


@given(st.binary(max_size=60))
@settings(max_examples=200)
def test_a_closer_look_raises_nothing_else(data: bytes) -> None:
    """Any bytes after some that look like headers."""
    message = b"\x92" + MANY + data
    try:
        value = decode(message, bytes_max=2**20)
    except BadMessage:
        return
    assert encode(value) == message


@pytest.mark.parametrize(
    ("rest", "code"),
    [
        (b"", "bad_message.malformed"),
        (b"\xa5a", "bad_message.malformed"),
        (b"\xc5\xff\xff", "bad_message.malformed"),
        (b"\xd2\x00", "bad_message.malformed"),
        (b"\xdd\x00\x00\x00", "bad_message.malformed"),
        (headers(5), "bad_message.malformed"),
        (b"\x95\x01", "bad_message.malformed"),
        (b"\x80", "bad_message.malformed"),
        (b"\xcb" + bytes(8), "bad_message.malformed"),
        (b"\xc1", "bad_message.malformed"),
        (headers(0), "bad_message.not_canonical"),
        (b"\x01\x01", "bad_message.trailing_bytes"),
        (b"\x91" * DEPTH_MAX + b"\x01", "bad_message.too_deep"),
    ],
)
def test_a_closer_look_gives_the_same_codes(rest: bytes, code: str) -> None:
    """As without it."""
    assert code_of(b"\x92" + MANY + rest) == code


@pytest.mark.parametrize("count", [0, 1, 15, 16, 300, 70_000])
def test_arrays_of_every_header_pass_a_closer_look(count: int) -> None:
    """Of one, three and five bytes."""
    value = (b"\xdd" * 40, (1,) * count)
    assert decode(encode(value), bytes_max=2**20) == value


def test_depth_is_bounded() -> None:
    """At what the limit says, and far beyond it."""
    decode(nested(DEPTH_MAX), bytes_max=100)
    assert code_of(nested(DEPTH_MAX + 1)) == "bad_message.too_deep"
    assert code_of(nested(100_000)) in ("bad_message.too_deep", "bad_message.malformed")


@pytest.mark.parametrize("value", [1.5, {}, [{}], (1.0,), object(), bytearray(b"a"), {1}])
def test_what_has_no_encoding_is_our_defect(value: object) -> None:
    """A TypeError, not a message that others refuse."""
    with pytest.raises(TypeError):
        encode(value)


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1])
def test_integers_beyond_64_bits_are_our_defect(value: int) -> None:
    """Likewise."""
    with pytest.raises(OverflowError):
        encode(value)


def test_lists_encode_as_tuples() -> None:
    """Both are arrays."""
    assert encode([1, [2]]) == encode((1, (2,)))


def test_integers_take_the_shortest_form() -> None:
    """At each border."""
    lengths = {0: 1, 127: 1, 128: 2, 255: 2, 256: 3, 65_535: 3, 65_536: 5, 2**32 - 1: 5, 2**32: 9, -32: 1, -33: 2}
    assert {value: len(encode(value)) for value in lengths} == lengths


@pytest.mark.parametrize("count", [0, 1, 15, 16, 70_000])
def test_an_array_can_be_made_of_items_that_are_encoded_already(count: int) -> None:
    items = [(number, b"x") for number in range(count)]
    assert encode_array([encode(item) for item in items]) == encode(tuple(items))


def test_our_own_bytes_are_read_back_without_a_second_look() -> None:
    value = (1, "x", b"y", None, (True, -1))
    assert decode_own(encode(value)) == value


@given(st.integers(-(2**63), 2**64 - 1))
def test_an_integer_has_the_same_bytes_either_way(value: int) -> None:
    assert encode_checked(value) == encode(value)
