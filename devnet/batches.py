"""Transactions into RPC batches, and answers back, cheaply: requests are assembled as bytes, never as objects."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass

from consensus.signing import sha256
from devnet.http import Connection, Refusal, Unreachable, in_order

BATCH_MAX = 50
"""Calls in one RPC batch: what a node answers by default."""

_HEAD = b'{"jsonrpc":"2.0","id":%d,"method":"broadcast_tx_sync","params":{"tx":"'
_TAIL = b'"}}'


@dataclass(slots=True, eq=False)
class Signed:
    """A signed transaction on its way."""

    id: str
    """64 hex digits."""
    text: bytes
    """Its bytes in base64."""
    sender: int
    """Index of the account."""
    nonce: int
    valid_until_ms: int

    @classmethod
    def of(cls, raw: bytes, *, sender: int, nonce: int, valid_until_ms: int) -> Signed:
        """The transaction with the bytes *raw*."""
        return cls(sha256(raw).hex(), base64.b64encode(raw), sender, nonce, valid_until_ms)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a node said to one transaction."""

    code: str
    """"" if it was accepted."""
    text: str


def body_of(transactions: Sequence[Signed]) -> bytes:
    """The JSON-RPC batch that broadcasts *transactions* (at most `BATCH_MAX`)."""
    calls = [_HEAD % number + transaction.text + _TAIL for number, transaction in enumerate(transactions)]
    return b"[" + b",".join(calls) + b"]"


async def broadcast(connection: Connection, transactions: Sequence[Signed]) -> list[Answer]:
    """What the node at *connection* said to each of *transactions*. Raises Unreachable if it said nothing."""
    data = await connection.post(body_of(transactions))
    try:
        reply = json.loads(data)
    except ValueError as error:
        raise Unreachable(f"{connection.url}: no JSON: {error}") from error
    if not isinstance(reply, list):
        raise Unreachable(f"{connection.url}: the answer to a batch is no list: {data[:200].decode(errors='replace')}")
    return [_answer(result) for result in in_order(reply, len(transactions))]


def _answer(result: object) -> Answer:
    if isinstance(result, Refusal):
        code = result.data.get("code", "") if isinstance(result.data, dict) else ""
        return Answer(code or str(result.code), str(result))
    assert isinstance(result, dict), result
    return Answer(result.get("code", ""), result.get("text", ""))
