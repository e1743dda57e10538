"""A node that is none: it answers the RPC calls of load and views, and decides what it is told to."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import trio

from consensus.signing import sha256


@dataclass
class Chain:
    """Blocks that all fake nodes of a test share."""

    blocks: list[list[str]] = field(default_factory=list)
    """Transaction ids of each height, from 1 on."""
    codes: dict[str, str] = field(default_factory=dict)
    """Result codes that are not ""."""
    time_ms: int = 1_000

    def decide(self, ids: list[str]) -> None:
        """One more block."""
        self.blocks.append(ids)
        self.time_ms += 100


@dataclass
class FakeNode:
    """One node over *chain*."""

    chain: Chain
    pool: list[str] = field(default_factory=list)
    refuses: list[str] = field(default_factory=list)
    """Codes for the next transactions that come, instead of taking them."""
    salt: str = ""
    """Anything but "" makes its block hashes differ: a node on another branch."""
    silent: bool = False
    url: str = ""

    def answer(self, call: dict[str, Any]) -> dict[str, Any]:
        """The JSON-RPC answer to *call*."""
        method = getattr(self, call["method"])
        try:
            return {"jsonrpc": "2.0", "id": call["id"], "result": method(**call.get("params", {}))}
        except LookupError as error:
            return {"jsonrpc": "2.0", "id": call["id"], "error": {"code": -32010, "message": str(error)}}

    def broadcast_tx_sync(self, tx: str) -> dict[str, str]:
        id_ = sha256(base64.b64decode(tx)).hex()
        if self.refuses:
            return {"hash": id_, "code": self.refuses.pop(0), "text": "no"}
        self.pool.append(id_)
        return {"hash": id_, "code": "", "text": ""}

    def status(self) -> dict[str, Any]:
        height = len(self.chain.blocks)
        return {
            "sync_info": {
                "latest_block_height": height,
                "latest_app_hash": "aa",
                "latest_block_time_ms": self.chain.time_ms,
                "catching_up": False,
                "peers": 3,
            }
        }

    def consensus_state(self) -> dict[str, Any]:
        return {"round": 0}

    def num_unconfirmed_txs(self) -> dict[str, Any]:
        return {"n_txs": len(self.pool)}

    def header(self, height: int) -> dict[str, Any]:
        return {"header": self._header(height)}

    def block(self, height: int) -> dict[str, Any]:
        return {"block": {"header": self._header(height), "transaction_ids": self._ids(height)}}

    def block_results(self, height: int, events: bool = True) -> dict[str, Any]:
        return {"transactions": [{"code": self.chain.codes.get(id_, "")} for id_ in self._ids(height)]}

    def query(self, path: str, args: dict[str, str]) -> dict[str, Any]:
        return {"answer": {"next_nonce": 0}}

    def _ids(self, height: int) -> list[str]:
        if height > len(self.chain.blocks):
            raise LookupError("not decided")
        return self.chain.blocks[height - 1]

    def _header(self, height: int) -> dict[str, Any]:
        ids = self._ids(height)
        return {"hash": f"{height}{self.salt}{''.join(ids)}", "time_ms": 1_000 + height * 100}


async def _serve(node: FakeNode, stream: trio.SocketStream) -> None:
    with contextlib.suppress(trio.BrokenResourceError):  # the client went away in the middle of an answer
        await _answer_all(node, stream)


async def _answer_all(node: FakeNode, stream: trio.SocketStream) -> None:
    async with stream:
        data = b""
        while True:
            while b"\r\n\r\n" not in data:
                chunk = await stream.receive_some(65_536)
                if not chunk:
                    return
                data += chunk
            head, _, data = data.partition(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
            while len(data) < length:
                chunk = await stream.receive_some(65_536)
                if not chunk:
                    return
                data += chunk
            body, data = data[:length], data[length:]
            if node.silent:
                await trio.sleep_forever()
            calls = json.loads(body)
            reply = [node.answer(call) for call in calls] if isinstance(calls, list) else node.answer(calls)
            text = json.dumps(reply).encode()
            await stream.send_all(b"HTTP/1.1 200 \r\ncontent-length: %d\r\n\r\n" % len(text) + text)


@asynccontextmanager
async def serving(*nodes: FakeNode) -> AsyncIterator[None]:
    """*nodes* answer at their ``url`` while the context lasts."""
    async with trio.open_nursery() as nursery:
        for node in nodes:
            [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
            assert isinstance(listener, trio.SocketListener)
            node.url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
            nursery.start_soon(partial(trio.serve_listeners, partial(_serve, node), [listener]))
        yield
        nursery.cancel_scope.cancel()
