"""What is done to nodes is done to their processes, and the record stays true. The nodes here only sleep."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from devnet import fleet, homes, links, record
from devnet.cli import devnet
from devnet.record import Devnet, Node, NoDevnet

SLEEPER = "import time; time.sleep(60)"


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Devnet]:
    """A devnet with faults, of three sleepers; none of them is left afterwards."""
    monkeypatch.setattr(homes, "_modules", lambda: {"coin": 1})
    monkeypatch.setattr(fleet, "node_command", _sleeps)
    made = homes.create(tmp_path, homes.Plan(validators=3, faults=True, load_accounts=0))
    record.save(made)
    try:
        yield made
    finally:
        fleet.down(record.load(tmp_path))


def _sleeps(node: Node, **_: object) -> list[str]:
    return [sys.executable, "-c", SLEEPER]


def states(directory: Path) -> list[str]:
    """running, paused or stopped, for each node."""
    nodes = record.load(directory).nodes
    return ["paused" if node.paused else "running" if node.running() else "stopped" for node in nodes]


def command(net: Devnet, *arguments: str) -> Result:
    """What ``allting devnet *arguments*`` does here."""
    return CliRunner().invoke(devnet, [arguments[0], "--dir", str(net.directory), *arguments[1:]])


def test_the_record_follows_what_is_done(net: Devnet) -> None:
    for number in range(3):
        net = fleet.start_node(net, number)
    assert states(net.directory) == ["running", "running", "running"]
    assert command(net, "kill", "0,1").exit_code == 0
    assert states(net.directory) == ["stopped", "stopped", "running"]
    assert command(net, "pause", "2").exit_code == 0
    assert states(net.directory) == ["stopped", "stopped", "paused"]
    assert command(net, "resume", "2").exit_code == 0
    assert states(net.directory) == ["stopped", "stopped", "running"]
    stopped = command(net, "stop", "2", "--json")
    assert [node["pid"] for node in json.loads(stopped.stdout)["nodes"]] == [None, None, None]


def test_down_leaves_nothing_whatever_state_nodes_are_in(net: Devnet) -> None:
    net = fleet.start_links(net)
    for number in range(3):
        net = fleet.start_node(net, number)
    net = fleet.pause_node(net, 1)
    processes = [node.process for node in net.nodes]
    assert command(net, "down").exit_code == 0
    assert states(net.directory) == ["stopped"] * 3
    assert not any(process and process.session() for process in processes)
    left = record.load(net.directory).links
    assert left is not None
    assert left.process is None


def test_a_node_has_an_environment_of_its_own() -> None:
    environments = [fleet.environment_of(number) for number in range(4)]
    for name in ("PYTHONHASHSEED", "TZ", "LC_ALL"):
        assert len({environment[name] for environment in environments}) == 4


def test_a_split_reaches_the_links_and_heal_mends_it(net: Devnet) -> None:
    net = fleet.start_links(net)
    assert net.links is not None
    assert command(net, "split", "0/1,2").exit_code == 0
    cut = {name for name, link in links.ask(net.links.control, {}).items() if link["cut"]}
    assert cut == {"0>1", "0>2", "1>0", "2>0"}
    assert command(net, "slow", "--delay-ms", "5", "--node", "1").exit_code == 0
    assert links.ask(net.links.control, {})["0>1"] == {"cut": True, "delay_ms": 5, "bytes_per_second": 0}
    assert command(net, "heal").exit_code == 0
    assert not any(link["cut"] or link["delay_ms"] for link in links.ask(net.links.control, {}).values())


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["pause", "0"], "allting devnet start 0"),
        (["kill", "9"], "there is no node 9"),
        (["kill", "one"], "0,1"),
        (["split", "0/0"], "two groups"),
        (["split", "x"], "0,1/2,3"),
        (["kill", "0,1"], "node0, node1 did not run"),
        (["stop", "0,1"], "node0, node1 did not run"),
        (["resume", "0"], "does not run"),
        (["heal"], "allting devnet up"),
        (["load", "--seconds", "1"], "no funded accounts"),
        (["up", "--set", "nonsense"], "module.param=value"),
        (["up", "--set", "engine.nope=5"], "the engine has no parameter nope"),
        (["up", "--validators", "4"], "without --validators; leave it out"),
        (["up", "--preset", "CITY", "--set", "coin.nope=1"], "without --preset, --set coin.nope"),
        (["up", "--set", "engine.heartbeat_ms=1"], "without --set engine.heartbeat_ms"),
    ],
)
def test_mistakes_say_what_to_do(net: Devnet, arguments: list[str], hint: str) -> None:
    done = command(net, *arguments)
    assert done.exit_code != 0
    assert hint in done.output


def test_what_was_done_is_said_of_those_to_which_it_was_done(net: Devnet) -> None:
    net = fleet.start_node(net, 1)
    assert "node1 is not paused" in command(net, "resume", "1").output
    assert command(net, "pause", "1").exit_code == 0
    assert "node1 is paused already" in command(net, "pause", "1").output
    assert command(net, "kill", "0,1,1").stdout == "killed node1; node0 did not run\n"


def test_several_nodes_are_stopped_together(net: Devnet) -> None:
    for number in range(3):
        net = fleet.start_node(net, number)
    assert command(net, "stop", "0,2").stdout == "stopped node0, node2\n"
    assert states(net.directory) == ["stopped", "running", "stopped"]


def test_a_node_that_was_started_by_hand_is_no_devnets(net: Devnet) -> None:
    with socket.create_server(("127.0.0.1", int(net.node(2).rpc.rpartition(":")[2]))):
        done = command(net, "start", "2")
    assert done.exit_code == 1
    assert f"allting stop --home {net.node(2).home}" in done.output
    assert states(net.directory)[2] == "stopped"


def test_a_bad_parameter_is_refused_before_the_old_devnet_is_forgotten(net: Devnet) -> None:
    (net.directory / "light.json").write_text("{}")
    assert command(net, "up", "--fresh", "--set", "nope.nope=1").exit_code == 1
    assert record.load(net.directory) == net
    assert Path(net.node(0).home).exists()
    made = homes.create(net.directory, homes.Plan(validators=1, load_accounts=0), instead_of=net)
    record.save(made)
    assert {path.name for path in made.directory.iterdir()} - {".lock"} == {"devnet.json", "keys", "node0"}


def test_what_was_proved_before_is_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(homes, "create", lambda *_, **__: pytest.fail("made"))
    (tmp_path / "light.json").write_text("{}")
    with pytest.raises(pytest.fail.Exception, match="made"):
        CliRunner().invoke(devnet, ["up", "--dir", str(tmp_path)], catch_exceptions=False)


@pytest.mark.parametrize("arguments", [["down"], ["kill", "0"], ["status"], ["start", "0"], ["stop", "0"]])
def test_a_folder_without_a_devnet_stays_as_it_is(arguments: list[str], tmp_path: Path) -> None:
    done = CliRunner().invoke(devnet, [*arguments, "--dir", str(tmp_path / "none")])
    assert "allting devnet up" in done.output
    assert not (tmp_path / "none").exists()


def test_a_node_that_runs_is_not_started_twice(net: Devnet) -> None:
    net = fleet.start_node(net, 0)
    with pytest.raises(NoDevnet, match="runs already"):
        fleet.start_node(net, 0)


def test_a_node_that_ends_at_once_is_reported_with_its_last_words(net: Devnet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        fleet, "node_command", lambda node, **_: [sys.executable, "-c", "print('no room'); raise SystemExit(1)"]
    )
    done = command(net, "start", "0")
    assert done.exit_code == 1
    assert "no room" in done.output


def test_a_folder_with_something_else_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "diary").write_text("mine")
    done = CliRunner().invoke(devnet, ["up", "--dir", str(tmp_path)])
    assert done.exit_code == 1
    assert "something else" in done.output
    assert [path.name for path in tmp_path.iterdir()] == ["diary"]
    assert (tmp_path / "diary").read_text() == "mine"


def test_logs_show_the_last_lines(net: Devnet) -> None:
    log = net.node(0).log
    log.write_text("\n".join(str(number) for number in range(100)))
    assert command(net, "logs", "0", "-n", "2").stdout == "98\n99\n"
