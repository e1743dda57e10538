"""A seed is a world: whatever draws a world again from it sees the same, in another process too."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize(("depth", "seeds"), [("core", range(6)), ("node", range(5, 6))])
def test_same_seed_gives_the_same_hash_in_processes_with_different_hash_seeds(depth: str, seeds: range) -> None:
    program = f"from devnet.sim import {depth}\nfor seed in {seeds}: print({depth}.run(seed))"
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
    assert told[0].count("hash=") == len(seeds)
