"""The table in consensus/README.md leads somewhere: every line of Algorithm 1 to a function and a test that exist."""

from __future__ import annotations

import re
from pathlib import Path

from consensus.machine import Machine

HERE = Path(__file__).parent
TEXT = (HERE.parent.parent / "consensus" / "README.md").read_text("utf-8")
ROWS = [row for row in TEXT.splitlines() if row.startswith("| L")]


def test_every_line_of_the_algorithm_is_in_the_table() -> None:
    lines: set[int] = set()
    for row in ROWS:
        for span in row.split("|")[1].split(","):
            numbers = [int(number) for number in re.findall(r"\d+", span)]
            lines |= set(range(numbers[0], numbers[-1] + 1))
    assert lines == set(range(1, 68))


def test_named_functions_exist() -> None:
    names = {name for row in ROWS for name in re.findall(r"`(\w+)`", row.split("|")[2]) if name != "Machine"}
    assert len(names) > 10
    assert [name for name in sorted(names) if not hasattr(Machine, name)] == []


def test_named_tests_exist() -> None:
    sources = "".join(path.read_text("utf-8") for path in sorted(HERE.glob("test_machine_*.py")))
    names = set(re.findall(r"`(test_\w+)`", TEXT))
    assert len(names) > 20
    assert [name for name in sorted(names) if f"def {name}(" not in sources] == []
