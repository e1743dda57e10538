"""The pages say what the modules declare, today."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

from city import reference
from city.app import Town
from city.reference import FOLDER, pages, type_text, write
from city.sdk import Module
from tests.city.tools import ToolLibrary

PROGRAM = Path(reference.__file__)


def test_the_pages_in_the_repository_are_current() -> None:
    made = pages(Town())
    assert sorted(path.name for path in FOLDER.glob("*.md")) == sorted(made)
    for name, text in made.items():
        assert (FOLDER / name).read_text(encoding="utf-8") == text, f"run python -m city.reference: {name} is old"


def test_a_page_has_messages_queries_events_parameters_refusals_state_and_invariants() -> None:
    town = Town([*(kind for kind in Town().registry.modules), ToolLibrary])
    page = pages(town)["tools.md"]
    for part in (
        "### `tools.borrow`",
        "By authority of `governance` only.",
        "### `tools/shelf`",
        "Answers a page of integer 0…2⁶³−1 → Tool {name, holder, due}.",
        "### `tools.returned`",
        "| `tools.late_fee` |",
        "| `tools.taken` | tool {tool} is out until {due} |",
        "| `tools` | integer 0…2⁶³−1 | Tool {name, holder, due} |",
        "- `what_is_out_is_due`",
    ):
        assert part in page


def test_a_module_that_declares_little_has_a_short_page() -> None:
    class Base(Module):
        """No module by itself: it has no name."""

    class Plain(Base):
        """Declares nothing."""

        name, version = "plain", 3

    assert pages(Town([Plain]))["plain.md"] == "# plain\n\nVersion 3. Declares nothing.\n"


def test_writing_the_pages_removes_those_of_modules_that_are_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "gone.md").write_text("old")
    monkeypatch.setattr(sys, "argv", ["reference", str(folder)])
    runpy.run_path(str(PROGRAM), run_name="__main__")
    assert not (folder / "gone.md").exists()
    assert (folder / "coin.md").read_text(encoding="utf-8").startswith("# coin\n")
    write(folder)
    assert len(list(folder.glob("*.md"))) == 6


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({}, "anything"),
        ({"type": "boolean"}, "true or false"),
        ({"type": "string", "pattern": "", "minLength": 0, "maxLength": 8}, "bytes as hex"),
        ({"type": "array", "items": {"type": "boolean"}, "minItems": 0}, "array of true or false"),
        ({"prefixItems": [{"type": "boolean"}, {}]}, "[true or false, anything]"),
    ],
)
def test_a_type_is_said_in_a_few_words(schema: dict[str, object], text: str) -> None:
    assert type_text(schema) == text
