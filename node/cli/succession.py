"""``allting export``: a town that lost its quorum for good goes on as a new chain (docs/quorum-lost.md)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from consensus.application import Founder
from consensus.validators import POWER_TOTAL_MAX, ValidatorSet
from node.applications import application_for
from node.cli.place import Place, home_option
from node.cli.screen import Mistake, Screen, json_option
from node.export import Exported, export, next_chain_id
from node.genesis import BadGenesis, GenesisFile
from node.home import Home
from node.state import StateGone
from node.store import Store

POWER = 10
"""Of a validator that was none before, where no power is given: as `validators.admit`."""
FILE_BYTES_MAX = 2**20
_ENTRY = re.compile(r"(?:([^=:,@]{1,70})=)?([0-9a-f]{64})(?::([1-9][0-9]*))?")


@click.command("export")
@click.option("--height", type=click.IntRange(1), help="Whose state; the latest, if none is given.")
@click.option(
    "--validators",
    "named",
    metavar="[NAME=]KEY[:POWER],…",
    help="The whole new set, each by the public key of its node (allting node validator); @FILE reads it from FILE.",
)
@click.option("--chain-id", help="Of the new chain; without it the old one's with the next number.")
@click.option(
    "--time-ms", type=click.IntRange(0), help="When it begins (Unix ms); without it that height's block time."
)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder for genesis.toml and .state.")
@json_option
@home_option
def export_command(
    height: int | None,
    named: str | None,
    chain_id: str | None,
    time_ms: int | None,
    out: Path | None,
    place: Place,
    screen: Screen,
) -> None:
    """Write the state of a height as the genesis of a new chain, with new validators; stop the node first."""
    if not (place.home.chain / "data.mdb").exists():
        raise Mistake(f"there is no chain in {place.path}: go to a node's folder, or name it with --home")
    genesis = GenesisFile.load(place.home.genesis)
    app = application_for(genesis)
    store = Store.open(place.home.chain)
    try:
        chosen = store.height if height is None else height
        chain = store.chain_state()
        assert chain is not None, "a store has its genesis before any height"
        founders = _founders(named, chain.validators, chosen)
        new_id = chain_id or next_chain_id(genesis.chain_id)
        folder = (out or Path(new_id)).absolute()
        if Home(folder).config.exists():
            raise Mistake(f"a node lives in {folder}; give another folder with --out, so that its genesis stays")
        if (folder / "genesis.toml").exists():
            screen.progress(f"the genesis that {folder} held is replaced")
        screen.progress(f"checking and writing the state of height {chosen} …")
        done = export(store, genesis, app, founders, folder, height=chosen, chain_id=new_id, time_ms=time_ms)
    except StateGone as error:
        raise Mistake(f"{error}; export one of those") from error
    except BadGenesis:
        raise
    except ValueError as error:
        raise Mistake(f"the new genesis can't begin a chain: {error}") from error
    finally:
        store.close()
    screen.show(_shown(done, founders), _lines(done, founders))


def _shown(done: Exported, founders: tuple[Founder, ...]) -> dict[str, Any]:
    return {
        "folder": str(done.folder),
        "chain_id": done.chain_id,
        "hash": done.genesis_hash.hex(),
        "height": done.height,
        "app_hash": done.app_hash.hex(),
        "time_ms": done.time_ms,
        "validators": len(founders),
    }


def _lines(done: Exported, founders: tuple[Founder, ...]) -> list[str]:
    return [
        f"{done.folder} holds genesis.toml and genesis.state of {done.chain_id}:",
        f"the state of height {done.height}, whose header commits to it, and {len(founders)} validators.",
        "",
        f"hash      {done.genesis_hash.hex()}",
        "",
        "1. Read this hash to the others, by voice. Everyone must get the same: same height, validators, chain id.",
        "2. If one differs, compare what you typed; then, on the old homes: allting debug state-diff A B",
        "3. Give both files to every machine, and there, with the node stopped:",
        f"   allting init --genesis {done.folder}/genesis.toml --from OLD-HOME --home NEW-HOME",
        "   allting start --home NEW-HOME",
        "docs/quorum-lost.md has it step by step.",
    ]


def _founders(named: str | None, present: ValidatorSet, height: int) -> tuple[Founder, ...]:
    """The new set as it was *named*; who is validator at *height* keeps its power unless another is given."""
    powers = {member.public_key: member.power for member in present.validators}
    if named is None:
        lines = "\n".join(f"  {key.hex()}:{power}" for key, power in powers.items())
        raise Mistake(
            f"this node's latest height is {height}; agree on the lowest among you, and give it with --height. "
            "Then name the whole new set with --validators [NAME=]KEY[:POWER],… (or @FILE), the same on every machine. "
            f"The validators now, of whom you leave out those that are gone:\n{lines}"
        )
    founders: dict[bytes, Founder] = {}
    for entry in _entries(named):
        found = _ENTRY.fullmatch(entry)
        if found is None:
            raise Mistake(f"{entry!r:.120} is not [NAME=]KEY[:POWER]; a key is 64 hex digits (allting node validator)")
        key = bytes.fromhex(found[2])
        power = int(found[3]) if found[3] else powers.get(key, POWER)
        if power > POWER_TOTAL_MAX:
            raise Mistake(f"{entry!r:.120}: the power is too large")
        if key in founders:
            raise Mistake(f"{key.hex()} is named twice")
        founders[key] = Founder(public_key=key, power=power, name=(found[1] or "").strip())
    return tuple(founders.values())


def _entries(named: str) -> list[str]:
    """The entries in *named*, or in the file behind its @: separated by commas or line ends, # begins a comment."""
    text = named
    if named.startswith("@"):
        path = Path(named[1:])
        if path.stat().st_size > FILE_BYTES_MAX:
            raise Mistake(f"{path} is too large for a list of validators")
        text = "\n".join(line.partition("#")[0] for line in path.read_text().splitlines())
    found = [entry.strip() for entry in re.split(r"[,\n]", text)]
    entries = [entry for entry in found if entry]
    if not entries:
        raise Mistake("--validators names nobody")
    return entries


COMMANDS = (export_command,)
