"""Parameters are read by a method's annotations, and complaints name the parameter."""

from __future__ import annotations

from typing import Any

import pytest

from node.rpc.errors import InvalidParams
from node.rpc.parameters import (
    AddressText,
    Base64,
    CursorJson,
    Flag,
    HashText,
    Height,
    JsonObject,
    Parameters,
    SignatureText,
    reading_of,
)


async def method(self: object, height: Height, hash_: HashText | None = None, flags: list[Flag] | None = None) -> None:
    """For the tests."""


PARAMETERS = Parameters(method)


def test_by_name_and_by_place() -> None:
    by_name = PARAMETERS.read({"height": 5, "hash": "00" * 32})
    assert by_name == {"height": 5, "hash_": bytes(32)}
    assert PARAMETERS.read([5, "0x" + "00" * 32]) == by_name
    assert PARAMETERS.read([5]) == {"height": 5}


def test_null_is_absent() -> None:
    assert PARAMETERS.read({"height": 5, "hash": None}) == {"height": 5}


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({}, "height is missing"),
        ({"height": None}, "height is missing"),
        ({"height": "5"}, "height must be an integer"),
        ({"height": True}, "height must be an integer"),
        ({"height": -1}, "height must be in"),
        ({"height": 2**63}, "height must be in"),
        ({"height": 1, "hash": "zz"}, "hash must be 32 bytes in hex"),
        ({"height": 1, "hash": "00"}, "hash must be 32 bytes in hex"),
        ({"height": 1, "hash": 5}, "hash must be 32 bytes in hex"),
        ({"height": 1, "flags": [1]}, "flags must be true or false"),
        ({"height": 1, "flags": {}}, "flags must be an array"),
        ({"height": 1, "flags": [True] * 1001}, "flags must have at most 1000 items"),
        ({"height": 1, "depth": 1}, "no parameter 'depth'"),
        ([1, "00" * 32, [], 4], "at most 3 parameters"),
    ],
)
def test_a_wrong_parameter_is_named(given: Any, text: str) -> None:
    with pytest.raises(InvalidParams, match=text):
        PARAMETERS.read(given)


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Base64, "no base64!"),
        (Base64, 5),
        (SignatureText, "00"),
        (SignatureText, "zz" * 64),
        (AddressText, "ting1nothing"),
        (CursorJson, [1, 2]),
        (CursorJson, [1, 2, -2]),
        (CursorJson, [-1, 0, 0]),
        (JsonObject, []),
    ],
)
def test_values_of_other_types_are_refused_with_a_sentence(annotation: Any, value: Any) -> None:
    with pytest.raises(ValueError, match="must be"):
        reading_of(annotation).read(value)


def test_a_signature_is_taken_in_hex_and_in_base64() -> None:
    read = reading_of(SignatureText).read
    assert read("07" * 64) == read(
        "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBw=="
    )


def test_an_annotation_without_a_reading_is_a_defect() -> None:
    with pytest.raises(TypeError):
        reading_of(bytes)


def test_what_is_no_base64_is_said_in_the_same_words_whatever_it_is() -> None:
    for text in ("é", "AAA", "A A=", "\ud800"):
        with pytest.raises(ValueError, match=r"^must be base64$"):
            reading_of(Base64).read(text)
