"""Commands that care for a node's folder: back it up, restore it, make its database smaller."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import click
import trio

from node.admin import NotRunning
from node.backup import restore as restore_backup
from node.backup import write_backup
from node.cli import founding
from node.cli.place import Place, home_option, new_home_option
from node.cli.screen import Mistake, Screen, json_option
from node.home import Home
from node.store import Store
from node.store_compact import compact as compact_store

MIB = 2**20


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@json_option
@home_option
def backup(file: Path, place: Place, screen: Screen) -> None:
    """Write the chain and this home's settings to FILE, while the node runs or not; without the key that votes."""
    place.require_node()
    file = file.absolute()
    if file.exists():
        raise Mistake(f"{file} exists; a backup is never written over something: choose another name")
    if not file.parent.is_dir():
        raise Mistake(f"there is no folder {file.parent} for the backup; make it first")
    step = _megabytes(screen, "backing up, MiB")
    try:
        done: dict[str, Any] = place.admin("backup", file=str(file), progress=step)
    except NotRunning as absent:
        if not (place.home.chain / "data.mdb").exists():
            raise Mistake(f"{place.path} has no chain yet: start the node once") from absent
        store = Store.open(place.home.chain)
        try:
            done = trio.run(partial(write_backup, store, place.home, file, step))
        finally:
            store.close()
    screen.show(
        {"file": str(file), **done},
        [
            f"{file}: {done['chain_id']} up to height {done['height']}, {done['bytes'] / MIB:.1f} MiB.",
            "It holds the node's own key, so keep it private. It does not hold the key that votes, nor accounts:",
            "those have 24 words (allting keys show NAME --words).",
            f"Try it before you need it: allting restore {file} --home SOME-EMPTY-FOLDER",
        ],
    )


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@json_option
@new_home_option
def restore(file: Path, place: Place, screen: Screen) -> None:
    """Make a home of the backup in FILE, after every block, signature and value in it was checked."""
    founding.refuse_taken(place)
    home = place.home
    if home.node_key.exists():
        raise Mistake(f"{home.node_key} exists, and the backup has one, too; give an empty or new folder with --home")
    made = not place.path.exists()
    try:
        manifest = restore_backup(file, home, _megabytes(screen, "unpacking, MiB"), screen.steps("checking, heights"))
    except BaseException:
        _undo(home, whole=made)
        raise
    screen.show(
        {"home": str(place.path), **manifest},
        [
            f"{place.path}: {manifest['chain_id']} up to height {manifest['height']}, checked.",
            "It follows the chain and does not vote: a backup holds no key that votes. If the old machine is gone for",
            f"good, put its validator.json into {home.validator_key.parent}, and say so: allting keys unlock",
            f"Next: allting start --home {place.path}",
        ],
    )


def _undo(home: Home, *, whole: bool) -> None:
    """What an interrupted restore made is gone; *whole*: the folder was not there before."""
    if whole:
        shutil.rmtree(home.path, ignore_errors=True)
        return
    shutil.rmtree(home.data, ignore_errors=True)
    for path in (home.config, home.genesis, home.trust_root, home.node_key):
        path.unlink(missing_ok=True)


@click.command()
@json_option
@home_option
def compact(place: Place, screen: Screen) -> None:
    """Give the disk back what the chain's database no longer uses; the node of this home must be stopped."""
    place.require_node()
    before, after = compact_store(place.home.chain, _megabytes(screen, "compacting, MiB"))
    screen.show(
        {"bytes_before": before, "bytes_after": after},
        [f"{place.home.chain}: {before / MIB:.1f} MiB before, {after / MIB:.1f} MiB now"],
    )


def _megabytes(screen: Screen, text: str) -> Any:
    """A step that counts bytes as MiB."""
    step = screen.steps(text)
    return lambda done, total: step(done // MIB, total // MIB)


COMMANDS = (backup, restore, compact)
