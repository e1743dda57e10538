"""Issue line 1: a network comes up, tells where it is, can be broken and mended, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.stories.network import ALLTING, Network, rpc, run, until

pytestmark = pytest.mark.story


def test_up_detached_gives_the_shell_back_and_down_leaves_no_process(network: Network) -> None:
    network.up()
    fields = json.loads((network.directory / "devnet.json").read_text())
    assert [node["name"] for node in fields["nodes"]] == ["node0", "node1", "node2", "node3"]
    for node in fields["nodes"]:
        os.kill(node["pid"], 0)
        assert rpc(node["rpc"], "status")["sync_info"]["latest_block_height"] >= 3
    assert len(network.app_hashes(3)) == 1
    seen = network.pids()
    assert len(seen) >= 4
    network.devnet("down")
    assert network.pids() == []
    assert [pid for pid in seen if Path(f"/proc/{pid}/stat").exists() and _runs(pid)] == []


def _runs(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")


def test_nodes_run_under_hash_seeds_zones_and_locales_of_their_own(network: Network) -> None:
    network.up()
    seen = []
    for node in network.record.nodes:
        assert node.process is not None
        environment = Path(f"/proc/{node.process.pid}/environ").read_bytes().split(b"\0")
        seen.append({line.partition(b"=")[0]: line for line in environment})
    for name in (b"PYTHONHASHSEED", b"TZ", b"LC_ALL"):
        assert len({environment[name] for environment in seen}) == 4


def test_nodes_that_were_killed_stopped_and_paused_come_back(network: Network) -> None:
    network.up()
    network.devnet("kill", "1")
    network.until_height(network.height() + 2, nodes=[0, 2, 3])
    network.devnet("start", "1")
    network.until_height(network.height() + 1)
    network.devnet("stop", "2")
    network.devnet("start", "2")
    network.devnet("pause", "3")
    network.until_height(network.height() + 2, nodes=[0, 1, 2])
    network.devnet("resume", "3")
    network.until_height(network.height() + 1)
    assert len(network.app_hashes(network.height() - 1)) == 1


def test_a_network_that_was_stopped_goes_on_where_it_was(network: Network) -> None:
    network.up()
    height = network.height()
    network.devnet("down")
    network.up()
    assert network.height() >= height


def test_no_majority_decides_while_the_network_is_split(network: Network) -> None:
    network.up("--faults")
    network.devnet("split", "0,1/2,3")
    before = network.height()
    # A block may have been under way; after that none can be: time passes on the chain itself, so we watch it stand.
    with pytest.raises(AssertionError, match="not within"):
        network.until_height(before + 3, seconds=5)
    network.devnet("heal")
    network.until_height(before + 3)
    assert len(network.app_hashes(before + 3)) == 1


def test_mistakes_are_answered_with_what_to_do(network: Network) -> None:
    missing = run("devnet", "status", "--dir", str(network.directory))
    assert missing.returncode != 0
    assert "allting devnet up" in missing.stderr + missing.stdout
    network.up()
    for arguments, hint in (
        (["up"], "allting devnet down"),
        (["kill", "7"], "there is no node 7"),
        (["split", "0/1"], "--faults"),
        (["start", "0"], "runs already"),
    ):
        done = run("devnet", arguments[0], "--dir", str(network.directory), *arguments[1:])
        assert done.returncode != 0
        assert hint in done.stderr + done.stdout
    assert network.height() >= 3


def test_in_the_foreground_it_shows_lines_and_sigint_stops_all(network: Network) -> None:
    command = [*ALLTING, "devnet", "up", "--dir", str(network.directory)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as viewer:
        try:
            assert viewer.stdout is not None
            lines = iter(viewer.stdout.readline, "")
            shown = next(line for line in lines if "height" in line)
            assert "node3 height" in shown
            assert network.pids()
            viewer.send_signal(signal.SIGINT)
            assert viewer.wait(timeout=60) == 0
        finally:
            viewer.kill()
    until(lambda: not network.pids(), "all processes gone", seconds=5)


def test_a_terminal_that_is_closed_leaves_no_process(network: Network) -> None:
    ours, theirs = os.openpty()
    command = [*ALLTING, "devnet", "up", "--dir", str(network.directory)]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True) as viewer:
        os.close(theirs)
        shown = b""
        while b"Ctrl-C stops all nodes" not in shown:
            shown += os.read(ours, 4096)
        assert len(network.pids()) >= 4
        os.close(ours)
        viewer.send_signal(signal.SIGHUP)
        viewer.send_signal(signal.SIGTERM)
        viewer.wait(timeout=30)
    assert network.pids() == []
