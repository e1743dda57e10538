"""docs/quorum-lost.md as it is written: two of four machines are gone for good, and the town goes on."""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from consensus.signing import sign
from devnet.ports import free_ports
from node.config import Config
from tests.stories.network import ALLTING, Network, act, rpc, succeed, until

pytestmark = [pytest.mark.story, pytest.mark.long]

BALLOT_S = int(os.environ.get("DRILL_BALLOT_S", "3600"))
"""How long the ballot is open; `make drill` waits until it closes, which must not be while the machines are down."""
IS_DRILL = BALLOT_S <= 600
"""Whether everything that the page says is done, and waited for."""
PERSONS = ("anna", "bjorn", "cilla", "david")


@contextmanager
def running(home: Path) -> Iterator[str]:
    """RPC of the node in *home*, while it runs."""
    url = f"http://{Config.load(home / 'config.toml').rpc.listen}"
    with (home / "log").open("w") as log:
        command = [*ALLTING, "start", "--home", str(home)]
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            yield url
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _balances(network: Network, url: str) -> dict[str, int]:
    return {
        name: rpc(url, "query", path="coin/balance", args={"address": network.address(name)})["answer"]
        for name in (*PERSONS, "stranger")
    }


def _new_set(network: Network, folder: Path, new_home: Path) -> Path:
    """The list that all survivors write: two of them, and a new machine."""
    survivors = [json.loads(succeed("node", "validator", "--home", n.home, "--json")) for n in network.record.nodes[:2]]
    made = json.loads(succeed("node", "validator", "--new", "--home", str(new_home), "--json"))
    file = folder / "set.txt"
    keys = [survivors[0]["public_key"], survivors[1]["public_key"], made["public_key"]]
    file.write_text("".join(f"{name}={key}\n" for name, key in zip(("anna", "bjorn", "ella"), keys, strict=True)))
    return file


def _states_are_equal(network: Network, copy: Path, height: int) -> None:
    """A survivor compares the own state with what another's backup has."""
    own = f"{network.record.nodes[0].home}@{height}"
    found = json.loads(succeed("debug", "state-diff", own, f"{copy}@{height}", "--json"))
    assert found["modules"] == []


def _exports(network: Network, folder: Path, height: int, listed: Path) -> list[dict[str, Any]]:
    """What each survivor's export said."""
    return [
        json.loads(
            succeed(
                *("export", "--home", node.home, "--height", str(height), "--validators", f"@{listed}"),
                *("--out", str(folder / f"export-{node.name}"), "--json"),
            )
        )
        for node in network.record.nodes[:2]
    ]


def _begin(network: Network, folder: Path, new_home: Path) -> list[Path]:
    """The homes of the new chain: two with the survivors' keys, and the new machine's."""
    first = network.record.nodes[0]
    homes = []
    for node in network.record.nodes[:2]:
        home = folder / f"new-{node.name}"
        genesis = str(folder / f"export-{node.name}" / "genesis.toml")
        succeed("init", "--genesis", genesis, "--from", node.home, "--home", str(home))
        homes.append(home)
    peer = f"{first.node_id}@{first.p2p}"
    genesis = str(folder / "export-node1" / "genesis.toml")
    succeed("init", "--genesis", genesis, "--peer", peer, "--home", str(new_home))
    config = Config.load(new_home / "config.toml")
    p2p_port, rpc_port = free_ports(2)  # this machine has other nodes' ports to mind
    dataclasses.replace(
        config,
        p2p=dataclasses.replace(config.p2p, listen=f"127.0.0.1:{p2p_port}"),
        rpc=dataclasses.replace(config.rpc, listen=f"127.0.0.1:{rpc_port}"),
    ).write(new_home / "config.toml")
    return [*homes, new_home]


def _height(url: str) -> int:
    try:
        return int(rpc(url, "status")["sync_info"]["latest_block_height"])
    except OSError:
        return -1


