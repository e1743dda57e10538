"""Whatever the code can do to the disk is done in one of the lives at whose every step the power is cut."""

from __future__ import annotations

import ast
import random
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest
import trio
import trio.testing

import node
from devnet.simulated_disk import Moment, SimulatedDisk, Watching, cut_at
from node.disk import Act, Step
from node.home import Home
from tests.worlds import care, lives

ROOT = Path(node.__file__).parent
OF_DISK = {"create", "open", "read", "replace", "link", "unlink", "make_folder", "sync_folder", "written_by_another"}
OF_FILE = {"write", "truncate", "sync"}
OF_STORE = {"write_inline", "_written"}
"""`Environment.write` stands beside them, for the same step with a thread."""
ONLY_COMMANDS = {"cli/founding.py", "cli/running.py", "genesis_state.py", "light/memory.py"}
"""They write on the disk of this machine, in the order of `node.files.write_atomically`, while no node runs."""

Place = tuple[str, int]
"""Module and line."""


class Places(Watching):
    """A watch that knows which lines of the code asked for what it saw."""

    def __init__(self) -> None:
        super().__init__(self._note)
        self.seen: set[Place] = set()

    def _note(self, moment: Moment, number: int) -> None:
        frame: FrameType | None = sys._getframe()
        while frame is not None:
            file = Path(frame.f_code.co_filename)
            if file.is_relative_to(ROOT):
                self.seen.add((str(file.relative_to(ROOT)), frame.f_lineno))
            frame = frame.f_back


async def test_each_place_of_the_code_that_writes_is_in_a_life_that_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    lives.begins_its_log_anew(monkeypatch)
    places = Places()
    await lives.moments_of_living(tmp_path / "first", validators=1, second=False, watch=places)
    await lives.moments_of_living(tmp_path / "second", validators=4, second=True, watch=places)
    for way in lives.WAYS:
        async with lives.joined(tmp_path / way, way, monkeypatch) as (net, nursery):
            await lives.moments_of_joining(net, nursery, places)
            if way == "snapshot":  # and the life after one that ended on the way
                lives.forgets(net)
                net.watches[lives.NEWCOMER] = cut_at(Moment(Step("import", Act.COMMIT), after=True))
                await net.start(nursery, lives.NEWCOMER)
                await net.cut(lives.NEWCOMER)
                await lives.moments_of_joining(net, nursery, places)
    async with lives.slandered(tmp_path / "slandered", monkeypatch) as (net, nursery):
        await lives.moments_of_hearing(net, nursery, places)
    await trio.to_thread.run_sync(_cared_for, tmp_path / "care", places)
    missing = {place for place in _writing_places() if places.seen.isdisjoint(_lines(place))}
    assert missing == set(), "steps that no life does: let one do them, so that they are cut"


def test_what_only_commands_do_is_named() -> None:
    assert {module for module, _, _, text in _all_places() if text.startswith("DISK.")} == ONLY_COMMANDS


def _cared_for(folder: Path, places: Places) -> None:
    needy = care.needy_home(folder / "needy")
    for act in care.CARES:
        home = Home(Path(shutil.copytree(needy.path, folder / act.__name__)))
        act(home, SimulatedDisk(random.Random(0), places))


def _lines(place: tuple[str, int, int, str]) -> Iterator[Place]:
    module, first, last, _ = place
    return ((module, line) for line in range(first, last + 1))


def _writing_places() -> Iterator[tuple[str, int, int, str]]:
    return (place for place in _all_places() if place[0] not in ONLY_COMMANDS)


def _all_places() -> Iterator[tuple[str, int, int, str]]:
    """Module, first line, last line and text of whatever reaches for the disk."""
    for path in sorted(ROOT.rglob("*.py")):
        if path.name == "disk.py":
            continue
        for each in ast.walk(ast.parse(path.read_text())):
            text = _reaches(each)
            if text and isinstance(each, ast.expr):
                yield str(path.relative_to(ROOT)), each.lineno, each.end_lineno or each.lineno, text


def _reaches(each: ast.AST) -> str:
    if isinstance(each, ast.Attribute):
        of = ast.unparse(each.value)
        is_of_disk = each.attr in OF_DISK and re.search(r"(^|[._])(disk|DISK)$", of)
        is_of_file = each.attr in OF_FILE and re.search(r"(^|[._])(file|copy|data)$", of)
        return ast.unparse(each) if is_of_disk or is_of_file else ""
    if isinstance(each, ast.Call):
        called = ast.unparse(each.func)
        is_on_a_disk = any(word.arg == "disk" for word in each.keywords)
        if called.rpartition(".")[2] in OF_STORE or (called == "write_atomically" and is_on_a_disk):
            return called
    return ""
