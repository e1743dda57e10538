"""What a devnet needs on disk, and that nothing of it leads around a cut link."""

from pathlib import Path

import pytest

from consensus.address import to_text
from devnet import homes
from node.config import Config
from node.genesis import BadGenesis, GenesisFile
from node.keys import KeyFile


def test_every_node_has_keys_a_configuration_and_the_same_genesis(tmp_path: Path) -> None:
    net = homes.create(tmp_path, homes.Plan(validators=2, load_accounts=3))
    raws = set()
    for node in net.nodes:
        home = Path(node.home)
        assert KeyFile.load(home / "keys" / "node.json", kind="node").public_key.hex() == node.node_id
        config = Config.load(home / "config.toml")
        assert (config.moniker, config.p2p.listen) == (node.name, node.p2p)
        assert f"http://{config.rpc.listen}" == node.rpc
        genesis = GenesisFile.load(home / "genesis.toml")
        raws.add(genesis.raw)
        keys = {member["public_key"] for member in genesis.town["validators"]["members"]}
        assert KeyFile.load(home / "keys" / "validator.json", kind="validator").public_key.hex() in keys
    assert len(raws) == 1


def test_the_test_keys_are_persons_with_coins_and_one_stranger(tmp_path: Path) -> None:
    net = homes.create(tmp_path, homes.Plan(load_accounts=3))
    genesis = GenesisFile.load(Path(net.nodes[0].home) / "genesis.toml")
    funded = {account["address"] for account in genesis.town["coin"]["accounts"]}
    persons = {person["address"] for person in genesis.town["identity"]["persons"]}
    for name in net.keys:
        address = to_text(KeyFile.load(tmp_path / "keys" / "accounts" / f"{name}.json").address)
        assert address in funded
        assert (address in persons) == (name != homes.STRANGER)
    assert len(funded) == len(net.keys) + 3


def test_with_faults_nodes_know_each_other_by_links_only(tmp_path: Path) -> None:
    net = homes.create(tmp_path, homes.Plan(validators=3, faults=True, load_accounts=0))
    assert net.links is not None
    for node in net.nodes:
        config = Config.load(Path(node.home) / "config.toml")
        assert not config.p2p.exchange
        others = [other.number for other in net.nodes if other != node]
        expected = {f"127.0.0.1:{net.links.ports[f'{node.number}>{other}']}" for other in others}
        assert {peer.partition("@")[2] for peer in config.p2p.persistent_peers} == expected


def test_settings_reach_the_genesis(tmp_path: Path) -> None:
    plan = homes.Plan(
        preset="CITY",
        load_accounts=0,
        params={"heartbeat_ms": 5_000},
        town_params={"governance.voting_period_ms": 5000},
    )
    genesis = GenesisFile.load(Path(homes.create(tmp_path, plan).nodes[0].home) / "genesis.toml")
    assert genesis.params.heartbeat_ms == 5_000
    assert genesis.town["params"] == {"governance.voting_period_ms": 5000}


@pytest.mark.parametrize("settings", [{"governance.patience": 5}, {"governance.voting_period_ms": -1}])
def test_a_parameter_that_the_town_refuses_is_named_before_anything_is_written(
    tmp_path: Path, settings: dict[str, int]
) -> None:
    with pytest.raises(BadGenesis, match=next(iter(settings))):
        homes.create(tmp_path / "net", homes.Plan(load_accounts=0, town_params=settings))
    assert not (tmp_path / "net").exists()
