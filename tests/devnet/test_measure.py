"""What the benchmark reads."""

from devnet import bench, measure

METRICS = """\
# HELP allting_p2p_sent_bytes_total Bytes.
# TYPE allting_p2p_sent_bytes_total counter
allting_p2p_sent_bytes_total{channel="sync"} 5.0
allting_p2p_sent_bytes_total{channel="transactions"} 7.0
allting_mempool_bytes 1e3
"""


def test_metrics_are_read_with_their_labels() -> None:
    assert measure.parse_metrics(METRICS) == {
        'allting_p2p_sent_bytes_total{channel="sync"}': 5.0,
        'allting_p2p_sent_bytes_total{channel="transactions"}': 7.0,
        "allting_mempool_bytes": 1000.0,
    }


def test_growth_is_over_all_labels_and_none_where_nobody_counts() -> None:
    after = measure.parse_metrics(METRICS)
    before = {'allting_p2p_sent_bytes_total{channel="sync"}': 1.0}
    assert measure.grown(before, after, ["allting_p2p_sent_bytes_total"]) == 11.0
    assert measure.grown(before, after, ["allting_unheard_of_total"]) is None


def test_verification_is_measured() -> None:
    assert measure.verify_per_s(rest_seconds=0, slice_seconds=0.001) > 100


def test_the_machine_has_used_more_cpu_than_we_have() -> None:
    assert 0 < measure.own_cpu_seconds() < measure.machine_cpu_seconds()


def test_figures_are_medians_and_void_where_the_machine_changed_its_speed() -> None:
    runs = [
        bench.Run(
            tx_per_s=rate,
            cpu_us_per_tx_and_node=400.0,
            cpu_share=0.9,
            others_cpu_share=0.01,
            blocks=10,
            refused=0,
            rss_mib=100.0,
            wire_bytes_per_tx=900.0,
            duplicates_per_tx=0.1,
        )
        for rate in (900.0, 1100.0, 1000.0)
    ]
    loads = {name: {"latency_ms": {"p50": 1.0, "p99": 2.0, "max": 3.0}} for name in bench.SHARES}
    figures = bench._figures(bench.Plan(), [10_000.0] * 4, runs, loads, 9.5)
    assert (figures["tx_per_s"], figures["cpu_per_tx_verifies"], figures["void"]) == (1000.0, 4.0, False)
    assert figures["limit_tx_per_s"] == 10_000 * measure.cores() / 4
    assert figures["latency_ms"]["p99"] == {"quarter": 2.0, "half": 2.0, "three_quarters": 2.0}
    assert bench._figures(bench.Plan(), [10_000.0, 9_000.0, 9_000.0, 8_000.0], runs, loads, 9.5)["void"]
