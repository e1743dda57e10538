"""What could come out differently on two machines does not stand in a module."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

from city.sdk import lint
from city.sdk.lint import Finding, check, main

MODULES = sorted((Path(__file__).parents[2] / "city" / "modules").glob("*.py"))
PROGRAM = Path(lint.__file__)
GUIDE = Path(__file__).parent / "tools.py"


@pytest.mark.parametrize("path", [*MODULES, GUIDE], ids=lambda path: path.name)
def test_the_towns_modules_are_clean(path: Path) -> None:
    assert check(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("source", "word"),
    [
        ("x = 0.5", "floats"),
        ("x = 1j", "floats"),
        ("x = float(1)", "floats"),
        ("x = 1 / 2", "true division"),
        ("x /= 2", "true division"),
        ("x = hash(b'')", "hash()"),
        ("x = id(1)", "id()"),
        ("x = {1, 2}", "a set has no order"),
        ("x = {i for i in y}", "a set has no order"),
        ("x = set(y)", "a set has no order"),
        ("try:\n    f()\nexcept Exception:\n    pass", "may not catch"),
        ("try:\n    f()\nexcept* OSError:\n    pass", "may not catch"),
        ("import random", "random may not be imported"),
        ("import os.path", "os.path may not be imported"),
        ("from time import time", "time may not be imported"),
        ("from consensus.codec import encode", "consensus.codec may not be imported"),
        ("from . import other", ". may not be imported"),
        ("from .other import thing", ".other may not be imported"),
        ("from city.sdkx import thing", "city.sdkx may not be imported"),
        ("x = name.lower()", "Unicode tables"),
        ("def f():\n    global x", "nothing between calls"),
        ("async def f():\n    pass", "does not wait"),
        ("print('hello')", "events"),
    ],
)
def test_what_may_differ_is_found(source: str, word: str) -> None:
    (finding, *_) = check(source)
    assert word in finding.text


@pytest.mark.parametrize(
    "source",
    ["x = 7 // 2", "import city.sdk", "from city.sdk import Table", "import enum", "x = {'a': 1}", "f(1)", "o.f()"],
)
def test_what_cannot_differ_is_not_found(source: str) -> None:
    assert check(source) == []


def test_a_refusal_that_is_made_and_not_raised_is_found() -> None:
    source = """
class Tools:
    taken = Refusal("no")
    other, pair = Refusal("a"), Refusal("b")
    def borrow(self, ctx):
        raise self.taken()
    def forget(self, ctx):
        self.taken(tool=1)
    def fine(self, ctx):
        self.borrow(ctx)
        other.taken()
"""
    assert check(source) == [Finding(8, "the refusal taken is made but not raised")]


def test_all_rows_are_for_invariants() -> None:
    source = """
class Tools:
    @invariant
    def fine(self):
        return all(True for _ in self.tools.all())
    def loop(self):
        self.tools.all()
"""
    assert [finding.line for finding in check(source)] == [7]


def test_the_command_prints_each_finding_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = tmp_path / "good.py", tmp_path / "bad.py"
    good.write_text("x = 1")
    bad.write_text("x = 0.5")
    assert main([str(good)]) == 0
    assert main([str(good), str(bad)]) == 1
    assert capsys.readouterr().out == f"{bad}:1: floats differ between machines\n"


def test_the_linter_runs_as_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = tmp_path / "good.py"
    good.write_text("x = 1")
    monkeypatch.setattr(sys, "argv", ["lint", str(good)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(PROGRAM), run_name="__main__")
    assert ended.value.code == 0
