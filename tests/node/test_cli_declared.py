"""Options of messages and queries: what people may write instead of pasting hex and JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from consensus.address import to_text
from consensus.signing import sha256
from node.cli.declared import FILE_BYTES_MAX, Declared
from node.cli.place import Place
from node.cli.screen import Mistake, table
from node.keys import KeyFile

HASH = {"type": "string", "pattern": "^([0-9a-f]{2})*$", "minLength": 64, "maxLength": 64}
SCHEMA = {
    "properties": {
        "to": {"type": "string", "pattern": "^ting1", "title": "address"},
        "amount": {"type": "integer", "minimum": 1, "maximum": 100},
        "public_key": HASH,
        "note": {"type": "string", "maxLength": 10},
        "choice": {"type": "string", "enum": ["yes", "no"]},
        "open": {"type": "boolean"},
        "rows": {"type": "array", "items": {"type": "integer"}, "default": []},
        "memo_hash": {"anyOf": [HASH, {"type": "null"}], "default": None},
        "from": {"type": "integer", "minimum": 0, "maximum": 2**63 - 1, "default": 5},
        "rule": {"type": "object"},
    },
    "required": ["to", "amount"],
}
DECLARED = Declared(SCHEMA)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    KeyFile.create("account", seed=sha256(b"anna")).write(tmp_path / "keys" / "accounts" / "anna.json")
    KeyFile.create("validator", seed=sha256(b"validator")).write(tmp_path / "keys" / "validator.json")
    return Place(tmp_path, None)


def read(place: Place, **texts: str) -> dict[str, Any]:
    """The values of options given as texts."""
    return DECLARED.values({f"argument_{name}": text for name, text in texts.items()}, place)


def test_each_argument_has_an_option_with_its_bounds() -> None:
    options = {option.opts[0]: option for option in DECLARED.options()}
    assert options["--amount"].required
    assert options["--amount"].help == "1 to 100"
    assert options["--to"].metavar == "ADDRESS|NAME"
    assert options["--choice"].metavar == "yes|no"
    assert options["--memo-hash"].metavar == options["--public-key"].metavar == "HEX|NAME|@FILE"
    assert not options["--memo-hash"].required
    assert options["--rows"].help == "a JSON array; default []"
    assert options["--arg-from"].help == "default 5"


def test_accounts_and_keys_go_by_name(place: Place) -> None:
    anna = place.account("anna")
    assert read(place, to="anna") == read(place, to=to_text(anna.address)) == {"to": to_text(anna.address)}
    assert read(place, public_key="anna") == {"public_key": anna.public_key.hex()}
    validator = KeyFile.load(place.home.validator_key)
    assert read(place, public_key="validator") == {"public_key": validator.public_key.hex()}
    assert read(place, public_key="ab" * 32) == {"public_key": "ab" * 32}
    assert read(place, public_key="node") == {"public_key": "node"}


def test_a_file_stands_for_its_hash_or_its_json(place: Place, tmp_path: Path) -> None:
    file = tmp_path / "text"
    file.write_bytes(b"[1, 2]")
    assert read(place, memo_hash=f"@{file}") == {"memo_hash": sha256(b"[1, 2]").hex()}
    assert read(place, rows=f"@{file}") == {"rows": [1, 2]}
    file.write_bytes(b"x" * (FILE_BYTES_MAX + 1))
    with pytest.raises(Mistake, match="larger than"):
        read(place, rows=f"@{file}")


def test_values_have_their_types(place: Place) -> None:
    given = read(place, amount="7", note="7", choice="yes", open="true", rows="[7]", rule='{"a": 7}')
    assert given == {"amount": 7, "note": "7", "choice": "yes", "open": True, "rows": [7], "rule": {"a": 7}}


@pytest.mark.parametrize(
    ("texts", "why"),
    [
        ({"amount": "seven"}, "--amount must be a whole number"),
        ({"amount": "7.5"}, "--amount must be a whole number"),
        ({"amount": "٧"}, "--amount must be a whole number"),
        ({"open": "maybe"}, "--open must be true or false"),
        ({"rows": "[7"}, "--rows must be JSON"),
        ({"rows": "@/nonexistent"}, "--rows: /nonexistent can't be read"),
        ({"to": "nobody"}, "--to: 'nobody' is neither"),
    ],
)
def test_a_wrong_value_names_its_option(place: Place, texts: dict[str, str], why: str) -> None:
    with pytest.raises(Mistake, match=why):
        read(place, **texts)


def test_answers_are_shown_as_indented_lines() -> None:
    shown = table({"a": 1, "b": {"c": None, "d": [True, {"e": 2, "f": 3}]}, "g": []})
    assert shown == ["a: 1", "b:", "  c: none", "  d:", "    - yes", "    - e: 2", "      f: 3", "g: none"]
    assert table("x") == ["x"]
    assert table([[1, 2]]) == ["- - 1", "  - 2"]
