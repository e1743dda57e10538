"""Issue line 4: through kills, pauses and splits under load, what was accepted is decided, once, everywhere alike."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.stories.network import ALLTING, Network

pytestmark = pytest.mark.story

MESSAGES = Path(__file__).parents[2] / "docs" / "messages.md"


@contextmanager
def load(network: Network, *, rate: int, seconds: int) -> Iterator[list[dict[str, Any]]]:
    """A load runs meanwhile; afterwards the list holds its books."""
    books: list[dict[str, Any]] = []
    command = [*ALLTING, "devnet", "load", "--dir", str(network.directory), "--json"]
    command += ["--rate", str(rate), "--seconds", str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as generator:
        try:
            yield books
            output, errors = generator.communicate(timeout=seconds + 200)
            assert output, errors
            books.append(json.loads(output))
        finally:
            generator.kill()


def wait_until(moment: float) -> None:
    """It is *moment* (monotonic seconds): faults come at set times of the load, that is what this story is about."""
    time.sleep(max(0.0, moment - time.monotonic()))


def check_books(books: dict[str, Any]) -> None:
    """Nothing was lost, nothing happened twice, and everything that was accepted is accounted for."""
    assert (books["lost"], books["repeated"]) == (0, 0), books
    assert books["accepted"] == books["committed"] + books["refused"] + books["expired"], books
    assert books["committed"] > 0, books


def check_chain(network: Network, books: dict[str, Any]) -> None:
    """Each transaction stands on the chain once, and all nodes have the same chain."""
    network.until_height(max(network.height(node) for node in range(4)))
    height = min(network.height(node) for node in range(4))
    assert len(network.app_hashes(height)) == 1
    ids = [id_ for block in network.blocks() for id_ in block["transaction_ids"]]
    assert len(ids) == len(set(ids))
    assert len(ids) >= books["committed"]


def check_logs(network: Network) -> None:
    """No error was logged but those that the reference lists with their cause."""
    listed = set(re.findall(r"`([a-z_]+)`", MESSAGES.read_text())) if MESSAGES.exists() else set()
    strange = [line for line in network.log_lines("error") if line["event"] not in listed]
    assert strange == []


def test_a_kill_a_pause_and_a_split_under_load_lose_nothing(network: Network) -> None:
    network.up("--faults")
    with load(network, rate=100, seconds=25) as result:
        started = time.monotonic()
        wait_until(started + 5)
        network.devnet("kill", "1")
        wait_until(started + 10)
        network.devnet("start", "1")
        wait_until(started + 13)
        network.devnet("pause", "2")
        wait_until(started + 17)
        network.devnet("resume", "2")
        wait_until(started + 19)
        network.devnet("split", "0,1/2,3")
        wait_until(started + 22)
        network.devnet("heal")
    [books] = result
    check_books(books)
    assert books["sent"] == 2_500
    check_chain(network, books)
    check_logs(network)


def test_after_a_power_cut_of_the_whole_town_it_goes_on_without_repair(network: Network) -> None:
    network.up()
    with load(network, rate=100, seconds=12) as result:
        started = time.monotonic()
        wait_until(started + 5)
        before = max(network.height(node) for node in range(4))
        network.devnet("kill", "0,1,2,3")
        network.devnet("start", "0,1,2,3")
        network.until_height(before + 1, seconds=30)
    [books] = result
    check_books(books)
    check_chain(network, books)
    check_logs(network)
