"""Issue line 6: load and bench print the figures that were agreed upon. How high they are is no test's business."""

from __future__ import annotations

import json

import pytest

from tests.stories.network import Network

pytestmark = pytest.mark.story

LOAD_FIGURES = {"sent", "accepted", "committed", "refused", "expired", "tx_per_s", "latency_ms", "lost", "repeated"}
BENCH_FIGURES = {
    *("verify_per_s", "cores", "limit_tx_per_s", "tx_per_s", "ratio", "cpu_per_tx_verifies", "latency_ms"),
    *("blocks_per_s", "rss_mib", "wire_bytes_per_tx", "duplicates_per_tx"),
}


def test_load_keeps_books_of_every_transaction(network: Network) -> None:
    network.up()
    books = json.loads(network.devnet("load", "--rate", "50", "--seconds", "4", "--json"))
    assert set(books) >= LOAD_FIGURES
    assert (books["sent"], books["committed"], books["lost"], books["repeated"]) == (200, 200, 0, 0)
    assert 0 < books["latency_ms"]["p50"] <= books["latency_ms"]["p99"] <= books["latency_ms"]["max"]
    again = json.loads(network.devnet("load", "--rate", "50", "--seconds", "2", "--json"))
    assert again["committed"] == 100


def test_bench_prints_what_a_transaction_costs_and_leaves_nothing(network: Network) -> None:
    figures = json.loads(network.devnet("bench", "--runs", "1", "--seconds", "3", "--json", seconds=200))
    assert set(figures) >= BENCH_FIGURES
    assert all(figures[name] is not None for name in BENCH_FIGURES)
    for rank in ("p50", "p99"):
        assert set(figures["latency_ms"][rank]) == {"quarter", "half", "three_quarters"}
    assert all(run["refused"] == 0 for run in figures["runs"])
    assert not (network.directory / "bench").exists()
