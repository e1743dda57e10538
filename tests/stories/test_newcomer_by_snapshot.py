"""A newcomer to a chain with a past begins with a snapshot, says what it lacks, and takes part like the others."""

from __future__ import annotations

import json

import pytest

from tests.stories.network import Network, RpcRefused, rpc, succeed, until
from tests.stories.test_member_joins import joined, synced

pytestmark = [pytest.mark.story, pytest.mark.long]

INTERVAL = 20


def test_a_newcomer_begins_with_a_snapshot_and_goes_on_with_the_others(network: Network) -> None:
    network.up("--set", f"engine.snapshot_interval_blocks={INTERVAL}", "--set", "engine.heartbeat_ms=250")
    network.until_height(INTERVAL + 3)
    balance = network.query("coin/balance", address=network.address("anna"))
    invited = succeed("invite", "--home", str(network.directory / "node0"), "--json")
    with joined(json.loads(invited)["link"]) as (_, url):
        status = synced(url, network.height())
        earliest = status["sync_info"]["earliest_block_height"]
        assert earliest % INTERVAL == 1
        assert earliest > INTERVAL
        assert rpc(url, "query", path="coin/balance", args={"address": network.address("anna")})["answer"] == balance
        with pytest.raises(RpcRefused) as refused:
            rpc(url, "block", height=1)
        assert refused.value.code == "rpc.pruned"
        height = network.height() + 3
        synced(url, height)
        assert rpc(url, "header", height=height)["header"]["app_hash"] in network.app_hashes(height)
        until(lambda: rpc(url, "net_info")["n_peers"] >= 1, "the newcomer has peers")
