"""Seven validators, four perturbations under load, a lie, two newcomers: every invariant holds on every node."""

from __future__ import annotations

import base64
import dataclasses
import json
import subprocess
import time
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from consensus.codec import encode
from consensus.evidence import DuplicateVote, to_wire
from consensus.signing import sha256, sign
from consensus.vote import Vote, VoteKind, vote_sign_bytes
from devnet.homes import PERSONS, STRANGER
from node.config import Config
from node.home import Home
from tests.perturbations.invariants import INVARIANTS, Net
from tests.stories.network import ALLTING, Network, rpc, succeed, until
from tests.stories.test_nothing_lost import check_books, load

pytestmark = [pytest.mark.story, pytest.mark.long]

VALIDATORS = 7
RATE, SECONDS = 20, 90
SNAPSHOT_INTERVAL = 20
PAUSE_SECONDS = 8
TRANSACTIONS_LOOKED_AT = 40
LIAR = 6
"""Nobody perturbs it: it is convicted of what it signed, not of what befell it."""


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


def double_vote(network: Network, number: int) -> DuplicateVote:
    """Two precommits of validator *number* for different blocks of the latest height."""
    key, height, chain_id = network.validator_key(number), network.height(), network.record.chain_id
    return DuplicateVote.of(
        *(
            Vote(
                kind=VoteKind.PRECOMMIT,
                height=height,
                round=0,
                block_id=value,
                validator=key.address,
                signature=sign(key.unlock(), vote_sign_bytes(chain_id, VoteKind.PRECOMMIT, height, 0, value)),
            )
            for value in (sha256(b"one block"), sha256(b"another"))
        )
    )


def convict(network: Network, lie: DuplicateVote, public_key: str) -> int:
    """The height of the block that bears *lie*, which node 0 was handed."""
    handed = rpc(network.urls[0], "broadcast_evidence", evidence=base64.b64encode(encode(to_wire(lie))).decode())
    assert handed == {"hash": lie.id.hex(), "code": "", "text": ""}
    jailing = until(lambda: network.query("validators/jailing", public_key=public_key), "the liar is convicted")
    return int(jailing["convicted_at"])


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
            lie, liar = double_vote(network, LIAR), network.validator_key(LIAR).public_key.hex()
            convicted_at = convict(network, lie, liar)
            # The newcomers come after the next snapshot, so that one of them knows the conviction by the state only.
            next_snapshot = (max(convicted_at, SNAPSHOT_INTERVAL) // SNAPSHOT_INTERVAL + 1) * SNAPSHOT_INTERVAL
            network.until_height(next_snapshot + 5, seconds=240)
            newcomers = [stack.enter_context(late(network, tmp_path, mode)) for mode in ("auto", "blocks")]
        check_books(result[0])
        height = max(network.height(node) for node in range(VALIDATORS))
        urls = [*network.urls, *newcomers]
        for url in urls:
            caught_up(url, height)
        ids = [id_ for block in network.blocks() for id_ in block["transaction_ids"]]
        town = tomllib.loads(Home(Path(network.record.node(0).home)).genesis.read_text())["town"]
        idle = {network.address(name) for name in (*PERSONS, STRANGER)}
        net = Net(
            urls=urls,
            members={member["public_key"]: member["power"] for member in town["validators"]["members"]},
            height=height,
            calm_from=convicted_at,
            funded={each["address"]: each["amount"] for each in town["coin"]["accounts"] if each["address"] in idle},
            transactions=ids[:: max(1, len(ids) // TRANSACTIONS_LOOKED_AT)],
            liar=liar,
            lie=lie,
        )
        assert (len(net.members), len(net.funded)) == (VALIDATORS, len(idle))
        assert net.earliest(newcomers[0]) > convicted_at, "the first newcomer began with a snapshot"
        assert net.earliest(newcomers[1]) == 1, "the second one executed every block"
        for invariant in INVARIANTS:
            invariant(net)
