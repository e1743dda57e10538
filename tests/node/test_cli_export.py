"""From a chain that has stopped for good to the home of a new one, as its operators type it."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from consensus.signing import public_key, sha256
from node.applications import application_for
from node.config import Config
from node.genesis import GenesisFile
from node.home import Home
from node.keys import KeyFile
from node.node import open_belongings
from tests.node.served import CHAIN_ID, NODE, START_MS, VALIDATOR, served, text
from tests.node.test_cli import Cli, cli

__all__ = ["cli"]

NEW = public_key(sha256(b"a new machine")).hex()
OLD = public_key(VALIDATOR).hex()


@pytest.fixture
def old(cli: Cli) -> Home:
    """The home of a node that stopped after a few heights."""
    home = Home(cli.home)

    async def live() -> None:
        async with served(home.path, start_ms=START_MS) as town:
            home.genesis.write_bytes(town.services.genesis.raw)
            town.services.config.write(home.config)
            await town.call("broadcast_tx_commit", tx=text(town.payment()))
            await town.height(4)

    trio.run(live, clock=trio.testing.MockClock(autojump_threshold=0))
    KeyFile.create("node", seed=NODE).write(home.node_key)
    KeyFile.create("validator", seed=VALIDATOR).write(home.validator_key)
    KeyFile.create("account").write(home.node_key.parent / "accounts" / "anna.json")
    return home


def test_a_town_goes_on_in_a_new_home(cli: Cli, old: Home, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = cli.json("export", "--height", "3", "--validators", f"new={NEW}:4,{OLD}", "--out", str(out))
    assert (done["chain_id"], done["height"], done["validators"]) == ("served-2", 3, 2)
    genesis = GenesisFile.load(out / "genesis.toml")
    assert done["hash"] == genesis.hash.hex()
    assert {founder.public_key.hex(): founder.power for founder in genesis.founders} == {NEW: 4, OLD: 10}
    assert cli.json("validate-genesis", str(out / "genesis.toml"))["validators"] == 2
    home = Home(tmp_path / "new")
    peer = "ab" * 32 + "@127.0.0.1:4"
    arguments = ("init", "--genesis", str(out / "genesis.toml"), "--home", str(home.path))
    assert cli.json(*arguments, "--from", str(old.path), "--peer", peer)["chain_id"] == "served-2"
    config = Config.load(home.config)
    assert config.p2p.persistent_peers == (peer,)
    assert config.p2p.listen == Config.load(old.config).p2p.listen
    for key in ("node.json", "validator.json", "accounts/anna.json"):
        assert (home.node_key.parent / key).read_bytes() == (old.node_key.parent / key).read_bytes()
    with open_belongings(home, config, genesis, application_for(genesis)) as own:
        assert own.store.height == 0
        assert own.signer is not None
        assert own.signer.last.height == 0, "nothing is signed on the new chain yet"
    assert "hash" in cli("export", "--height", "3", "--validators", f"new={NEW}:4,{OLD}", "--out", str(out))


def test_the_list_can_come_from_a_file(cli: Cli, old: Home, tmp_path: Path) -> None:
    listed = tmp_path / "set.txt"
    listed.write_text(f"# the new set\nanna = {OLD}\n".replace(" = ", "=") + f"new={NEW}  # the new machine\n\n")
    done = cli.json("export", "--validators", f"@{listed}", "--out", str(tmp_path / "out"), "--chain-id", "x-1")
    genesis = GenesisFile.load(tmp_path / "out" / "genesis.toml")
    assert [(each.name, each.power) for each in genesis.founders if each.public_key.hex() == NEW] == [("new", 10)]
    assert done["height"] == 4 or done["height"] == 5


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ([], f"{OLD}:10"),
        (["--validators", "nobody"], "is not [NAME=]KEY[:POWER]"),
        (["--validators", ","], "names nobody"),
        (["--validators", f"{OLD},x={OLD}"], "is named twice"),
        (["--validators", f"{OLD}:99999999999999999999"], "too large"),
        (["--validators", "@/nonexistent"], "No such file"),
        (["--validators", OLD, "--height", "9999"], "is not decided here"),
        (["--validators", OLD, "--chain-id", CHAIN_ID], "an id of its own"),
        (["--validators", OLD, "--chain-id", "No Good"], "chain_id"),
    ],
)
def test_a_mistake_says_what_to_do(cli: Cli, old: Home, tmp_path: Path, arguments: list[str], what: str) -> None:
    assert what in cli("export", "--out", str(tmp_path / "out"), *arguments, code=2)
    assert not (tmp_path / "out" / "genesis.toml").exists()


def test_a_new_machine_makes_its_key_before_there_is_a_genesis(cli: Cli, old: Home, tmp_path: Path) -> None:
    home = Home(tmp_path / "new")
    made = cli.json("node", "validator", "--new", "--home", str(home.path))["public_key"]
    cli("export", "--validators", f"{OLD},new={made}", "--out", str(tmp_path / "out"))
    cli("init", "--genesis", str(tmp_path / "out" / "genesis.toml"), "--home", str(home.path))
    assert cli.json("node", "validator", "--home", str(home.path))["public_key"] == made
    assert "is a node already" in cli("node", "validator", "--new", "--home", str(home.path), code=2)


def test_init_needs_what_the_genesis_goes_on_from(cli: Cli, old: Home, tmp_path: Path) -> None:
    out = tmp_path / "out"
    cli("export", "--validators", OLD, "--out", str(out))
    (out / "genesis.state").unlink()
    arguments = ("init", "--genesis", str(out / "genesis.toml"), "--home", str(tmp_path / "new"))
    assert "is missing" in cli(*arguments, code=2)
    assert "is missing" in cli("validate-genesis", str(out / "genesis.toml"), code=2)
    assert not (tmp_path / "new").exists()
    assert "go with --genesis" in cli("init", "--from", str(old.path), "--home", str(tmp_path / "new"), code=2)
    (tmp_path / "bare").mkdir()
    cli("export", "--validators", OLD, "--out", str(out))
    assert "there is no node" in cli(*arguments, "--from", str(tmp_path / "bare"), code=2)


def test_the_genesis_of_a_node_is_never_written_over(cli: Cli, old: Home) -> None:
    before = old.genesis.read_bytes()
    assert "a node lives in" in cli("export", "--validators", OLD, "--out", str(old.path), code=2)
    assert old.genesis.read_bytes() == before


def test_a_folder_without_a_chain_has_nothing_to_export(cli: Cli, tmp_path: Path) -> None:
    cli.home.mkdir()
    assert "there is no chain" in cli("export", "--validators", OLD, code=2)
