"""Entries of the state, as whoever compares two of them reads them."""

from __future__ import annotations

import pytest

from city.testing import Town
from consensus.signing import sha256

BODY = sha256(b"why")


@pytest.fixture
def lived(town: Town) -> Town:
    """A town whose modules have rows of every kind: tables, an index, cells, parameters."""
    anna = town.person(coins=150)
    town.govern("tools.add", tool=7, called="ladder")
    anna.sends("tools.borrow", tool=7)
    anna.sends("governance.propose", title="A lamp", body_hash=BODY, messages=())
    town.govern("governance.set_param", module="coin", name="weight_price", value=0)
    return town


def test_every_entry_has_a_name_and_a_value(lived: Town) -> None:
    shown = {}
    for module in lived.app.module_names:
        for key, value in lived.state.module(module).items():
            entry = lived.app.entry_to_json(module, key, value)
            assert entry["entry"] != key.hex(), f"{module}: {entry}"
            shown[f"{module}.{entry['entry']}"] = entry["value"]
    anna = shown["tools.tools[7]"]["holder"]
    assert shown["tools.tools[7]"]["name"] == "ladder"
    assert shown[f"tools.by_holder[{anna}, 7]"] == "listed"
    assert shown[f"coin.balances[{anna}]"] == 150 - 100
    assert shown["governance.next_proposal"] == 2
    assert shown["coin.param[weight_price]"] == 0
    assert shown["governance.proposals[1]"]["title"] == "A lamp"


def test_what_is_absent_is_null(lived: Town) -> None:
    for module in lived.app.module_names:
        for key in lived.state.module(module):
            entry = lived.app.entry_to_json(module, key, None)
            assert (entry["entry"] != key.hex(), entry["value"]) == (True, None)


@pytest.mark.parametrize(
    ("module", "key", "value"),
    [
        ("nobody", b"rows\x00", b"\x01"),
        ("tools", b"rows\x00", b"\x01"),
        ("tools", b"tools\x00\x01", b"\x01"),
        ("tools", b"tools\x00" + bytes(9), b"\x01"),
        ("tools", b"tools\x00" + bytes(8), b"\xc1"),
        ("tools", b"\xff\x00", b"\x01"),
        ("coin", b"supply\x00\x01", b"\x01"),
    ],
)
def test_what_this_release_does_not_know_is_shown_raw(town: Town, module: str, key: bytes, value: bytes) -> None:
    assert town.app.entry_to_json(module, key, value) == {"entry": key.hex(), "value": value.hex()}
