"""Node worlds: the real node under everything that a seed draws; one chain first, then a further height for all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from devnet.sim import node
from devnet.sim.node_plan import HEIGHTS_MIN
from devnet.sim.seeds import kept

SEEDS = range(3)
FAILED = kept(Path(__file__).parent / "failed_node_seeds.txt")


@pytest.mark.parametrize("seed", [*SEEDS, *FAILED])
def test_real_nodes_decide_one_chain_through_faults_and_all_go_on_after_healing(seed: int) -> None:
    outcome = node.run(seed)
    assert outcome.violation is None, f"allting devnet sim --depth node --seeds {seed} --trace"
    assert outcome.heights >= HEIGHTS_MIN


def test_same_seed_gives_the_same_hash_in_processes_with_different_hash_seeds() -> None:
    program = "from devnet.sim import node\nfor seed in (1, 2): print(node.run(seed))"
    told = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    ]
    assert told[0] == told[1]
    assert told[0].count("hash=") == 2