def test_a_town_that_lost_half_of_its_machines_goes_on(network: Network) -> None:
    network.up("--set", f"governance.voting_period_ms={1000 * BALLOT_S}")
    url = network.urls[0]
    act(url, network.key("anna"), {"coin.send": {"to": network.address("stranger"), "amount": 77}})
    asked = {"title": "A lamp", "body_hash": "00" * 32, "messages": []}
    result = act(url, network.key("anna"), {"governance.propose": asked})["result"]
    number = next(event["proposal"] for event in result["events"] if event["name"] == "proposed")
    act(url, network.key("anna"), {"governance.vote": {"proposal": number, "choice": "yes"}})
    unsent = _signed_for(network, url)
    network.devnet("kill", "2,3")
    for node in network.record.nodes[2:]:
        shutil.rmtree(node.home)
    time.sleep(2)
    heights = [network.height(number) for number in (0, 1)]
    time.sleep(2)
    assert [network.height(number) for number in (0, 1)] == heights, "two of four decide nothing"
    before, nonce = _balances(network, url), rpc(url, "next_nonce", address=network.address("anna"))["next_nonce"]
    old_chain = network.record.chain_id
    copy = network.directory / "node1.tar"
    if IS_DRILL:
        succeed("backup", str(copy), "--home", network.record.nodes[1].home)
    for survivor in ("0", "1"):
        network.devnet("stop", survivor)
    if IS_DRILL:
        _states_are_equal(network, copy, min(heights))

    with tempfile.TemporaryDirectory(prefix="allting-") as name, ExitStack() as stack:
        folder = Path(name)
        new_home = folder / "new-machine"
        listed = _new_set(network, folder, new_home)
        one, other = _exports(network, folder, min(heights), listed)
        assert one["hash"] == other["hash"], "comparing one hash is the agreement"
        assert one["chain_id"] != old_chain
        homes = _begin(network, folder, new_home)
        urls = [stack.enter_context(running(home)) for home in homes]
        for each, home in zip(urls, homes, strict=True):
            until(lambda each=each: _height(each) >= 2, f"{home} decides: {(home / 'log').read_text()}")  # type: ignore[misc]
        url = urls[2]
        status = rpc(url, "status")
        assert status["node_info"]["network"] == one["chain_id"]
        assert status["node_info"]["genesis_hash"] == one["hash"]
        assert status["validator_info"]["power"] == 10, "the new machine votes"
        assert _balances(network, url) == before
        assert rpc(url, "next_nonce", address=network.address("anna"))["next_nonce"] == nonce
        people = rpc(url, "query", path="identity/people")["answer"]["rows"]
        assert {row["key"] for row in people} == {network.address(name) for name in PERSONS}
        assert len({rpc(each, "header", height=1)["header"]["hash"] for each in urls}) == 1

        assert rpc(url, "broadcast_tx_sync", tx=unsent)["code"] == "tx.wrong_chain", "old signatures mean nothing here"
        _votes_go_on(network, url, number)
        proved = json.loads(
            succeed(
                *("query", "coin", "balance", "--address", network.address("stranger")),
                *("--prove", "--home", str(new_home), "--json"),
            )
        )
        assert proved["answer"] == before["stranger"], "a light client follows the new chain from its genesis"
        if IS_DRILL:
            _newcomer_joins(folder, homes[0], url)


def _votes_go_on(network: Network, url: str, number: int) -> None:
    """Two vote in the ballot that was open, anna's vote counts as before, and the ballot closes as it should."""
    for name in ("bjorn", "cilla"):
        vote = {"governance.vote": {"proposal": number, "choice": "yes"}}
        assert act(url, network.key(name), vote)["result"]["code"] == ""
    tally = rpc(url, "query", path="governance/tally", args={"proposal": number})["answer"]
    assert tally["yes"] == 3

    def passed() -> bool:
        found = rpc(url, "query", path="governance/proposal", args={"proposal": number})["answer"]
        return bool(found["status"] == "passed")

    if IS_DRILL:
        until(passed, "the ballot closes", seconds=BALLOT_S + 30)


def _signed_for(network: Network, url: str) -> str:
    """A payment by david, signed for the chain that *url* is of now, and sent to nobody."""
    key = network.key("david")
    message = {"coin.send": {"to": network.address("anna"), "amount": 1}}
    prepared = rpc(url, "prepare_tx", messages=[message], signers=[key.public_key.hex()])
    signature = sign(key.unlock(), base64.b64decode(prepared["sign_bytes"]))
    transaction: str = rpc(url, "assemble_tx", body=prepared["body"], signatures=[signature.hex()])["tx"]
    return transaction


def _newcomer_joins(folder: Path, home: Path, url: str) -> None:
    """A link is still all that a newcomer needs: it gets genesis and state from its peers."""
    link = json.loads(succeed("invite", "--home", str(home), "--json"))["link"]
    newcomer = folder / "newcomer"
    succeed("join", link, "--no-start", "--home", str(newcomer))
    assert (newcomer / "genesis.state").read_bytes() == (home / "genesis.state").read_bytes()
    with running(newcomer) as own:
        height = _height(url)
        until(lambda: _height(own) >= height, f"the newcomer follows: {(newcomer / 'log').read_text()}")
