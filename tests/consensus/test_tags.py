"""Messages of several kinds share one wire, each under the tag of its place in the table."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from consensus.codec import BadMessage, encode
from consensus.shape import U63
from consensus.tags import TagTable


@dataclass(frozen=True, slots=True)
class First:
    """A kind."""

    number: U63


@dataclass(frozen=True, slots=True)
class Second:
    """Another kind with the same fields."""

    number: U63


TABLE = TagTable(First, Second)


@pytest.mark.parametrize("message", [First(7), Second(7)])
def test_a_message_comes_back_as_its_kind(message: First | Second) -> None:
    assert TABLE.from_bytes(TABLE.to_bytes(message), bytes_max=16) == message
    assert TABLE.from_wire(TABLE.to_wire(message)) == message


def test_tags_are_places_in_the_table() -> None:
    assert [TABLE.to_bytes(First(7)), TABLE.to_bytes(Second(7))] == [encode((0, (7,))), encode((1, (7,)))]


@pytest.mark.parametrize("value", [None, 0, (), (0,), (0, (7,), 1), b"\x00", ((0, (7,)),)])
def test_anything_but_a_tag_and_fields_is_refused(value: object) -> None:
    with pytest.raises(BadMessage) as refused:
        TABLE.from_bytes(encode(value), bytes_max=64)
    assert refused.value.code == "bad_message.malformed"


@pytest.mark.parametrize("tag", [-1, 2, 2**63, True, None, "0", b"\x00"])
def test_a_tag_outside_the_table_is_refused(tag: object) -> None:
    with pytest.raises(BadMessage) as refused:
        TABLE.from_bytes(encode((tag, (7,))), bytes_max=64)
    assert refused.value.code == "bad_message.unknown"


def test_fields_of_another_shape_are_refused() -> None:
    with pytest.raises(BadMessage):
        TABLE.from_bytes(encode((0, (-1,))), bytes_max=64)
    with pytest.raises(BadMessage):
        TABLE.from_bytes(encode((0, (7, 7))), bytes_max=64)


def test_a_message_beyond_the_limit_is_refused() -> None:
    with pytest.raises(BadMessage) as refused:
        TABLE.from_bytes(TABLE.to_bytes(First(7)), bytes_max=2)
    assert refused.value.code == "bad_message.too_large"


def test_a_kind_without_a_place_is_our_defect() -> None:
    with pytest.raises(KeyError):
        TABLE.to_bytes(7)
