"""A real node gets SIGKILL right before and after each step on the disk that a run of it lists, and comes back."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from devnet.audit import Audit
from devnet.ports import free_ports
from node.config import Config, P2pConfig, RpcConfig, VerifyConfig
from node.home import Home
from tests.stories.network import rpc, succeed, until

LIFE_SECONDS_MAX = 300.0
"""A life takes a second or two; a busy machine is no reason to fail."""


class LoneNode:
    """A chain of one validator, whose every life begins as an operator's does."""

    def __init__(self, folder: Path) -> None:
        self.home = Home(folder)
        succeed("init", "--chain-id", "ting-lone-1", "--preset", "TINY", "--home", str(folder))
        rpc_port, p2p_port = free_ports(2)
        self.url = f"http://127.0.0.1:{rpc_port}"
        dataclasses.replace(
            Config.load(self.home.config),
            p2p=P2pConfig(listen=f"127.0.0.1:{p2p_port}"),
            rpc=RpcConfig(listen=f"127.0.0.1:{rpc_port}"),
            verify=VerifyConfig(processes=0),
        ).write(self.home.config)
        self.audit = Audit()

    @contextmanager
    def life(self, *plan: str) -> Iterator[subprocess.Popen[bytes]]:
        """It runs on a disk with *plan*; at the end it is gone."""
        command = [sys.executable, "-m", "devnet.faulty_disk", json.dumps(plan), "start", "--home", str(self.home.path)]
        with (
            (self.home.path / "said.txt").open("ab") as said,
            subprocess.Popen(command, stdout=said, stderr=said) as process,
        ):
            try:
                yield process
            finally:
                process.kill()

    def listed(self) -> list[str]:
        """The steps of a life that decides three heights and is stopped."""
        file = self.home.path / "steps.json"
        with self.life("list", str(file)) as process:
            self.decides(3)
            process.send_signal(signal.SIGTERM)
            assert process.wait(LIFE_SECONDS_MAX) == 0
        return sorted(json.loads(file.read_text()))

    def decides(self, heights: int) -> None:
        """That many more heights are decided."""
        first = until(self._height, "an answer", seconds=LIFE_SECONDS_MAX) or 0
        until(lambda: (self._height() or 0) >= first + heights, "decisions", seconds=LIFE_SECONDS_MAX)

    def is_killed(self, when: str, step: str) -> None:
        """It lives until SIGKILL *when* (before or after) *step*; whatever it signed so far contradicts nothing."""
        with self.life("kill", when, step, "1") as process:
            assert process.wait(LIFE_SECONDS_MAX) == -signal.SIGKILL, f"{when} {step}"
        if self.home.wal.exists():
            self.audit.read(self.home.wal)

    def _height(self) -> int | None:
        try:
            return int(rpc(self.url, "status")["sync_info"]["latest_block_height"])
        except OSError:
            return None


@pytest.mark.story
@pytest.mark.parametrize("every", [40, pytest.param(1, marks=pytest.mark.long)])
def test_sigkill_at_any_step_needs_no_repair_and_makes_no_second_signature(every: int, tmp_path: Path) -> None:
    node = LoneNode(tmp_path / "node")
    first = node.listed()
    again = node.listed()
    assert {"chain commit", "consensus.wal sync", "last_sign.json sync"} <= set(again)
    # Each life begins where the former one was killed, and must come as far as its own step.
    for when, step in [(when, step) for step in again for when in ("before", "after")][::every]:
        if not step.startswith("addresses.json"):  # the address book is written now and then, and at an orderly end
            node.is_killed(when, step)
    with node.life("list", str(tmp_path / "steps.json")):
        node.decides(2)
    node.audit.read(node.home.wal)
    assert node.audit.signatures > 0
    # What is done once in the life of a folder takes a fresh folder each time.
    once = [step for step in first if step not in again]
    assert "last_sign.json link" in once
    for place, (when, step) in enumerate([(w, s) for s in once for w in ("before", "after")][:: 2 * every]):
        fresh = LoneNode(tmp_path / f"fresh{place}")
        fresh.is_killed(when, step)
        with fresh.life("list", str(tmp_path / "steps.json")):
            fresh.decides(2)
        fresh.audit.read(fresh.home.wal)
