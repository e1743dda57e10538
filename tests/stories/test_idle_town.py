"""Issue line 7: a town at rest makes no blocks, and a due time wakes it."""

from __future__ import annotations

import hashlib
import time

import pytest

from consensus.params import CITY
from tests.stories.network import Network, act, rpc, until

pytestmark = pytest.mark.story

QUIET_SECONDS = 20
"""Sixty in the acceptance run; this is the short version."""
GRAIN_MS = 1_000
PERIOD_MS = 5_000


def test_an_idle_town_makes_no_block_and_a_closing_ballot_wakes_it(network: Network) -> None:
    network.up(
        *("--preset", "CITY"),
        *("--set", f"governance.voting_period_ms={PERIOD_MS}", "--set", f"town.grain_ms={GRAIN_MS}"),
    )
    before = network.height()
    time.sleep(QUIET_SECONDS)
    assert network.height() == before

    asked = {"title": "Silence", "body_hash": hashlib.sha256(b"").hexdigest(), "messages": []}
    answer = act(network.urls[0], network.key("anna"), {"governance.propose": asked})
    [closes] = [event["closes"] for event in answer["result"]["events"] if event["name"] == "proposed"]

    def status() -> bool:
        return bool(network.query("governance/proposal", proposal=1)["status"] != "voting")

    until(status, "the ballot closed by itself", seconds=PERIOD_MS / 1000 + 20)
    height = network.height()
    closing = rpc(network.urls[0], "header", height=height)["header"]
    assert closes <= closing["time_ms"] <= closes + GRAIN_MS + CITY.propose_timeout_ms
