"""A light client before a served town: sources without sockets, which may lie, fall silent, or follow another chain."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from consensus.signing import sign
from consensus.vote import VoteKind, vote_sign_bytes
from node.config import RpcConfig
from node.light.memory import LightMemory
from node.light.root import genesis_root
from node.light.server import LightServer
from node.light.service import Light, running
from node.light.source import ASK_SECONDS, SourceGone, SourceRefused
from node.rpc import shapes
from node.rpc.errors import RpcError
from tests.node.served import CHAIN_ID, VALIDATOR, Served

Tamper = Callable[[str, Any], Any]
"""Method and honest answer in, what is said instead out."""


class DirectSource:
    """A node of *town*, asked without a socket."""

    def __init__(self, town: Served, name: str, tamper: Tamper = lambda method, answer: answer) -> None:
        self.town = town
        self.name = name
        self.tamper = tamper
        self.gone = False
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.given: list[str] = []
        """Evidence that was handed in (base64)."""

    async def call(self, method: str, *, wait_s: float = ASK_SECONDS, **params: Any) -> Any:
        """What the node answers, tampered with."""
        given = {name: value for name, value in params.items() if value is not None}
        self.asked.append((method, given))
        if self.gone:
            raise SourceGone(f"{self.name} is gone")
        if method == "broadcast_evidence":
            self.given.append(params["evidence"])
        try:
            answer = await self.town.call(method, **given)
        except RpcError as error:
            raise SourceRefused(str(error), code=error.code, data=error.details) from None
        return self.tamper(method, copy.deepcopy(answer))

    def methods(self) -> list[str]:
        """What was asked, in order."""
        return [method for method, _ in self.asked]


@dataclass
class Proxy:
    """A light client and what it asks."""

    light: Light
    server: LightServer
    sources: list[DirectSource]

    async def call(self, name: str, **params: Any) -> Any:
        """The result of one method. Raises RpcError."""
        return await self.server.dispatcher.call(name, params)


def honest(town: Served, count: int = 3) -> list[DirectSource]:
    """A primary and witnesses that tell the truth."""
    return [DirectSource(town, f"http://node{number}") for number in range(count)]


@asynccontextmanager
async def proxy(
    folder: Path, sources: Sequence[DirectSource], *, now_ms: Callable[[], int] | None = None
) -> AsyncIterator[Proxy]:
    """A light client with its memory in *folder*, which trusts the genesis file; the first source is the primary."""
    town = sources[0].town
    genesis = town.services.genesis
    async with running(
        genesis=genesis,
        app=town.app,
        root=genesis_root(genesis, town.app),
        sources=list(sources),
        memory=LightMemory(folder),
        now_ms=now_ms or town.services.now_ms,
        fresh=False,
    ) as light:
        yield Proxy(light, LightServer(light, RpcConfig()), list(sources))


def forked(from_height: int) -> Tamper:
    """The same chain up to *from_height*; from there on other application hashes, signed with the validator's key."""

    def header_of(answer: Any) -> Any:
        header = shapes.header_from_json(answer["header"])
        if header.height < from_height:
            return header
        answer["header"]["app_hash"] = "ab" * 32
        return shapes.header_from_json(answer["header"])

    def tamper(method: str, answer: Any) -> Any:
        if method in ("light_block", "commit", "header"):
            header = header_of(answer)
            answer["header"]["hash"] = header.id.hex()
            if "commit" in answer and header.height >= from_height:
                answer["commit"] = {**answer["commit"], **signed_by_all(header.id, answer["commit"])}
        return answer

    return tamper


def signed_by_all(block_id: bytes, commit: dict[str, Any]) -> dict[str, Any]:
    """What changes in *commit* if the one validator decides *block_id* instead."""
    message = vote_sign_bytes(CHAIN_ID, VoteKind.PRECOMMIT, commit["height"], commit["round"], block_id)
    return {
        "block_id": block_id.hex(),
        "entries": [{"for_block": True, "signature": sign(VALIDATOR, message).hex()}],
    }
