"""Backup, restore and compact as an operator calls them, on a folder whose node does not run."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from consensus.params import TINY
from node.applications import application_for
from node.config import Config
from node.genesis import GenesisFile
from node.home import Home
from node.node import open_belongings
from node.signer import SignerStateMissing
from node.store import Store, StoreInUse
from node.store_compact import compact
from tests.node.decided import decide, write_genesis
from tests.node.test_cli import Cli, cli

__all__ = ["cli"]


@pytest.fixture
def home(cli: Cli) -> Home:
    """A node that has been started once."""
    cli("init", "--chain-id", "ting-a-1", "--preset", "TINY")
    home = Home(cli.home)
    genesis = GenesisFile.load(home.genesis)
    with open_belongings(home, Config.load(home.config), genesis, application_for(genesis)):
        pass
    return home


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    """A store with more free pages than used ones."""
    folder = tmp_path / "wide"
    store = Store.open(folder, inline=True)
    write_genesis(store, {"coin": {}}, params=TINY)
    for number in range(30):
        changes: dict[bytes, bytes | None] = {b"%d" % key: b"%d" % number * 500 for key in range(100)}
        store.commit_inline(decide(store, {"coin": changes}))
    while not trio.run(store.prune, 30):
        pass
    store.close()
    return folder


def test_a_home_goes_to_a_file_and_comes_back(cli: Cli, home: Home, tmp_path: Path) -> None:
    file = tmp_path / "copy.tar"
    made = cli.json("backup", str(file))
    assert (made["chain_id"], made["height"]) == ("ting-a-1", 0)
    again = Home(tmp_path / "again")
    shown = cli.json("restore", str(file), "--home", str(again.path))
    assert shown["height"] == 0
    assert again.genesis.read_bytes() == home.genesis.read_bytes()
    assert again.config.read_bytes() == home.config.read_bytes()
    assert again.node_key.read_bytes() == home.node_key.read_bytes()
    assert not again.validator_key.exists()
    assert "is a node already" in cli("restore", str(file), "--home", str(again.path), code=2)
    assert "exists" in cli("backup", str(file), code=2)


def test_a_restored_home_does_not_vote_even_with_its_old_key(cli: Cli, home: Home, tmp_path: Path) -> None:
    cli("backup", str(tmp_path / "copy.tar"))
    again = Home(tmp_path / "again")
    cli("restore", str(tmp_path / "copy.tar"), "--home", str(again.path))
    again.validator_key.write_bytes(home.validator_key.read_bytes())
    again.validator_key.chmod(0o600)
    genesis = GenesisFile.load(again.genesis)
    with (
        pytest.raises(SignerStateMissing),
        open_belongings(again, Config.load(again.config), genesis, application_for(genesis)),
    ):
        pass


def test_a_damaged_file_leaves_no_home(cli: Cli, home: Home, tmp_path: Path) -> None:
    file = tmp_path / "copy.tar"
    cli("backup", str(file))
    file.write_bytes(file.read_bytes()[:-12_000])
    assert "cut short" in cli("restore", str(file), "--home", str(tmp_path / "again"), code=2)
    assert not (tmp_path / "again").exists()
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "keys").mkdir()
    cli("restore", str(file), "--home", str(tmp_path / "empty"), code=2)
    assert [path.name for path in (tmp_path / "empty").iterdir()] == ["keys"]
    assert "No such file" in cli("restore", str(tmp_path / "none"), "--home", str(tmp_path / "again"), code=2)


def test_keys_that_are_there_already_are_never_touched(cli: Cli, home: Home, tmp_path: Path) -> None:
    cli("backup", str(tmp_path / "copy.tar"))
    other = Home(tmp_path / "other")
    other.node_key.parent.mkdir(parents=True)
    other.node_key.write_text("precious")
    assert "node.json exists" in cli("restore", str(tmp_path / "copy.tar"), "--home", str(other.path), code=2)
    assert other.node_key.read_text() == "precious"
    assert [path.name for path in other.path.iterdir()] == ["keys"]


def test_a_folder_without_a_node_or_chain_is_said_to_be_so(cli: Cli, tmp_path: Path) -> None:
    cli.home.mkdir()
    assert "there is no node" in cli("backup", str(tmp_path / "x"), code=2)
    assert "there is no node" in cli("compact", code=2)
    cli("init", "--chain-id", "ting-a-1")
    assert "start the node once" in cli("backup", str(tmp_path / "x"), code=2)


def test_compacting_gives_the_disk_back_and_changes_nothing_else(wide: Path) -> None:
    store = Store.open(wide)
    rows = {name: size.rows for name, size in store.table_sizes().items()}
    chain = store.chain_state()
    store.close()
    (wide / "compacting").mkdir()
    (wide / "compacting" / "data.mdb").write_text("left by a crash")
    before, after = compact(wide)
    assert after < before * 0.8
    assert (wide / "data.mdb").stat().st_size == after
    assert {path.name for path in wide.iterdir()} == {"data.mdb", "in_use"}
    store = Store.open(wide)
    assert store.chain_state() == chain
    assert {name: size.rows for name, size in store.table_sizes().items()} == rows
    store.close()


def test_a_running_node_is_not_compacted(wide: Path) -> None:
    store = Store.open(wide)
    with pytest.raises(StoreInUse, match="Stop that node first"):
        compact(wide)
    store.close()


def test_compact_says_what_was_gained(cli: Cli, home: Home) -> None:
    done = cli.json("compact")
    assert 0 < done["bytes_after"] <= done["bytes_before"]
