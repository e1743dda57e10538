"""Where trust begins: the genesis file, the block of an invite link, or a block id that somebody told the user."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from consensus import light
from consensus.application import Application
from consensus.block import Header
from consensus.codec import BadMessage
from consensus.light import BadLightBlock, Trusted, TrustedBlock, TrustedGenesis
from node.genesis import BadGenesis, GenesisFile
from node.genesis_state import first_validators
from node.light.answers import header_in, headers_in, offer_in, part, sent
from node.light.faults import NoRoot
from node.light.source import Source, SourceGone, SourceRefused
from node.proofs import NotProved
from node.rpc.errors import NotFound
from node.trust_root import TrustRoot

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Root:
    """A chain and where trust in it begins."""

    genesis: GenesisFile
    trusted: Trusted


def genesis_root(genesis: GenesisFile, app: Application) -> TrustedGenesis:
    """The genesis file itself, believed as it is."""
    return TrustedGenesis.of(
        chain_id=genesis.chain_id,
        genesis_hash=genesis.hash,
        time_ms=genesis.time_ms,
        validators=first_validators(genesis, app),
    )


async def fetch_block(sources: Sequence[Source], root: TrustRoot) -> TrustedBlock:
    """The block that *root* names, from whoever shows it: its id settles what it is. Raises NoRoot."""

    async def block(source: Source) -> TrustedBlock:
        offer = offer_in(await source.call("light_block", height=root.height))
        following = offer.validators if offer.next_validators is None else offer.next_validators
        return TrustedBlock.root(offer.light_block.header, root.block_id, following)

    return await _first(sources, block, f"the trusted block {root.block_id.hex()} of height {root.height}")


async def fetch_genesis(sources: Sequence[Source], genesis_hash: bytes) -> GenesisFile:
    """The genesis file with this hash, from whoever shows it. Raises NoRoot."""

    async def genesis(source: Source) -> GenesisFile:
        document = part(await source.call("genesis"), "document")
        if not isinstance(document, str):
            raise NotProved("the genesis is no text")
        found = GenesisFile.parse(document.encode())
        if found.hash != genesis_hash:
            raise NotProved("the node's genesis file has another hash")
        return found

    return await _first(sources, genesis, f"the genesis file {genesis_hash.hex()}")


async def find_genesis_hash(
    sources: Sequence[Source], trusted: Header, step: Callable[[int, int], None] = lambda done, total: None
) -> bytes:
    """The genesis hash of *trusted*'s chain: the way back to block 1, which names it. Raises NoRoot.

    *step* is told of progress: heights walked, and how many there are.
    """

    async def walked(source: Source) -> bytes:
        if trusted.height == 1:
            return trusted.last_block_id
        way = light.back(trusted, 1)
        wanted: range | Header = next(way)
        while isinstance(wanted, range):
            step(trusted.height - wanted[0], trusted.height)
            wanted = sent(way, await headers_of(source, wanted))
        return wanted.last_block_id

    return await _first(sources, walked, "the way back to block 1")


async def headers_of(source: Source, heights: range) -> list[Header]:
    """The headers that *source* shows of *heights* (descending). Raises SourceGone, SourceRefused, BadMessage."""
    if len(heights) == 1:
        return [header_in(await source.call("header", height=heights[0]))]
    found = headers_in(await source.call("blockchain", min_height=heights[-1], max_height=heights[0]))
    if not found or found[0].height != heights[0]:  # it answers from its latest height downward
        raise SourceRefused(f"{source.name} has no block {heights[0]}", code=NotFound.code_default, data={})
    return found


async def _first(sources: Sequence[Source], ask: Callable[[Source], Awaitable[T]], what: str) -> T:
    """What the first of *sources* gives to *ask* that holds."""
    said: dict[str, Any] = {}
    for source in sources:
        try:
            return await ask(source)
        except (SourceGone, SourceRefused, NotProved, BadMessage, BadLightBlock, BadGenesis) as error:
            said[source.name] = str(error)
    reasons = "; ".join(f"{name}: {why}" for name, why in said.items())
    raise NoRoot(f"no node shows {what} ({reasons}). Check the URLs, or ask for a fresh link")
