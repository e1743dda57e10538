"""What a scrape shows: the state of the moment, and counters that only grow."""

from __future__ import annotations

from pathlib import Path

import trio.testing
from prometheus_client.parser import text_string_to_metric_families

from node.log import LOSSES
from node.metrics import RpcMetrics
from tests.node.served import STRANGER, served, text


def samples(shown: bytes) -> dict[str, float]:
    """Name with labels → value."""
    found = {}
    for family in text_string_to_metric_families(shown.decode()):
        for sample in family.samples:
            labels = ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


async def test_a_scrape_shows_chain_pool_peers_and_process(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with served(tmp_path) as town:
        await town.height(1)
        await town.call("broadcast_tx_commit", tx=text(town.payment()))
        await town.call("broadcast_tx_sync", tx=text(town.payment(seed=STRANGER)))
        await town.call("broadcast_tx_sync", tx=text(town.payment(nonce=5)))
        await town.call("broadcast_tx_sync", tx=text(town.payment(nonce=5)))
        _, body = await town.http("GET", "/metrics")
        shown = samples(body)
        assert shown["allting_consensus_height"] == town.services.store.height
        assert shown["allting_store_table_rows{table=headers}"] == town.services.store.height
        assert 0 < shown["allting_store_table_bytes{table=values}"] < shown["allting_store_used_bytes"]
        assert (
            shown["allting_store_earliest_height{part=blocks}"],
            shown["allting_store_earliest_height{part=states}"],
        ) == (1, 0)
        assert shown["allting_consensus_validators_power"] == shown["allting_consensus_validator_power"] == 10
        assert shown["allting_mempool_transactions"] == 1
        assert shown["allting_mempool_accepted_total"] == 2
        assert shown["allting_mempool_duplicates_total"] == 1
        assert shown["allting_mempool_refused_total{code=tx.fee_too_low}"] == 1
        assert shown["allting_p2p_peers{direction=inbound}"] == 0
        assert shown["allting_p2p_sent_bytes_total"] == 0
        assert shown["allting_sync_catching_up"] == 0
        assert shown["allting_log_lines_lost_total"] == LOSSES.lines
        assert shown["process_cpu_seconds_total"] > 0


def test_each_server_counts_for_itself() -> None:
    one, other = RpcMetrics(), RpcMetrics()
    one.called("status")
    one.called("status")
    one.refused("rpc.limited")
    assert samples(one.text())["allting_rpc_calls_total{method=status}"] == 2
    assert samples(one.text())["allting_rpc_refused_total{code=rpc.limited}"] == 1
    assert "allting_rpc_calls_total{method=status}" not in samples(other.text())
