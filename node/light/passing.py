"""Transactions that a light client passes on, and what it needs to know of accounts to prepare them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from consensus.address import to_text
from consensus.codec import BadMessage
from consensus.light_attack import proof_from_bytes
from consensus.signing import sha256
from consensus.transaction import Body, Transaction
from node.light.answers import part
from node.light.methods import LightChainMethods, LightQueryMethods
from node.light.service import Light
from node.light.source import ASK_SECONDS, SourceGone, SourceRefused
from node.proofs import NotProved
from node.rpc import shapes
from node.rpc.errors import InvalidParams, NotShown, QueryFailed, RpcError, TimedOut, TransactionRefused
from node.rpc.methods import method
from node.rpc.parameters import Base64, WaitMs
from node.rpc.prepare import ACCOUNT_QUERY
from node.rpc.transactions import COMMIT_WAIT_MS, Broadcast

PASSED_MAX = 10_000
"""Nonces of transactions that were passed on and are remembered."""


class PassedOn:
    """Nonces that are taken by transactions on their way, as far as they went through here. Bounded."""

    def __init__(self) -> None:
        self._valid_until_ms: OrderedDict[tuple[bytes, int], int] = OrderedDict()

    def note(self, body: Body) -> None:
        """A transaction with this *body* was accepted by a node."""
        if body.sender is None:
            return
        self._valid_until_ms[body.sender, body.nonce] = body.valid_until_ms
        if len(self._valid_until_ms) > PASSED_MAX:
            self._valid_until_ms.popitem(last=False)

    def holds(self, sender: bytes, nonce: int, now_ms: int) -> bool:
        """Whether a transaction with this nonce may still come into a block."""
        return self._valid_until_ms.get((sender, nonce), -1) >= now_ms


class LightTransactionMethods:
    """The way in, through a node: its word that it took a transaction is its word; that it is in a block is proved."""

    def __init__(self, light: Light, chain: LightChainMethods, passed: PassedOn) -> None:
        self._follower = light.follower
        self._chain = chain
        self._passed = passed

    @method
    async def broadcast_tx_async(self, tx: Base64) -> Any:
        """Hands a transaction to a node; answers as broadcast_tx_sync does (kept for the name)."""
        return await self._single(Broadcast(tx, None))

    @method
    async def broadcast_tx_sync(self, tx: Base64) -> Any:
        """Hands a transaction to a node, and passes on whether it took it (code "") or why not: unverified."""
        return await self._single(Broadcast(tx, None))

    @method
    async def broadcast_tx_commit(self, tx: Base64, wait_ms: WaitMs = COMMIT_WAIT_MS) -> Any:
        """Hands a transaction to a node and waits for its block: height, index and result, verified."""
        return await self._single(Broadcast(tx, wait_ms))

    @method
    async def broadcast_evidence(self, evidence: Base64) -> Any:
        """Hands evidence to every node, and says what each made of it: unverified."""
        try:
            proof_from_bytes(evidence)
        except BadMessage as false:
            raise InvalidParams(f"this is no evidence: {false}", false.code, parameter="evidence") from None
        said: dict[str, str] = {}
        for source in self._follower.sources.all:
            try:
                answer = await source.call("broadcast_evidence", evidence=shapes.base64_text(evidence))
                said[source.name] = str(part(answer, "code"))
            except SourceRefused as refusal:
                said[source.name] = refusal.code
            except (SourceGone, NotProved) as error:
                said[source.name] = str(error)
        return {"said": said}

    async def _single(self, entry: Broadcast) -> dict[str, Any]:
        [answer] = await self.broadcast([entry])
        if isinstance(answer, RpcError):
            raise answer
        return answer

    async def broadcast(self, entries: Sequence[Broadcast]) -> list[dict[str, Any] | RpcError]:
        """The answers to *entries*, in order."""
        answers: list[dict[str, Any] | RpcError] = []
        for entry in entries:
            try:
                answers.append(await self._pass_on(entry))
            except RpcError as error:
                answers.append(error)
        return answers

    async def _pass_on(self, entry: Broadcast) -> dict[str, Any]:
        try:
            transaction = Transaction.decode(entry.raw)
        except BadMessage as error:
            return {"hash": None, "code": error.code, "text": str(error)}
        params: dict[str, Any] = {"tx": shapes.base64_text(entry.raw)}
        name, wait_s = "broadcast_tx_sync", ASK_SECONDS
        if entry.wait_ms is not None:
            name, wait_s = "broadcast_tx_commit", entry.wait_ms / 1000 + ASK_SECONDS
            params["wait_ms"] = entry.wait_ms
        id_ = sha256(entry.raw)

        async def shown(answer: Any) -> dict[str, Any]:
            code, text = part(answer, "code"), part(answer, "text")
            if type(code) is not str or type(text) is not str or part(answer, "hash") not in (id_.hex(), None):
                raise NotProved("the node answers for another transaction")
            if not code:
                self._passed.note(transaction.body)
            if code or entry.wait_ms is None:
                return {"hash": id_.hex(), "code": code, "text": text}
            found = await self._chain.tx(id_)
            place = {"height": found["height"], "index": found["index"], "result": found["result"]}
            return {"hash": id_.hex(), "code": "", "text": "", **place}

        try:
            return await self._follower.verified(name, params, shown, wait_s=wait_s)
        except NotShown as error:
            if error.details["reason"] != TimedOut.code_default:
                raise
            self._passed.note(transaction.body)
            raise TimedOut(
                "the transaction was accepted and is not in a block yet; ask again with tx", hash=id_.hex()
            ) from error


class LightAccounts:
    """Accounts by proved entries of the state, and by what was passed on here."""

    def __init__(self, light: Light, queries: LightQueryMethods, passed: PassedOn) -> None:
        self._follower = light.follower
        self._queries = queries
        self._passed = passed

    async def account(self, address: bytes) -> Mapping[str, Any]:
        """By the latest state, proved."""
        try:
            found = await self._queries.query(ACCOUNT_QUERY, {"address": to_text(address)})
        except QueryFailed as error:
            raise TransactionRefused(str(error), error.code) from error
        account: Mapping[str, Any] = found["answer"]
        return account

    async def next_nonce(self, address: bytes) -> int:
        """After those in blocks and those that were passed on here."""
        nonce = int((await self.account(address))["next_nonce"])
        while self._passed.holds(address, nonce, self._follower.now_ms()):
            nonce += 1
        return nonce

    def now_ms(self) -> int:
        """Own clock or the latest believed block's time, whichever is later."""
        return max(self._follower.now_ms(), self._follower.blocks.latest.time_ms)
