"""From what the user says to a serving light client: where trust begins, and what the folder remembers of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import trio

from consensus.block import Header
from consensus.light import Trusted
from node.applications import application_for
from node.config import RpcConfig
from node.files import write_atomically
from node.genesis import GenesisFile
from node.home import Home
from node.invite import Invite
from node.light.faults import BadBeginning
from node.light.http_source import HttpSource
from node.light.memory import LightMemory
from node.light.root import Root, fetch_block, fetch_genesis, find_genesis_hash, genesis_root
from node.light.server import serve_light
from node.light.service import running
from node.light.source import Source
from node.node import until_signal
from node.trust_root import TrustRoot, read_trust_root


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """What the user says."""

    folder: Path
    """Where the light client keeps what it believes; may be the home of a node."""
    urls: Sequence[str]
    """The primary, then the witnesses."""
    genesis: Path | None
    """The genesis file that is at hand."""
    invite: Invite | None = None
    block: TrustRoot | None = None
    """A block id from somebody trusted."""
    rpc: RpcConfig
    progress: Callable[[str], None] = field(default=lambda text: None)
    steps: Callable[[int, int], None] = field(default=lambda done, total: None)


def now_ms() -> int:
    """Own clock, Unix milliseconds."""
    return time.time_ns() // 1_000_000


async def serve(asked: Beginning, serving: Callable[[str, str, int], None]) -> None:
    """The light client serves until SIGINT or SIGTERM; *serving* gets URL, chain id and height once it does.

    Raises RpcError, and the families of `node.light.faults`.
    """
    async with AsyncExitStack() as stack:
        sources: list[Source] = []
        for url in asked.urls:
            source = HttpSource(url)
            stack.push_async_callback(source.aclose)
            sources.append(source)
        memory = LightMemory(asked.folder)
        root = await find_root(asked, sources, memory)
        app = application_for(root.genesis)
        async with running(
            genesis=root.genesis, app=app, root=root.trusted, sources=sources, memory=memory, now_ms=now_ms
        ) as client:
            latest = await client.follower.latest()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(until_signal, nursery.cancel_scope)
                url = await nursery.start(serve_light, client, asked.rpc)
                serving(url, root.genesis.chain_id, latest.height)


async def find_root(asked: Beginning, sources: Sequence[Source], memory: LightMemory) -> Root:
    """Where trust begins, as the user says, else as the folder does; the folder keeps it for later starts."""
    home = Home(asked.folder)
    if asked.invite is not None:
        terms = asked.invite.terms
        genesis = await fetch_genesis(sources, terms.genesis_hash)
        block = TrustRoot(terms.height, terms.block_id)
        trusted = await _trusted_at(block, genesis, sources)
        _keep(home, genesis, block, memory)
        return Root(genesis, trusted)
    if asked.block is not None:
        found = await fetch_block(sources, asked.block)
        genesis = await _genesis_of(asked, sources, found.header)
        _keep(home, genesis, asked.block, memory)
        return Root(genesis, found)
    if asked.genesis is None:
        raise BadBeginning(
            f"nothing to begin trust with: {asked.folder} has no genesis.toml; give --trust LINK (allting invite, on a "
            "node of somebody you trust), or --height and --hash, or the --home of a node"
        )
    genesis = GenesisFile.load(asked.genesis)
    return Root(genesis, await _trusted_at(read_trust_root(home.trust_root), genesis, sources))


async def _trusted_at(block: TrustRoot | None, genesis: GenesisFile, sources: Sequence[Source]) -> Trusted:
    if block is None or block.height == 0:
        return genesis_root(genesis, application_for(genesis))
    return await fetch_block(sources, block)


async def _genesis_of(asked: Beginning, sources: Sequence[Source], header: Header) -> GenesisFile:
    """The genesis of *header*'s chain: the home's if it is that, else fetched after the way back to block 1."""
    asked.progress("walking back to block 1, which names the genesis …")
    hash_ = await find_genesis_hash(sources, header, asked.steps)
    path = asked.genesis
    if path is not None and (known := GenesisFile.load(path)).hash == hash_:
        return known
    return await fetch_genesis(sources, hash_)


def _keep(home: Home, genesis: GenesisFile, block: TrustRoot, memory: LightMemory) -> None:
    """The home begins at *block*. Raises BadBeginning where it is a node's, or another chain's."""
    if home.genesis.exists() and GenesisFile.load(home.genesis).hash != genesis.hash:
        raise BadBeginning(f"{home.path} belongs to another chain; give an empty folder with --home")
    if home.config.exists():
        raise BadBeginning(f"{home.path} is the home of a node, which has its own root of trust; give another --home")
    kept = memory.read(genesis.hash)
    known = next((each for each in kept.blocks if each.height == block.height), None) if kept is not None else None
    if known is not None and known.block_id != block.block_id:
        raise BadBeginning(
            f"{home.path} believes block {known.block_id.hex()} at height {block.height}, and you name another: ask "
            "people which one is your town's. To follow the other, begin in an empty folder"
        )
    divided_after = memory.divided_after()
    if divided_after is not None and block.height <= divided_after:
        raise BadBeginning(
            f"two chains were proved to this client, which part after height {divided_after}; you name height "
            f"{block.height}, which both have: ask people which chain is your town's, and for a fresh link of it"
        )
    memory.forget()
    if not home.genesis.exists():
        write_atomically(home.genesis, genesis.raw)
    block.write(home.trust_root)
