"""Clients that work on registers and the set through the nodes' RPC, each with one operation at a time."""

from __future__ import annotations

import base64
import dataclasses
import http.client
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import nacl.bindings

from consensus.codec import encode
from consensus.signing import sha256, sign_bytes
from consensus.transaction import VERSION
from devnet.accounts import account
from tests.jepsen.history import Kind, Operation
from tests.stories.network import Network, RpcRefused, rpc

CLIENTS = 5
REGISTERS = 4
VALUES = 4
FEE = 1_000
VALID_MS = 20_000
"""How long an operation can still take effect; with the skew of clocks, a test waits longer before it looks."""
PATIENCE_SECONDS = 40


@dataclass(slots=True)
class Sent:
    """An operation and the transaction that carries it."""

    operation: Operation
    id: str
    answer: dict[str, Any] | None = None
    """What a node said of its block; None: nobody knows yet."""


@dataclass(slots=True)
class Record:
    """What all clients did, in the order in which they began."""

    sent: list[Sent] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    elements: int = 0

    def begin(self, sent: Sent) -> None:
        """*sent* is on its way."""
        with self.lock:
            self.sent.append(sent)

    def next_element(self) -> int:
        """A number that nobody has added."""
        with self.lock:
            self.elements += 1
            return self.elements


class Client:
    """Works at one node; after an operation whose fate it does not know, with another account (nonces have no gaps)."""

    def __init__(self, network: Network, record: Record, number: int, seed: int) -> None:
        self._urls = network.urls
        self._chain_id = network.record.chain_id
        self._record = record
        self._account_number = number
        self._nonce = 0
        self._node = number
        self._dice = random.Random(f"{seed}/{number}")

    def work(self, over: threading.Event) -> None:
        """Operations one after the other until all is *over*."""
        while not over.is_set():
            kind = self._dice.choice(list(Kind))
            key, value, expected = (self._dice.randrange(1, high + 1) for high in (REGISTERS, VALUES, VALUES))
            if kind is Kind.ADD:
                value = self._record.next_element()
            self._do(Operation(kind, key, time.monotonic(), value=value, expected=expected))

    def _do(self, operation: Operation) -> None:
        raw = self._signed(_message(operation))
        sent = Sent(operation, sha256(raw).hex())
        self._record.begin(sent)
        url = self._urls[self._node % len(self._urls)]
        try:
            answer = rpc(url, "broadcast_tx_commit", tx=base64.b64encode(raw).decode())
        except (OSError, http.client.HTTPException, RpcRefused, ValueError):  # its node may go in the middle of a word
            answer = {}
        if "result" in answer:
            sent.answer = answer
            sent.operation = dataclasses.replace(operation, completed=time.monotonic())
            self._nonce += 1
            return
        self._account_number += CLIENTS
        self._nonce = 0
        self._node += 1
        time.sleep(self._dice.random() / 2)  # a node that is down answers at once: no need to ask it thousands of times

    def _signed(self, message: tuple[str, str, tuple[int, ...]]) -> bytes:
        who = account(self._chain_id, self._account_number)
        valid_until_ms = time.time_ns() // 1_000_000 + VALID_MS
        body = (
            VERSION,
            self._chain_id,
            who.address,
            self._nonce,
            valid_until_ms,
            FEE,
            None,
            (message,),
            (who.public_key,),
        )
        signature = nacl.bindings.crypto_sign(sign_bytes("tx", self._chain_id, body), who.secret)[:64]
        return encode((*body, (signature,)))


def _message(operation: Operation) -> tuple[str, str, tuple[int, ...]]:
    match operation.kind:
        case Kind.READ:
            return "cells", "read", (operation.key,)
        case Kind.WRITE:
            return "cells", "write", (operation.key, operation.value)
        case Kind.CAS:
            return "cells", "cas", (operation.key, operation.expected, operation.value)
        case Kind.ADD:
            return "cells", "add", (operation.value,)


@contextmanager
def at_work(network: Network, seed: int) -> Iterator[Record]:
    """`CLIENTS` clients are at work meanwhile; afterwards each has its answer, or gave up waiting for it."""
    record, over = Record(), threading.Event()
    clients = [Client(network, record, number, seed) for number in range(CLIENTS)]
    threads = [threading.Thread(target=client.work, args=(over,), daemon=True) for client in clients]
    for thread in threads:
        thread.start()
    try:
        yield record
    finally:
        over.set()
    for thread in threads:
        thread.join(3 * PATIENCE_SECONDS)
        assert not thread.is_alive(), "a client waits for ever"


def resolve(network: Network, record: Record) -> list[Operation]:
    """All operations that took effect, with what they saw. What no block holds, and none can any more, did not."""
    happened = []
    for sent in record.sent:
        answer = sent.answer or _found(network.urls[0], sent.id)
        if answer is not None:
            happened.append(_seen(sent.operation, answer["result"]))
    return happened


def _found(url: str, id_: str) -> dict[str, Any] | None:
    try:
        answer: dict[str, Any] = rpc(url, "tx", hash=id_)
    except RpcRefused as refused:
        if refused.code == "rpc.not_found":
            return None
        raise
    return answer


def _seen(operation: Operation, result: dict[str, Any]) -> Operation:
    """*operation* with what its result says."""
    code = result["code"]
    if operation.kind is Kind.CAS:
        assert code in ("", "cells.differs"), code
        return dataclasses.replace(operation, swapped=not code)
    assert code == "", code
    if operation.kind is Kind.READ:
        (value,) = (event["value"] for event in result["events"] if event["name"] == "seen")
        return dataclasses.replace(operation, value=value)
    return operation
