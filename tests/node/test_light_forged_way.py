"""On the way to a true block: what a third of the power forges is never answered, and who is slow makes room."""

from __future__ import annotations

from typing import Any

import trio.testing

from consensus.light import Offer
from consensus.light_store import TrustedBlocks
from consensus.params import TINY
from node.light.follower import WALK_SECONDS, Follower
from node.light.source import ASK_SECONDS, SourceRefused
from node.light.sources import Sources
from node.rpc import shapes
from tests.consensus.chain_builder import Chain, update
from tests.consensus.forger import View, genesis_of, lunatic_offer, view_of


class ViewSource:
    """A node that shows light blocks and headers of a view."""

    def __init__(self, name: str, view: View) -> None:
        self.name = name
        self._view = view

    async def call(self, method: str, *, wait_s: float = ASK_SECONDS, **params: Any) -> Any:
        """As a node would."""
        await trio.lowlevel.checkpoint()
        height = params["max_height"] if method == "blockchain" else params["height"]
        offer = self._view(height)
        if offer is None:
            raise SourceRefused("not here", code="rpc.not_found", data={})
        if method == "light_block":
            return _light_block(offer)
        if method == "header":
            return {"header": shapes.header_json(offer.light_block.header)}
        assert method == "blockchain", method
        heights = range(params["max_height"], params["min_height"] - 1, -1)
        shown = [self._view(each) for each in heights]
        return {"headers": [shapes.header_json(each.light_block.header) for each in shown if each is not None]}


def _light_block(offer: Offer) -> dict[str, Any]:
    following = offer.next_validators or offer.validators
    return {
        "header": shapes.header_json(offer.light_block.header),
        "commit": shapes.commit_json(offer.light_block.commit, canonical=False),
        "validators": shapes.validators_json(offer.validators),
        "next_validators": shapes.validators_json(following),
    }


async def test_a_forged_stepping_stone_is_not_believed(autojump_clock: trio.testing.MockClock) -> None:
    """The set changes so much that the true block 9 is reached over a forged one, whose set names the true one."""
    chain = Chain((10, 10, 10, 10))
    for number in range(8):
        chain.extend(updates=[update(number, 0), update(number + 4, 10)])
    chain.extend()
    liars = [member.public_key for member in chain.validators_at(1).validators[:2]]
    members = [member.public_key for member in chain.validators_at(9).validators]
    stone = lunatic_offer(chain, 5, [*liars, *members])
    primary = ViewSource("http://liar", view_of(chain, {5: stone}))
    follower = Follower(
        blocks=TrustedBlocks(genesis_of(chain)),
        params=TINY,
        sources=Sources([primary, ViewSource("http://witness", view_of(chain))]),
        now_ms=lambda: chain.state.time_ms + 1,
    )
    assert (await follower.header(9)) == chain.blocks[8].header
    assert (await follower.header(5)) == chain.blocks[4].header
    assert [block.height for block in follower.blocks.all] == [9]


class OneByOne(ViewSource):
    """A node that shows one true header at a time, each just before nobody would wait for it any more."""

    async def call(self, method: str, *, wait_s: float = ASK_SECONDS, **params: Any) -> Any:
        if method == "blockchain":
            await trio.sleep(wait_s - 1)
            params["min_height"] = params["max_height"]
        return await super().call(method, wait_s=wait_s, **params)


async def test_who_is_slow_on_the_way_back_makes_room_for_another(autojump_clock: trio.testing.MockClock) -> None:
    """Else all who ask for an earlier block would wait for it, for hours."""
    chain = Chain()
    chain.extend(100)
    primary, witness = OneByOne("http://slow", view_of(chain)), ViewSource("http://witness", view_of(chain))
    sources = Sources([primary, witness])
    follower = Follower(
        blocks=TrustedBlocks(genesis_of(chain)), params=TINY, sources=sources, now_ms=lambda: chain.state.time_ms + 1
    )
    await follower.header(100)
    began_s = trio.current_time()
    assert await follower.header(2) == chain.blocks[1].header
    assert trio.current_time() - began_s <= WALK_SECONDS + 1
    assert sources.primary is witness
    assert not sources.dropped
