"""The face of a running node for those who serve people: RPC, admin socket, metrics."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from consensus.application import Application
from node.config import Config
from node.divergence_pool import DivergencePool
from node.evidence_pool import EvidencePool
from node.genesis import GenesisFile
from node.heights import Heights
from node.mempool import Mempool, Outcome
from node.signer import Signer
from node.store import Store
from p2p.network import Network


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Everything that a served request may read, and the ways in: `submit` for transactions, `evidence` for lies."""

    home: Path
    chain_id: str
    genesis: GenesisFile
    config: Config
    app: Application
    store: Store
    mempool: Mempool
    evidence: EvidencePool
    divergences: DivergencePool
    network: Network
    heights: Heights
    signer: Signer | None
    """None on a full node without a validator key."""
    node_seed: bytes
    """32 bytes; signs invites."""
    started_ms: int
    now_ms: Callable[[], int]
    """Own clock, Unix milliseconds."""
    consensus_status: Callable[[], dict[str, Any]]
    """height, round, step, proposer, locked and valid block, votes per round, catching_up."""
    submit: Callable[[Sequence[bytes]], Awaitable[list[Outcome]]]
    """Admits transactions from clients, and gossips what was accepted."""
