"""Method ``query``: what a module answers, at any height that is kept, with a proof if wanted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from consensus.application import ProofTarget, QueryRefused
from node.retention import STATES
from node.rpc import shapes
from node.rpc.chain import ChainMethods, pruned
from node.rpc.errors import NotFound, QueryFailed, RpcError
from node.rpc.methods import method
from node.rpc.parameters import Flag, Height, JsonObject, Text
from node.services import Services
from node.state import StateGone


class QueryMethods:
    """Questions to the hosted application."""

    def __init__(self, services: Services, chain: ChainMethods) -> None:
        self._services = services
        self._chain = chain

    @method
    async def query(
        self, path: Text, args: JsonObject | None = None, height: Height | None = None, prove: Flag = False
    ) -> Any:
        """What ``module/query`` answers to *args* at *height* (the latest if absent).

        With *prove* the state entries that the answer rests on come along, each with its way to the application hash of
        that height's header: a client that verified the header need not trust this node.
        """
        arguments = args or {}
        chosen, time_ms = self._moment(height, prove)
        app, store = self._services.app, self._services.store
        try:
            answer = app.query(path, arguments, store.state(chosen), height=chosen, time_ms=time_ms)
            found: dict[str, Any] = {"height": chosen, "time_ms": time_ms, "answer": shapes.plain(answer)}
            if prove:
                found["proof"] = self._proof(app.proof_targets(path, arguments), chosen)
        except QueryRefused as error:
            raise QueryFailed(str(error), error.code) from None
        except StateGone as error:
            raise self._gone(chosen, error) from None
        return found

    def _gone(self, height: int, error: StateGone) -> RpcError:
        earliest = self._services.store.kept.earliest[STATES]
        return pruned(STATES, height, earliest) if height < earliest else NotFound(str(error))

    def _moment(self, height: int | None, prove: bool) -> tuple[int, int]:
        """The height to answer at, and its block time. Height 0 (genesis) has no header to prove anything by."""
        store = self._services.store
        if (store.height if height is None else height) == 0 and not prove:
            return 0, self._services.genesis.time_ms
        chosen = self._chain.height_or_latest(height)
        return chosen, self._chain.stored(store.header, chosen).time_ms

    def _proof(self, targets: Sequence[ProofTarget], height: int) -> Mapping[str, Any]:
        store = self._services.store
        roots = self._chain.stored(store.module_roots, height)
        entries = []
        for target in targets:
            value, proof = store.prove(target.module, target.key, height)
            entries.append(shapes.entry_json(target, value, proof))
        return {"module_roots": shapes.module_roots_json(roots), "entries": entries}
