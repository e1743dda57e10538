"""Seven validators, four perturbations under load, two newcomers: every invariant holds on every node."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from node.config import Config
from tests.perturbations.invariants import INVARIANTS, Net
from tests.stories.network import ALLTING, Network, rpc, succeed, until
from tests.stories.test_nothing_lost import check_books, load

pytestmark = [pytest.mark.story, pytest.mark.long]

VALIDATORS = 7
RATE, SECONDS = 20, 90
SNAPSHOT_INTERVAL = 20
PAUSE_SECONDS = 8
TRANSACTIONS_LOOKED_AT = 40


@contextmanager
def late(network: Network, folder: Path, mode: str) -> Iterator[str]:
    """The RPC of a full node that joins now, in its way of syncing; it is gone afterwards."""
    home = folder / mode
    link = json.loads(succeed("invite", "--home", str(network.directory / "node0"), "--json"))["link"]
    succeed("join", link, "--home", str(home), "--no-start", "--moniker", mode)
    config = Config.load(home / "config.toml")
    dataclasses.replace(config, sync=dataclasses.replace(config.sync, mode=mode)).write(home / "config.toml")
    with (folder / f"{mode}.log").open("w") as log:
        process = subprocess.Popen([*ALLTING, "start", "--home", str(home)], stdout=log, stderr=log)
        try:
            yield f"http://{config.rpc.listen}"
        finally:
            process.terminate()
            process.wait(30)


def perturb(network: Network) -> None:
    """Kill, pause, restart and disconnect, each on another validator."""
    network.devnet("kill", "1")
    time.sleep(PAUSE_SECONDS)
    network.devnet("start", "1")
    network.devnet("pause", "2")
    time.sleep(PAUSE_SECONDS)
    network.devnet("resume", "2")
    network.devnet("stop", "3")
    network.devnet("start", "3")
    network.devnet("split", "4/0,1,2,3,5,6")
    time.sleep(PAUSE_SECONDS)
    network.devnet("heal")


def caught_up(url: str, height: int) -> None:
    """The node at *url* has decided *height*."""

    def reached() -> bool:
        try:
            return int(rpc(url, "status")["sync_info"]["latest_block_height"]) >= height
        except OSError:
            return False

    until(reached, f"{url} at {height}", seconds=180)


def test_every_invariant_holds_after_perturbations_and_late_joins(network: Network, tmp_path: Path) -> None:
    network.up(
        *("--faults", "--validators", str(VALIDATORS)),
        *("--set", f"engine.snapshot_interval_blocks={SNAPSHOT_INTERVAL}"),
    )
    with ExitStack() as stack:
        with load(network, rate=RATE, seconds=SECONDS) as result:
            perturb(network)
            network.until_height(2 * SNAPSHOT_INTERVAL + 5, seconds=120)
            newcomers = [stack.enter_context(late(network, tmp_path, mode)) for mode in ("auto", "blocks")]
        check_books(result[0])
        height = max(network.height(node) for node in range(VALIDATORS))
        urls = [*network.urls, *newcomers]
        for url in urls:
            caught_up(url, height)
        ids = [id_ for block in network.blocks() for id_ in block["transaction_ids"]]
        net = Net(
            urls=urls,
            validators=[network.validator_key(number).public_key.hex() for number in range(VALIDATORS)],
            height=height,
            funded={network.address("david"): network.query("coin/balance", address=network.address("david"))},
            transactions=ids[:: max(1, len(ids) // TRANSACTIONS_LOOKED_AT)],
        )
        assert net.earliest(newcomers[0]) > 1, "the first newcomer began with a snapshot"
        assert net.earliest(newcomers[1]) == 1, "the second one executed every block"
        for invariant in INVARIANTS:
            invariant(net)
