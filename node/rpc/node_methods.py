"""Methods about this node: its state, peers, consensus and waiting transactions."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from consensus.address import to_text
from node.retention import BLOCKS, EVENTS, INDEX, RESULTS, STATES
from node.rpc import shapes
from node.rpc.methods import method
from node.rpc.parameters import Limit
from node.services import Services

PROTOCOL_VERSION = 1
UNCONFIRMED_MAX = 100
_NAMES = {BLOCKS: "block", RESULTS: "results", EVENTS: "events", INDEX: "index", STATES: "state"}


class NodeMethods:
    """What a node says of itself."""

    def __init__(self, services: Services) -> None:
        self._services = services

    @method
    async def status(self) -> Any:
        """Who this node is, how far it is, and whether it votes."""
        return {
            "node_info": self._node_info(),
            "sync_info": self._sync_info(),
            "validator_info": self._validator_info(),
        }

    def _node_info(self) -> dict[str, Any]:
        services = self._services
        return {
            "id": services.network.node_id.hex(),
            "moniker": services.config.moniker,
            "network": services.chain_id,
            "genesis_hash": services.genesis.hash.hex(),
            "application": services.genesis.application,
            "protocol_version": PROTOCOL_VERSION,
            "version": version("allting"),
            "listen_address": services.config.p2p.external_address or services.config.p2p.listen,
            "started_ms": services.started_ms,
        }

    def _sync_info(self) -> dict[str, Any]:
        services = self._services
        chain = services.store.chain_state()
        status = services.consensus_status()
        return {
            "latest_block_height": services.store.height,
            "latest_block_hash": "" if chain is None else chain.block_id.hex(),
            "latest_app_hash": "" if chain is None else chain.app_hash.hex(),
            "latest_block_time_ms": 0 if chain is None else chain.time_ms,
            **{f"earliest_{_NAMES[part]}_height": height for part, height in services.store.kept.earliest.items()},
            "catching_up": bool(status["catching_up"]),
            "peers": len(services.network.peers),
        }

    def _validator_info(self) -> dict[str, Any] | None:
        services = self._services
        if services.signer is None:
            return None
        chain = services.store.chain_state()
        member = None if chain is None else chain.validators.by_address(services.signer.address)
        return {
            "address": to_text(services.signer.address),
            "public_key": services.signer.public_key.hex(),
            "power": 0 if member is None else member.power,
            "signing": services.signer.state,
        }

    @method
    async def health(self) -> Any:
        """An empty object, as long as the node serves."""
        return {}

    @method
    async def net_info(self) -> Any:
        """The peers that this node is connected with; where private ones are is not told."""
        return shapes.plain(self._services.network.net_info())

    @method
    async def consensus_state(self) -> Any:
        """Height, round, step, proposer, locked and valid block, and the votes of each round."""
        return shapes.plain(self._services.consensus_status())

    @method
    async def num_unconfirmed_txs(self) -> Any:
        """How many transactions wait, and their bytes."""
        mempool = self._services.mempool
        return {"n_txs": mempool.count, "total_bytes": mempool.bytes}

    @method
    async def unconfirmed_txs(self, limit: Limit = 30) -> Any:
        """Transactions that wait, in order of arrival, at most 100."""
        mempool = self._services.mempool
        waiting = mempool.waiting(min(limit, UNCONFIRMED_MAX))
        return {
            "n_txs": mempool.count,
            "total_bytes": mempool.bytes,
            "txs": [shapes.base64_text(transaction.raw) for transaction in waiting],
        }
