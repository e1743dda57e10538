"""JSON says the same as the wire, and what does not fit is named by its path."""

from __future__ import annotations

import enum
import json
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from city.modules.coin import Output
from city.modules.governance import Choice
from city.sdk import Address, Amount, Count, Hash, Length, Limit, Page, Record, Signature, Size
from city.sdk.forms import BadJson, Forms, MessageForms, raw_to_json
from city.testing import Town
from consensus.address import from_text, to_text
from consensus.shape import I64, Anything, Unread
from consensus.transaction import Message


class Light(enum.IntEnum):
    """A lamp."""

    RED = 1
    GREEN = 2


class Lamp(Record):
    """Where a lamp stands, and how it is."""

    place: tuple[int, I64]
    light: Light = Light.RED
    keeper: Address | None = None


def refuse(given: Any, where: str) -> Message:
    """No message can be read here."""
    raise BadJson(where, "no message")


FORMS = Forms(MessageForms(refuse, lambda message: message.name))
ADDRESS = b"a" * 20

VALUES: list[tuple[Any, Any, Any]] = [
    (int, 7, 7),
    (bool, True, True),
    (str, "å", "å"),
    (bytes, b"", ""),
    (bytes, b"\x0f", "0f"),
    (Address, ADDRESS, to_text(ADDRESS)),
    (Hash, b"h" * 32, "68" * 32),
    (Annotated[bytes, Size(1, 3)], b"ab", "6162"),
    (Light, Light.GREEN, "green"),
    (Address | None, None, None),
    (tuple[int, str], (1, "x"), [1, "x"]),
    (tuple[int, ...], (1, 2), [1, 2]),
    (Lamp, Lamp(place=(1, -2), light=Light.GREEN), {"place": [1, -2], "light": "green", "keeper": None}),
    (Annotated[tuple[Lamp, ...], Count(2)], (), []),
    (Annotated[int, "a remark"], 5, 5),
]


@pytest.mark.parametrize(("kind", "value", "shown"), VALUES)
def test_values_are_read_as_they_are_written(kind: Any, value: Any, shown: Any) -> None:
    form = FORMS.of(kind)
    assert form.write(value) == shown
    assert form.read(json.loads(json.dumps(shown)), "") == value
    json.dumps(form.schema)


@pytest.mark.parametrize(
    ("kind", "given", "text"),
    [
        (int, "7", "x: expected an integer"),
        (int, True, "x: expected an integer"),
        (int, 7.0, "x: expected an integer"),
        (Limit, 0, "x: 0 is not in 1…1000"),
        (bool, 1, "x: expected true or false"),
        (str, 1, "x: expected text"),
        (str, "a\ud800", "x: half of a surrogate pair"),
        (Annotated[str, Length(2)], "abc", "x: 3 characters, at most 2"),
        (bytes, "0F", "x: expected bytes as lower-case hex"),
        (bytes, "0g", "x: expected bytes as lower-case hex"),
        (bytes, "0 0a", "x: expected bytes as lower-case hex"),
        (bytes, 5, "x: expected bytes as lower-case hex"),
        (Hash, "00", "x: expected 32 bytes"),
        (Hash, "", "x: expected bytes as lower-case hex"),
        (Annotated[bytes, Size(1, 3)], "00000000", "x: 4 bytes, expected 1…3"),
        (Address, 5, "x: expected an address"),
        (Address, "ting1q", "x: an address has 38"),
        (Light, "blue", "x: expected one of red, green"),
        (Light, ["red"], "x: expected one of red, green"),
        (tuple[int, str], [1], "x: expected an array of 2"),
        (tuple[int, str], "ab", "x: expected an array of 2"),
        (tuple[int, ...], {"a": 1}, "x: expected an array"),
        (tuple[int, ...], [1, "2"], r"x\[1\]: expected an integer"),
        (Annotated[tuple[int, ...], Count(1, 1)], [], "x: 0 items, expected 1…1"),
        (Lamp, [], "x: expected an object with place, light, keeper"),
        (Lamp, {}, r"x\.place: is missing"),
        (Lamp, {"place": [1, 1], "colour": 1}, r"x\.colour: unknown; known are place, light, keeper"),
        (Lamp, {"place": [1, 1], "keeper": "me"}, r"x\.keeper: an address begins with ting1"),
        (Annotated[Any, Unread()], 5, "x: can't be given as JSON"),
        (Page[int, int], {}, "x: can't be given as JSON"),
        (type(None), 5, "x: can't be given as JSON"),
        (Message, {}, "x: no message"),
    ],
)
def test_what_does_not_fit_is_named_by_its_path(kind: Any, given: Any, text: str) -> None:
    with pytest.raises(BadJson, match=text):
        FORMS.of(kind).read(given, "x")


def test_a_type_without_a_form_is_a_defect_found_at_once() -> None:
    with pytest.raises(TypeError, match="no JSON form"):
        FORMS.of(float)


def test_raw_values_are_shown_as_they_are() -> None:
    assert raw_to_json((1, b"\x01", ("x", None, True))) == [1, "01", ["x", None, True]]
    assert FORMS.of(Anything).write((b"\x01",)) == ["01"]
    assert FORMS.of(Message).write(Message("a", "b", ())) == "b"


@given(st.binary(min_size=20, max_size=20))
def test_addresses_go_through_text_unharmed(address: bytes) -> None:
    assert from_text(FORMS.of(Address).write(address)) == address


def test_messages_go_through_json_unharmed(town: Town) -> None:
    anna = town.stranger()
    messages = (
        town.message("coin.send", to=anna, amount=5),
        town.message("coin.multi_send", outputs=(Output(to=anna.address, amount=1),)),
        town.message("identity.grant", account=anna, role="guide", using="steward"),
        town.message("governance.vote", proposal=1, choice=Choice.VETO),
        town.message(
            "governance.propose",
            title="t",
            body_hash=b"b" * 32,
            messages=(
                town.message("coin.burn", amount=1),
                town.message("governance.propose", title="u", body_hash=b"c" * 32),
            ),
        ),
    )
    shown = [town.app.message_to_json(message) for message in messages]
    assert town.app.messages_from_json(json.loads(json.dumps(shown))) == messages
    assert shown[2] == {"identity.grant": {"account": anna.text, "role": "guide", "until": None, "using": "steward"}}


def test_every_schema_of_the_town_is_json(town: Town) -> None:
    described = json.loads(json.dumps(town.app.describe()))
    send = described["modules"]["coin"]["messages"]["send"]["args"]
    amount: Amount = send["properties"]["amount"]["maximum"]
    assert (amount, send["required"]) == (2**53 - 1, ["to", "amount"])
    assert described["modules"]["tools"]["params"]["late_fee"]["high"] == 1_000
    assert FORMS.of(Signature).schema["minLength"] == 128
