"""Issue line 3: a link is all that a newcomer needs to become a node, and then a validator that counts."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from node.config import Config
from tests.stories.network import ALLTING, Network, rpc, succeed, until

pytestmark = pytest.mark.story

BALLOT_MS = 25_000
"""Long enough for three votes by command on a machine that is busy with other tests."""


@contextmanager
def joined(link: str) -> Iterator[tuple[Path, str]]:
    """Home and RPC of a fifth node that was started with nothing but *link*; it is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="allting-") as folder, (Path(folder) / "log").open("w") as log:
        home = Path(folder) / "home"
        command = [*ALLTING, "join", link, "--home", str(home)]
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:

            def started() -> bool:
                assert process.poll() is None, (Path(folder) / "log").read_text()
                return (home / "config.toml").exists()

            until(started, "the newcomer has its home", seconds=30)
            yield home, f"http://{Config.load(home / 'config.toml').rpc.listen}"
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def synced(url: str, height: int) -> Any:
    """The newcomer's status once it has decided *height*."""

    def reached() -> Any:
        try:
            status = rpc(url, "status")
        except OSError:
            return None
        return status if status["sync_info"]["latest_block_height"] >= height else None

    return until(reached, f"the newcomer at height {height}", seconds=60)


def govern(network: Network, *messages: dict[str, Any]) -> None:
    """The town has carried out *messages*, by proposal and the votes of three."""
    home = ("--home", str(network.directory))
    answer = json.loads(
        succeed(
            *("tx", "governance", "propose", *home, "--from", "anna", "--title", "A new validator", "--json"),
            *("--body-hash", hashlib.sha256(b"").hexdigest(), "--messages", json.dumps(messages)),
        )
    )
    number = next(event["proposal"] for event in answer["result"]["events"] if event["name"] == "proposed")
    for name in ("anna", "bjorn", "cilla"):
        succeed("tx", "governance", "vote", *home, "--from", name, "--proposal", str(number), "--choice", "yes")

    def executed() -> bool:
        return bool(network.query("governance/proposal", proposal=number)["status"] == "executed")

    until(executed, "the proposal is carried out", seconds=60)


def test_a_newcomer_joins_with_a_link_and_becomes_a_validator_that_counts(network: Network) -> None:
    network.up("--set", f"governance.voting_period_ms={BALLOT_MS}")
    invited = succeed("invite", "--voucher", "--from", "anna", "--home", str(network.directory / "node0"), "--json")
    with joined(json.loads(invited)["link"]) as (home, url):
        synced(url, network.height())
        succeed("keys", "new", "erik", "--open", "--home", str(home))
        public_key = rpc(url, "status")["validator_info"]["public_key"]
        succeed(
            *("tx", "validators", "apply", "--home", str(home), "--from", "erik", "--voucher"),
            *("--public-key", public_key, "--name", "erik's node"),
        )
        govern(network, {"validators.admit": {"public_key": public_key, "power": 10}})
        until(lambda: rpc(url, "status")["validator_info"]["power"] == 10, "the newcomer has power")
        until(lambda: _signed(network, public_key), "the newcomer signs blocks", seconds=30)

        for number in range(4):
            network.devnet("kill", str(number))
            others = [other for other in range(4) if other != number]
            network.until_height(network.height(others[0]) + 2, nodes=others)
            network.devnet("start", str(number))
            network.until_height(network.height(others[0]))
        height = network.height()
        synced(url, height)
        assert rpc(url, "header", height=height)["header"]["app_hash"] in network.app_hashes(height)
    network.until_height(network.height() + 2)  # without the fifth, too


def _signed(network: Network, public_key: str) -> bool:
    """Whether the holder of *public_key* signed the block before the latest."""
    url = network.urls[0]
    height = rpc(url, "status")["sync_info"]["latest_block_height"] - 1
    members = rpc(url, "validators", height=height)["validators"]
    places = [place for place, member in enumerate(members) if member["public_key"] == public_key]
    entries = rpc(url, "commit", height=height)["commit"]["entries"]
    return any(entries[place] is not None and entries[place]["for_block"] for place in places)
