"""The same blocks give the same changes, whatever the machine, the hash seed, the order, and what was tried before."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from city.app import Town as Application
from city.modules.coin import Coin
from city.modules.governance import Choice, Governance
from city.modules.identity import Identity
from city.modules.validators import Validators
from city.testing import CHAIN_ID, START_MS, Town
from consensus.application import Inadmissible, Result
from consensus.codec import encode
from consensus.params import TINY
from consensus.shape import to_bytes
from consensus.signing import sha256
from tests.city.tools import ToolLibrary

ROOT = Path(__file__).parents[2]


def a_busy_day() -> str:
    """One digest over all changes and results of a day with everything in it."""
    town = Town(ToolLibrary)
    digest = b""
    commit = town._commit

    def noting(execution: object, results: list[Result]) -> None:
        nonlocal digest
        commit(execution, results)  # type: ignore[arg-type]
        rows = tuple((name, tuple(rows.items())) for name, rows in execution.changes.items())  # type: ignore[attr-defined]
        digest = sha256(digest + encode(rows) + b"".join(to_bytes(result) for result in results))

    town._commit = noting  # type: ignore[method-assign]
    people = [town.person(coins=1_000) for _ in range(5)]
    town.govern("tools.add", tool=7, called="ladder")
    people[0].sends("tools.borrow", tool=7)
    people[1].sends("coin.send", to=people[2], amount=5)
    people[2].sends("validators.apply", public_key=b"k" * 32, name="five")
    admit = town.message("validators.admit", public_key=b"k" * 32)
    people[0].sends("governance.propose", title="t", body_hash=b"b" * 32, messages=(admit,))
    for person in people:
        person.sends("governance.vote", proposal=1, choice=Choice.YES)
    town.passes(days=8)
    return digest.hex()


@pytest.mark.parametrize("seed", ["0", "4711"])
def test_the_hash_seed_of_a_process_changes_nothing(seed: str) -> None:
    made = subprocess.run(
        [sys.executable, "-c", "from tests.city.test_determinism import a_busy_day; print(a_busy_day())"],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        check=True,
    )
    assert made.stdout.strip() == a_busy_day()


def test_the_order_in_which_modules_are_named_changes_nothing() -> None:
    kinds = [Coin, Governance, Identity, Validators]
    one, two = Application(kinds), Application(kinds[::-1])
    document = {"coin": {"treasury": 5}}
    first, second = (town.genesis(document, chain_id=CHAIN_ID, time_ms=START_MS, params=TINY) for town in (one, two))
    assert list(first.changes) == list(second.changes)
    assert [list(rows.items()) for rows in first.changes.values()] == [list(r.items()) for r in second.changes.values()]
    assert one.module_names == two.module_names


def test_what_a_proposer_tried_and_left_out_changes_nothing_for_others() -> None:
    results = []
    for tries in (True, False):
        town = Town(ToolLibrary)
        anna, bella = town.stranger(coins=10), town.stranger()
        send = town.message("coin.send", to=bella, amount=1)
        execution = town.app.execute(town.state, town._next_block(None))
        execution.begin()
        if tries:
            for bad in (
                anna.transaction(send, nonce=7),
                anna.transaction(send, fee=11),
                bella.transaction(send, fee=1),
            ):
                with pytest.raises(Inadmissible):
                    execution.deliver(bad)
        result = execution.deliver(anna.transaction(send))
        execution.end()
        results.append((result, dict(execution.changes), execution.weight))
    assert results[0] == results[1]
