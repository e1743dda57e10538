"""Numbers about a node for Prometheus, in a registry of their own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from node.log import LOSSES
from node.services import Services

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class RpcMetrics:
    """Counts of served calls, by method."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry if registry is not None else CollectorRegistry()
        self._calls = Counter("allting_rpc_calls", "Calls of RPC methods.", ["method"], registry=self.registry)
        self._refused = Counter(
            "allting_rpc_refused", "Requests refused before any method ran.", ["code"], registry=self.registry
        )
        self._by_method: dict[str, Counter] = {}

    def called(self, method: str, times: int = 1) -> None:
        """*times* more calls of *method*, which must be a known name: labels are bounded."""
        counter = self._by_method.get(method)
        if counter is None:
            counter = self._by_method[method] = self._calls.labels(method)
        counter.inc(times)

    def refused(self, code: str) -> None:
        """One more request was refused with *code*."""
        self._refused.labels(code).inc()

    def text(self) -> bytes:
        """All metrics of the registry in Prometheus' text format."""
        return generate_latest(self.registry)


class NodeCollector(Collector):
    """What a node's parts say of themselves at the moment of the scrape; nothing is counted on the way."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def collect(self) -> Iterator[Metric]:
        """The current numbers."""
        yield from self._chain()
        yield _counter("log_lines_lost", "Lines of the log that its disk refused.", LOSSES.lines)
        yield from self._store()
        yield from self._mempool()
        yield from self._evidence()
        yield from self._peers()

    def _chain(self) -> Iterator[Metric]:
        services = self._services
        status = services.consensus_status()
        chain = services.store.chain_state()
        yield _gauge("consensus_height", "The latest decided height.", services.store.height)
        yield _gauge("consensus_round", "The current round, -1 while waiting.", int(status.get("round", 0)))
        yield _gauge("sync_catching_up", "1 while the node is behind its peers.", int(bool(status["catching_up"])))
        if chain is None:
            return
        yield _gauge("consensus_validators", "Members of the next height's set.", len(chain.validators.validators))
        yield _gauge("consensus_validators_power", "Their power together.", chain.validators.total_power)
        yield _gauge("consensus_latest_block_time_seconds", "Time of the latest block.", chain.time_ms / 1000)
        own = None if services.signer is None else chain.validators.by_address(services.signer.address)
        yield _gauge("consensus_validator_power", "This node's own power.", 0 if own is None else own.power)

    def _store(self) -> Iterator[Metric]:
        store = self._services.store
        yield _gauge("store_used_bytes", "Bytes of the chain's database, free pages included.", store.used_bytes)
        sizes = store.table_sizes()
        rows = {table: size.rows for table, size in sizes.items()}
        yield _gauges("store_table_rows", "Rows of a table of the database.", "table", rows)
        used = {table: size.bytes for table, size in sizes.items()}
        yield _gauges("store_table_bytes", "Bytes of its pages.", "table", used)
        yield _gauges("store_earliest_height", "The lowest height that is kept.", "part", store.kept.earliest)

    def _mempool(self) -> Iterator[Metric]:
        mempool = self._services.mempool
        seen = mempool.counters
        yield _gauge("mempool_transactions", "Transactions that wait.", mempool.count)
        yield _gauge("mempool_bytes", "Their bytes.", mempool.bytes)
        yield _counter("mempool_accepted", "Transactions that were let in.", seen.accepted)
        yield _counter("mempool_duplicates", "Transactions that came again.", seen.duplicates)
        yield _counter("mempool_duplicate_bytes", "Their bytes.", seen.duplicate_bytes)
        yield _counter("mempool_displaced", "Transactions replaced or evicted.", seen.displaced)
        yield _counter("mempool_expired", "Transactions whose validity ended while they waited.", seen.expired)
        yield _counter("mempool_committed", "Waiting transactions that came into a block.", seen.committed)
        yield _counters("mempool_refused", "Transactions that were refused or left the pool.", "code", seen.refused)

    def _evidence(self) -> Iterator[Metric]:
        pool = self._services.evidence
        yield _gauge("evidence_waiting", "Proved lies of validators that wait for a block.", len(pool))
        yield _counter("evidence_committed", "Proved lies in blocks since the start.", pool.committed)
        attacks = len(self._services.divergences.known)
        yield _gauge("light_client_attacks", "Proved attacks on light clients; any is an alarm.", attacks)

    def _peers(self) -> Iterator[Metric]:
        network = self._services.network
        peers = list(network.peers.values())
        metric = GaugeMetricFamily("allting_p2p_peers", "Connected peers.", labels=["direction"])
        for direction, outbound in (("inbound", False), ("outbound", True)):
            metric.add_metric([direction], sum(1 for peer in peers if peer.outbound is outbound))
        yield metric
        yield _counters("p2p_refused", "Inbound connections and handshakes refused.", "code", network.doorway.refused)
        yield _gauge("p2p_handshakes", "Inbound handshakes under way.", network.doorway.handshakes)
        yield _counter("p2p_evicted", "Inbound peers that gave way to a newcomer.", network.evicted)
        yield _counter("p2p_penalties", "Times that a peer broke a rule.", network.scores.penalties)
        yield _counter("p2p_bans", "Bans that were made.", network.scores.bans_made)
        yield _gauge("p2p_banned", "Bans in force.", len(network.bans()))
        yield _gauge("p2p_addresses", "Addresses in the book.", len(network.book))
        yield _gauge("p2p_addresses_tried", "Those of them that a dial has reached.", network.book.tried)
        yield _counter("p2p_addresses_ignored", "Addresses told beyond a peer's allowance.", network.addresses_ignored)
        yield _counter("p2p_dial_backs_failed", "Peers whose own address did not answer.", network.dial_backs_failed)
        wire = network.wire_statistics()
        yield _counter("p2p_sent_bytes", "Bytes sent to peers, as on the wire.", wire.bytes_sent)
        yield _counter("p2p_received_bytes", "Bytes received from peers, as on the wire.", wire.bytes_received)
        channels = network.statistics()
        for name, text, field in _CHANNEL_COUNTERS:
            values = {channel: getattr(traffic, field) for channel, traffic in channels.items()}
            yield _counters(name, text, "channel", values)


_CHANNEL_COUNTERS = (
    ("p2p_channel_sent_bytes", "Bytes of messages sent, before encryption.", "bytes_sent"),
    ("p2p_channel_received_bytes", "Bytes of messages received, after decryption.", "bytes_received"),
    ("p2p_channel_sent_messages", "Messages sent.", "messages_sent"),
    ("p2p_channel_received_messages", "Messages received.", "messages_received"),
)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"allting_{name}", text, value=value)


def _gauges(name: str, text: str, label: str, values: Mapping[str, int]) -> Metric:
    """A gauge family with one sample for each member of *values*."""
    metric = GaugeMetricFamily(f"allting_{name}", text, labels=[label])
    for key, value in values.items():
        metric.add_metric([key], value)
    return metric


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"allting_{name}", text, value=value)


def _counters(name: str, text: str, label: str, values: Mapping[str, int]) -> Metric:
    """A counter family with one sample for each member of *values*."""
    metric = CounterMetricFamily(f"allting_{name}", text, labels=[label])
    for key, value in values.items():
        metric.add_metric([key], value)
    return metric


def node_registry(services: Services) -> CollectorRegistry:
    """A registry that shows the numbers of this node and of its process."""
    registry = CollectorRegistry()
    registry.register(NodeCollector(services))
    ProcessCollector(registry=registry)
    return registry
