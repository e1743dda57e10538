"""``allting debug``: for whoever looks for a cause."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from consensus.application import Application
from node.applications import ApplicationMissing, application_for
from node.backup import unpack
from node.cli.screen import Mistake, Screen, json_option
from node.genesis import GenesisFile
from node.genesis_state import ENGINE
from node.home import Home
from node.state import StateGone
from node.state_diff import ENTRIES_MAX, Difference, ModuleDifference, Side, compare
from node.store import Store

_AT_HEIGHT = re.compile(r"(.+)@([0-9]{1,18})")


@dataclass(frozen=True, slots=True)
class _Source:
    """A home or a backup, as it was named."""

    path: Path
    height: int | None


class _SourceType(click.ParamType):  # type: ignore[type-arg]  # generic for the checker only
    name = "HOME|BACKUP[@HEIGHT]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> _Source:
        at = _AT_HEIGHT.fullmatch(str(value))
        path, height = (Path(at[1]), int(at[2])) if at else (Path(str(value)), None)
        if not path.exists():
            self.fail(f"{path} is not there", param, ctx)
        return _Source(path.resolve(), height)


@click.group()
def debug() -> None:
    """Look for the cause of something."""


@debug.command("state-diff")
@click.argument("left", type=_SourceType())
@click.argument("right", type=_SourceType())
@click.option("--limit", type=click.IntRange(1, ENTRIES_MAX), default=100, show_default=True, help="Entries a module.")
@json_option
def state_diff(left: _Source, right: _Source, limit: int, screen: Screen) -> None:
    """Name modules and entries that differ between the states of two homes or backups, or of two heights of one.

    Each is a folder or a backup file, perhaps with @HEIGHT; without one, the latest height that both have. Nodes must
    be stopped.
    """
    with ExitStack() as stack:
        one = stack.enter_context(_opened(left.path, screen))
        other = one if right.path == left.path else stack.enter_context(_opened(right.path, screen))
        height = min(one.store.height, other.store.height)
        sides = [
            Side(source.store, height if named.height is None else named.height)
            for source, named in ((one, left), (other, right))
        ]
        if one is other and sides[0].height == sides[1].height:
            raise Mistake("that is one state twice: name two heights, such as HOME@41 HOME@42")
        try:
            found = compare(sides[0], sides[1], entries_max=limit)
        except StateGone as error:
            raise Mistake(f"{error}; name heights that both have with @HEIGHT") from error
        shown = [_module(each, one.application or other.application) for each in found]
        places = [{"path": str(n.path), "height": s.height} for n, s in zip((left, right), sides, strict=True)]
    screen.show({"left": places[0], "right": places[1], "modules": shown}, _lines(places, shown))


@dataclass(frozen=True, slots=True)
class _Opened:
    store: Store
    application: Application | None
    """None: what the genesis names is not installed here."""


@contextmanager
def _opened(path: Path, screen: Screen) -> Iterator[_Opened]:
    """The store of a home, or of a backup, which is unpacked for as long."""
    with ExitStack() as stack:
        home = Home(path)
        if path.is_file():
            home = Home(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="allting-"))))
            unpack(path, home, screen.steps(f"unpacking {path.name}, bytes"))
        if not (home.chain / "data.mdb").exists():
            raise Mistake(f"{path} is neither a home with a chain nor a backup")
        store = Store.open(home.chain)
        stack.callback(store.close)
        yield _Opened(store, _application(home, screen))


def _application(home: Home, screen: Screen) -> Application | None:
    try:
        return application_for(GenesisFile.load(home.genesis))
    except ApplicationMissing as error:
        screen.progress(f"entries are shown in hex: {error}")
        return None


def _module(found: ModuleDifference, application: Application | None) -> dict[str, Any]:
    return {
        "module": found.module,
        "left_root": found.left_root.hex(),
        "right_root": found.right_root.hex(),
        "differing": found.count,
        "entries": [_entry(found.module, entry, application) for entry in found.entries],
    }


def _entry(module: str, found: Difference, application: Application | None) -> dict[str, Any]:
    if module == ENGINE:
        table, _, rest = found.key.partition(b"\x00")
        number = f"[{int.from_bytes(rest, 'big')}]" if rest else ""
        sides = [None if value is None else value.hex() for value in (found.left, found.right)]
        return {"entry": f"{table.decode('ascii', 'replace')}{number}", "left": sides[0], "right": sides[1]}
    if application is None:
        sides = [None if value is None else value.hex() for value in (found.left, found.right)]
        return {"entry": found.key.hex(), "left": sides[0], "right": sides[1]}
    left, right = (application.entry_to_json(module, found.key, value) for value in (found.left, found.right))
    name = left["entry"] if found.left is not None else right["entry"]
    return {"entry": name, "left": left["value"], "right": right["value"]}


def _lines(places: list[dict[str, Any]], shown: list[dict[str, Any]]) -> Iterator[str]:
    for name, place in zip(("left ", "right"), places, strict=True):
        yield f"{name} {place['path']} at height {place['height']}"
    if not shown:
        yield "the states are equal"
    for module in shown:
        count = f"{module['differing']} or more" if module["differing"] >= ENTRIES_MAX else module["differing"]
        yield f"{module['module']}: {count} entries differ"
        for entry in module["entries"]:
            yield f"  {entry['entry']}: {_text(entry['left'])} → {_text(entry['right'])}"
        if module["differing"] > len(module["entries"]):
            yield "  … (more with --limit)"


def _text(value: Any) -> str:
    return "absent" if value is None else json.dumps(value, ensure_ascii=False)


COMMANDS = (debug,)
