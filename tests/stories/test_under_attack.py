"""A town goes on while one of its nodes is attacked: floods of connections, half handshakes, garbage, liars, spam.

ATTACK_S makes it longer (`make attack`); the figures are printed.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import sys
import time
import urllib.request
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import trio

from devnet.workload import Workload, first_answer
from p2p.address import Endpoint
from tests.stories.attackers import REFUSED, Attack
from tests.stories.network import Network, act, rpc, succeed

pytestmark = [pytest.mark.story, pytest.mark.long]

ATTACK_S = float(os.environ.get("ATTACK_S", "6"))
CALM_S = 3.0
NEWCOMER_S = 10.0
"""A handshake takes three messages each way; the machine may be busy with others."""
HONEST = "127.9.0.1"
"""Where a newcomer comes from whom nobody knows."""


def metrics(url: str) -> dict[str, float]:
    """A scrape of the node at *url*, without samples that are 0."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=20) as answer:
        lines = answer.read().decode().splitlines()
    found = {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[:1] != "#")}
    return {name: value for name, value in found.items() if value}


async def pay_for(network: Network, seconds: float) -> list[float]:
    """Seconds that each of an honest client's payments took, through another node than the attacked one."""
    took: list[float] = []
    deadline = time.monotonic() + seconds
    payment = {"coin.send": {"to": network.address("bjorn"), "amount": 1}}
    while time.monotonic() < deadline:
        began = time.monotonic()
        answer = await trio.to_thread.run_sync(act, network.urls[1], network.key("anna"), payment)
        assert answer["result"]["code"] == "", answer
        took.append(time.monotonic() - began)
    return took


async def newcomers(attack: Attack, seconds: float) -> list[str]:
    """What became of a few strangers that mean well: milliseconds until they were let in, or why they were not."""
    came: list[str] = []
    for _ in range(4):
        await trio.sleep(seconds / 6)
        began = time.monotonic()
        try:
            with trio.fail_after(NEWCOMER_S):
                await attack.meet(HONEST)
        except REFUSED as why:
            came.append(repr(why))
        else:
            came.append(f"{(time.monotonic() - began) * 1_000:.0f} ms")
    return came


def figures(network: Network, first: int, last: int, took: list[float]) -> dict[str, Any]:
    """How the chain went from height *first* to *last*."""
    times = [rpc(network.urls[1], "header", height=height)["header"]["time_ms"] for height in range(first, last + 1)]
    gaps = [later - former for former, later in pairwise(times)]
    return {
        "blocks": len(gaps),
        "block_ms_median": statistics.median(gaps),
        "block_ms_max": max(gaps),
        "payments": len(took),
        "payment_ms_median": round(statistics.median(took) * 1_000),
        "payment_ms_max": round(max(took) * 1_000),
    }


def test_the_town_goes_on_while_one_node_is_attacked(network: Network) -> None:
    network.up()
    network.devnet("stop", "0")
    config = Path(network.record.nodes[0].home) / "config.toml"
    config.write_text(config.read_text().replace("exempt_loopback = true", "exempt_loopback = false"))
    network.devnet("start", "0")
    network.until_height(network.height(1) + 1)
    net, attacked = network.record, network.urls[0]
    before = network.record.nodes[0].process

    async def story() -> dict[str, Any]:
        start = network.height(1)
        calm = await pay_for(network, CALM_S)
        middle = network.height(1)
        workload = Workload.of(net, active=500)
        nonces = await first_answer(net, workload)
        genesis = rpc(attacked, "genesis")
        host, _, port = net.nodes[0].p2p.rpartition(":")
        attack = Attack(
            Endpoint(host, int(port)), net.chain_id, bytes.fromhex(genesis["hash"]), random.Random(1), ATTACK_S
        )
        came: list[str] = []
        took: list[float] = []

        async def pay() -> None:
            took.extend(await pay_for(network, ATTACK_S - 1))

        async def come() -> None:
            came.extend(await newcomers(attack, ATTACK_S))

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(attack.run, workload, nonces)
                nursery.start_soon(pay)
                nursery.start_soon(come)
        finally:
            await attack.let_go()
        end = network.height(1)
        return {
            "seconds": ATTACK_S,
            "before": figures(network, start, middle, calm),
            "during": figures(network, middle, end, took),
            "newcomers": came,
            "attackers": dict(sorted(attack.tries.items())),
        }

    found = trio.run(story)
    after = metrics(attacked)
    found["attacked_node"] = {
        name.removeprefix("allting_"): value
        for name, value in after.items()
        if name.startswith(
            (
                "allting_p2p_refused",
                "allting_p2p_evicted",
                "allting_p2p_ban",
                "allting_p2p_addresses",
                "allting_mempool",
                "allting_p2p_penalties",
                "process_resident",
            )
        )
    }
    sys.stdout.write(json.dumps(found, indent=1) + "\n")

    assert network.record.nodes[0].process == before
    assert all(node.running() for node in network.record.nodes)
    persistent = rpc(attacked, "net_info")["persistent"]
    assert [peer["connected"] for peer in persistent] == [True] * 3, "the validators stay connected with each other"
    assert found["during"]["blocks"] >= ATTACK_S / 4
    assert found["during"]["payments"] >= 1
    assert sum(came.endswith(" ms") for came in found["newcomers"]) >= 2, found["newcomers"]
    assert after["allting_mempool_transactions"] <= 20_000
    assert after["allting_p2p_addresses"] <= 1_500
    assert after["process_resident_memory_bytes"] < 400 * 2**20
    height = network.height(0)
    network.until_height(height + 1)
    assert len(network.app_hashes(height)) == 1
    assert network.log_lines("error") == []
    shown = succeed("peers", "--home", net.nodes[0].home)
    for name in ("node1", "node2", "node3"):
        assert name in shown
    assert "ms away, clock" in shown
