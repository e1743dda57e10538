"""devnet.json says what the commands and its readers need, and survives being written and read."""

import json
from pathlib import Path

import pytest

from devnet import record
from devnet.processes import Process
from devnet.record import Devnet, Links, Node, NoDevnet


def example(directory: Path) -> Devnet:
    """A devnet of two nodes, one running."""
    nodes = tuple(
        Node(
            name=f"node{number}",
            home=str(directory / f"node{number}"),
            rpc=f"http://127.0.0.1:{12_000 + number}",
            p2p=f"127.0.0.1:{13_000 + number}",
            node_id=f"{number:064x}",
            process=Process(1, 0) if number == 0 else None,
        )
        for number in range(2)
    )
    links = Links(control=14_000, ports={"0>1": 14_001, "1>0": 14_002})
    return Devnet(
        directory=directory,
        chain_id="ting-devnet-1",
        preset="TINY",
        nodes=nodes,
        keys=("anna",),
        load_accounts=5,
        links=links,
    )


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    net = example(tmp_path)
    record.save(net)
    assert record.load(tmp_path) == net


def test_the_file_has_name_pid_rpc_and_p2p_of_each_node_and_the_names_of_keys(tmp_path: Path) -> None:
    record.save(example(tmp_path))
    fields = json.loads((tmp_path / "devnet.json").read_text())
    assert [(node["name"], node["pid"], node["rpc"], node["p2p"]) for node in fields["nodes"]] == [
        ("node0", 1, "http://127.0.0.1:12000", "127.0.0.1:13000"),
        ("node1", None, "http://127.0.0.1:12001", "127.0.0.1:13001"),
    ]
    assert fields["keys"] == ["anna"]


def test_a_folder_without_a_devnet_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(NoDevnet, match="allting devnet up"):
        record.load(tmp_path)


def test_an_unknown_node_number_names_those_that_exist(tmp_path: Path) -> None:
    with pytest.raises(NoDevnet, match="has 0, 1"):
        example(tmp_path).node(2)
