"""Arguments have one encoding, and a new version may add some at the end."""

from __future__ import annotations

from typing import Annotated

import pytest

from city.sdk import event
from city.sdk.refusal import OVERFLOW, Refused
from city.sdk.signature import Signature
from consensus.codec import BadMessage
from consensus.shape import Range

Small = Annotated[int, Range(1, 9)]


def call(ctx: object, *, a: Small, b: bytes | None = None, c: Small = 3) -> None:
    """A handler."""


def old(ctx: object, *, a: Small) -> None:
    """The same handler, one version earlier."""


SIGNATURE = Signature(call)


@pytest.mark.parametrize(
    ("values", "wire"),
    [
        ({"a": 1}, (1,)),
        ({"a": 1, "b": b"x"}, (1, b"x")),
        ({"a": 1, "c": 4}, (1, None, 4)),
        ({"a": 1, "b": None, "c": 3}, (1,)),
    ],
)
def test_trailing_defaults_are_left_out(values: dict[str, object], wire: tuple[object, ...]) -> None:
    assert SIGNATURE.write(values) == wire
    read = SIGNATURE.read(wire)
    assert {"b": None, "c": 3, **read} == {"b": None, "c": 3, **values}


@pytest.mark.parametrize(
    ("wire", "text"),
    [
        ((), "expected an array of 1 to 3 arguments: a, b, c"),
        ((1, None, 4, 5), "expected an array of 1 to 3 arguments"),
        ([1], "expected an array"),
        ((1, None), "b: a trailing argument with its default is left out"),
        ((1, None, 3), "c: a trailing argument with its default is left out"),
        ((0,), "a: 0 is not in 1…9"),
        ((1, "text"), "b: expected bytes"),
    ],
)
def test_any_other_encoding_is_a_bad_message(wire: object, text: str) -> None:
    with pytest.raises(BadMessage, match=text):
        SIGNATURE.read(wire)


def test_what_an_older_version_wrote_is_read_by_a_newer_one() -> None:
    assert SIGNATURE.read(Signature(old).write({"a": 5})) == {"a": 5}
    with pytest.raises(BadMessage, match="expected an array of 1 arguments"):
        Signature(old).read((1, 2))


def test_writing_checks_the_values() -> None:
    with pytest.raises(Refused) as refused:
        SIGNATURE.write({"a": 10})
    assert refused.value.code == OVERFLOW


def test_arguments_with_a_default_come_last() -> None:
    def wrong(ctx: object, *, a: int = 1, b: int) -> None:
        """Not a handler."""

    with pytest.raises(TypeError, match="come last"):
        Signature(wrong)


def test_arguments_are_named() -> None:
    def wrong(self: object, ctx: object, a: int) -> None:
        """Not a handler."""

    with pytest.raises(TypeError, match=r"wrong: a must be a keyword argument, after a \*"):
        Signature(wrong)


def test_an_event_has_no_field_that_would_hide_whose_event_it_is() -> None:
    with pytest.raises(TypeError, match=r"Renamed: an event has no fields of its own called \['module', 'name'\]"):

        @event
        class Renamed:
            name: str
            module: str
