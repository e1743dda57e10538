"""Whatever the nemesis does: one history that an order explains, nothing lost, nothing twice, one chain."""

from __future__ import annotations

import collections
import os
import random
import sys
import time
from pathlib import Path

import pytest

from tests.jepsen.clients import CLIENTS, REGISTERS, VALID_MS, Record, at_work, resolve
from tests.jepsen.history import Kind, Operation
from tests.jepsen.linearizable import is_linearizable
from tests.jepsen.nemeses import NEMESES, NODES, Nemesis
from tests.stories.network import Network, rpc, until

pytestmark = [pytest.mark.story, pytest.mark.long]

SEED = int(os.environ.get("JEPSEN_SEED", "1"))
CYCLES = int(os.environ.get("JEPSEN_CYCLES", "4"))
FAULT_SECONDS, CALM_SECONDS = 6.0, 4.0
BALLOT_MS = 10_000
"""Long enough for a proposal and three votes on a busy machine."""
METADATA = "Metadata-Version: 2.1\nName: cells-of-jepsen\nVersion: 1.0\n"
ENTRY_POINTS = "[allting.modules]\ncells = tests.jepsen.cells:Cells\n"


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The module is installed for every process that is started here."""
    facts = tmp_path / "cells_of_jepsen-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(METADATA)
    (facts / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])]))


@pytest.mark.parametrize("nemesis", NEMESES, ids=lambda nemesis: nemesis.name)
def test_the_history_is_linearizable_under(nemesis: Nemesis, network: Network) -> None:
    dice = random.Random(f"{SEED}/{nemesis.name}")
    network.up("--faults", "--set", f"governance.voting_period_ms={BALLOT_MS}")
    with at_work(network, SEED) as record:
        for _ in range(CYCLES):
            time.sleep(CALM_SECONDS)
            try:
                nemesis.begin(network, dice)
                time.sleep(FAULT_SECONDS)
            finally:
                nemesis.end(network, dice)
        time.sleep(CALM_SECONDS)
    _wait_until_all_is_decided(network)
    history = resolve(network, record)
    _tell(nemesis, record, history)
    for register in range(1, REGISTERS + 1):
        assert is_linearizable([each for each in history if each.key == register and each.kind is not Kind.ADD])
    _check_set(network, history)
    ids = collections.Counter(id_ for block in network.blocks() for id_ in block["transaction_ids"])
    assert max(ids.values()) == 1, "a transaction stands on the chain twice"
    height = min(network.height(node) for node in NODES)
    assert len(network.app_hashes(height)) == 1


def _wait_until_all_is_decided(network: Network) -> None:
    """No block can hold what was sent any more, and every node has decided that."""
    sent_until_ms = time.time_ns() // 1_000_000 + VALID_MS
    until(lambda: _time_ms(network) > sent_until_ms, "the last operation has expired", seconds=180)
    network.until_height(max(network.height(node) for node in NODES), seconds=120)


def _time_ms(network: Network) -> int:
    try:
        return int(rpc(network.urls[0], "status")["sync_info"]["latest_block_time_ms"])
    except OSError:
        return 0


def _check_set(network: Network, history: list[Operation]) -> None:
    """On each node what was added is in the set, put there once, and nothing else is."""
    expected = {each.value: 1 for each in history if each.kind is Kind.ADD}
    for node in NODES:
        assert _elements(network, node) == expected, f"an addition was lost or repeated on node {node}"


def _elements(network: Network, node: int) -> dict[int, int]:
    """The set by the state of *node*: number → how often it was added."""
    found: dict[int, int] = {}
    page = network.query("cells/added", node=node)
    while True:
        found |= {row["key"]: row["value"] for row in page["rows"]}
        if page["next"] is None:
            return found
        page = network.query("cells/added", node=node, after=page["next"])


def _tell(nemesis: Nemesis, record: Record, history: list[Operation]) -> None:
    known = sum(sent.answer is not None for sent in record.sent)
    sys.stdout.write(
        f"\n{nemesis.name}: {len(record.sent)} operations of {CLIENTS} clients, {known} answered, "
        f"{len(history) - known} more found on the chain, {len(record.sent) - len(history)} without effect\n"
    )
