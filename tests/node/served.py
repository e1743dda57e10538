"""One validator of a real town on a mock clock, with everything that RPC serves, called without a socket."""

from __future__ import annotations

import base64
import dataclasses
import json
import random
from collections.abc import AsyncIterator, MutableMapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from consensus.address import key_address, to_text
from consensus.application import Application
from consensus.signing import public_key, sha256
from consensus.transaction import Body, Transaction
from node.applications import application_for
from node.config import Config, P2pConfig, RpcConfig, VerifyConfig
from node.engine import Belongings, Engine, Surroundings, write_genesis
from node.evidence_pool import EvidencePool
from node.genesis import GenesisFile, genesis_toml
from node.home import Home
from node.node import services_of
from node.rpc.server import RpcServer
from node.services import Services
from node.signer import Signer
from node.store import Store
from node.wal import Wal
from p2p.memory import MemoryNetwork

CHAIN_ID = "served-1"
START_MS = 1_790_000_000_000
ANNA = sha256(b"anna")
"""Seed of the first person, who is also registrar."""
STRANGER = sha256(b"stranger")
"""Seed of an account with coins that is no person."""
VALIDATOR = sha256(b"validator")
NODE = sha256(b"node")
COINS = 1_000_000


def address(seed: bytes) -> str:
    """The address text of a key's account."""
    return to_text(key_address(public_key(seed)))


def genesis(start_ms: int = START_MS) -> GenesisFile:
    """The town of the tests."""
    raw = genesis_toml(
        chain_id=CHAIN_ID,
        time_ms=start_ms,
        modules={"coin": 1, "governance": 1, "identity": 1, "validators": 1},
        preset="TINY",
        town={
            "coin": {
                "treasury": COINS,
                "accounts": [{"address": address(seed), "amount": COINS} for seed in (ANNA, STRANGER)],
            },
            "identity": {"persons": [{"address": address(ANNA), "roles": ["registrar"]}]},
            "validators": {
                "members": [
                    {"public_key": public_key(VALIDATOR).hex(), "power": 10, "operator": address(ANNA), "name": "n"}
                ]
            },
        },
    )
    return GenesisFile.parse(raw)


@dataclass
class Served:
    """A running engine and its RPC."""

    home: Path
    engine: Engine
    app: Application
    services: Services
    server: RpcServer
    links: MemoryNetwork

    async def call(self, name: str, **params: Any) -> Any:
        """The result of one method. Raises RpcError."""
        return await self.server.dispatcher.call(name, params)

    async def post(self, request: Any) -> Any:
        """The JSON answer to a JSON request by POST, None for an empty one."""
        _, body = await self.http("POST", "/", json.dumps(request).encode())
        return json.loads(body) if body else None

    async def http(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        headers: Sequence[tuple[str, str]] = (),
        client: str = "127.0.0.1",
    ) -> tuple[int, bytes]:
        """Status and body of a request to the ASGI application."""
        named = {"host": "localhost", "content-length": str(len(body)), **dict(headers)}
        path, _, query = path.partition("?")
        scope: dict[str, Any] = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in named.items()],
            "client": (client, 50_000),
            "server": ("127.0.0.1", 80),
            "scheme": "http",
        }
        sent: list[MutableMapping[str, Any]] = []
        pending = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> MutableMapping[str, Any]:
            await trio.lowlevel.checkpoint()
            return pending.pop() if pending else {"type": "http.disconnect"}

        async def send(message: MutableMapping[str, Any]) -> None:
            await trio.lowlevel.checkpoint()
            sent.append(message)

        await self.server.app(scope, receive, send)
        return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])

    def signed(self, message: dict[str, Any], *, seed: bytes = ANNA, nonce: int = 0, **fields: Any) -> Transaction:
        """A transaction with one message, signed by *seed*'s account."""
        body = Body(
            **{
                "chain_id": CHAIN_ID,
                "sender": key_address(public_key(seed)),
                "nonce": nonce,
                "valid_until_ms": self.services.now_ms() + 3_600_000,
                "fee": 0,
                "fee_payer": None,
                "messages": self.app.messages_from_json([message]),
                "signers": (public_key(seed),),
                **fields,
            }
        )
        return body.signed(seed)

    def payment(self, amount: int = 5, *, nonce: int = 0, seed: bytes = ANNA, **fields: Any) -> Transaction:
        """A transaction that sends coins to the stranger."""
        message = {"coin.send": {"to": address(STRANGER), "amount": amount}}
        return self.signed(message, seed=seed, nonce=nonce, **fields)

    async def height(self, height: int) -> None:
        """That height is decided."""
        await self.services.heights.wait_beyond(height - 1)


def text(transaction: Transaction) -> str:
    """A transaction as RPC takes it."""
    return base64.b64encode(transaction.raw).decode()


@asynccontextmanager
async def served(folder: Path, *, start_ms: int = START_MS, **rpc: Any) -> AsyncIterator[Served]:
    """A town with one validator that decides by itself; *rpc* are settings that differ from the defaults.

    Its clock begins at *start_ms* and follows trio's.
    """
    began = trio.current_time()

    def now_ms() -> int:
        return start_ms + round((trio.current_time() - began) * 1000)

    home = Home(folder)
    home.data.mkdir(parents=True, exist_ok=True)
    file = genesis(start_ms)
    app = application_for(file)
    config = dataclasses.replace(
        Config.defaults(),
        p2p=P2pConfig(listen="node:1000", exchange=False),
        rpc=RpcConfig(**{"listen": "127.0.0.1:0", **rpc}),
        verify=VerifyConfig(processes=0),
    )
    store = Store.open(home.chain, map_bytes=16 * 2**20, inline=True)
    evidence = EvidencePool.open(home.evidence)
    try:
        write_genesis(store, file, app)
        own = Belongings(
            home=home,
            config=config,
            genesis=file,
            node_seed=NODE,
            store=store,
            evidence=evidence,
            wal=Wal.open(home.wal),
            signer=Signer.create(VALIDATOR, home.last_sign, CHAIN_ID),
            trust_root=None,
        )
        links = MemoryNetwork()
        around = Surroundings(links.transport("node"), now_ms, random.Random(1))
        engine = Engine(own, app, around)
        services = services_of(own, app, engine, around)
        async with trio.open_nursery() as nursery:
            await nursery.start(engine.run)
            yield Served(folder, engine, app, services, RpcServer(services), links)
            nursery.cancel_scope.cancel()
    finally:
        evidence.close()
        store.close()
