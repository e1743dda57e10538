"""Methods that bring transactions in: prepare, assemble, broadcast, and wait for the block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import trio

from consensus.application import Inadmissible
from consensus.codec import BadMessage
from consensus.transaction import Transaction
from node.mempool import Outcome
from node.mempool_why import where
from node.rpc.chain import ChainMethods
from node.rpc.errors import RpcError, TimedOut
from node.rpc.methods import method
from node.rpc.parameters import Base64, HashText, WaitMs
from node.services import Services

COMMIT_WAIT_MS = 30_000
"""How long broadcast_tx_commit waits for a block if the caller doesn't say."""


@dataclass(frozen=True, slots=True)
class Broadcast:
    """One transaction of a batch, and how long its caller waits for the block (None: not at all)."""

    raw: bytes
    wait_ms: int | None


class TransactionMethods:
    """The way in for transactions."""

    def __init__(self, services: Services, chain: ChainMethods) -> None:
        self._services = services
        self._chain = chain

    @method
    async def broadcast_tx_async(self, tx: Base64) -> Any:
        """Hands a transaction in; answers as broadcast_tx_sync does (kept for the name)."""
        return await self._single(Broadcast(tx, None))

    @method
    async def broadcast_tx_sync(self, tx: Base64) -> Any:
        """Hands a transaction in and says whether it waits for a block now (code "") or why not."""
        return await self._single(Broadcast(tx, None))

    @method
    async def broadcast_tx_commit(self, tx: Base64, wait_ms: WaitMs = COMMIT_WAIT_MS) -> Any:
        """Hands a transaction in and waits for its block: height, index and result."""
        return await self._single(Broadcast(tx, wait_ms))

    async def _single(self, entry: Broadcast) -> Any:
        [answer] = await self.broadcast([entry])
        if isinstance(answer, RpcError):
            raise answer
        return answer

    async def broadcast(self, entries: Sequence[Broadcast]) -> list[dict[str, Any] | RpcError]:
        """The answers to *entries*, in order, after one submission of them all."""
        started = trio.current_time()
        outcomes = await self._services.submit([entry.raw for entry in entries])
        answers: list[dict[str, Any] | RpcError] = []
        for entry, outcome in zip(entries, outcomes, strict=True):
            waits = entry.wait_ms is not None and outcome.id is not None and await self._is_under_way(outcome)
            if waits and outcome.id is not None and entry.wait_ms is not None:
                answers.append(await self._included(outcome.id, started + entry.wait_ms / 1000))
            else:
                answers.append(_outcome_json(outcome))
        return answers

    async def _is_under_way(self, outcome: Outcome) -> bool:
        """Whether waiting makes sense: it was accepted, or it had been accepted or decided before."""
        if not outcome.code:
            return True
        assert outcome.id is not None
        known = self._services.mempool.get(outcome.id) is not None
        return known or self._services.store.find_transaction(outcome.id) is not None

    async def _included(self, id_: bytes, deadline: float) -> dict[str, Any] | RpcError:
        """Height, index and result of the transaction as soon as it is in a block; else why it is not."""
        services = self._services
        with trio.move_on_at(deadline):
            while True:
                seen = services.heights.current
                waits = services.mempool.get(id_) is not None
                place = services.store.find_transaction(id_)
                if place is not None:
                    return self._included_json(id_, place)
                if not waits:
                    return _outcome_json(services.mempool.why(id_))
                await services.heights.wait_beyond(seen)
        return TimedOut("the transaction was accepted and is not in a block yet; ask again with tx", hash=id_.hex())

    def _included_json(self, id_: bytes, place: tuple[int, int]) -> dict[str, Any]:
        height, index = place
        result = self._chain.transaction(height, index)["result"]
        return {"hash": id_.hex(), "code": "", "text": "", "height": height, "index": index, "result": result}

    @method
    async def tx_status(self, hash_: HashText) -> Any:
        """Where a transaction is (``block``, ``pool``, ``verifier`` or ``nowhere``), and why it waits or went."""
        return where(self._services, hash_)

    @method
    async def check_tx(self, tx: Base64) -> Any:
        """What the mempool would say of a transaction now, but for its signatures; nothing is handed in."""
        services = self._services
        chain = services.store.chain_state()
        assert chain is not None, "RPC serves once the genesis is stored"
        try:
            transaction = Transaction.decode(tx, bytes_max=chain.params.transaction_bytes_max)
            if transaction.body.chain_id != services.chain_id:
                raise Inadmissible(
                    "tx.wrong_chain", f"this is a transaction of another chain; here is {services.chain_id}"
                )
            time_ms = max(services.now_ms(), chain.time_ms)
            state = services.store.state()
            admission = services.app.admit(transaction, state, time_ms=time_ms, params=chain.params)
        except (BadMessage, Inadmissible) as error:
            return {"code": error.code, "text": str(error)}
        return {
            "code": "",
            "text": "",
            "hash": transaction.id.hex(),
            "next_nonce": admission.next_nonce,
            "weight_max": admission.weight_max,
            "priority": admission.priority,
        }


def _outcome_json(outcome: Outcome) -> dict[str, Any]:
    return {"hash": None if outcome.id is None else outcome.id.hex(), "code": outcome.code, "text": outcome.text}
