"""Chains that lie: what a coalition of validators can make of a chain, and views that show it to a light client."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from consensus.block import Commit, Header, LightBlock, Signed
from consensus.chain import without_priorities
from consensus.light import Offer, Step, Trusted, TrustedBlock, TrustedGenesis, trace
from consensus.light_witness import Ask, Side, Verdict, examine
from consensus.params import TINY
from consensus.signing import sha256
from consensus.validators import Update, ValidatorSet
from tests.consensus.chain_builder import (
    CHAIN_ID,
    GENESIS_HASH,
    GENESIS_TIME_MS,
    SEEDS,
    Chain,
    signed_vote,
)

View = Callable[[int | None], Offer | None]
"""What a node shows of a height (None: of its latest)."""


def genesis_of(chain: Chain) -> TrustedGenesis:
    """Where trust in *chain* begins."""
    members = [Update(member.public_key, member.power) for member in chain.genesis.validators.validators]
    return TrustedGenesis.of(chain_id=CHAIN_ID, genesis_hash=GENESIS_HASH, time_ms=GENESIS_TIME_MS, validators=members)


def trusted_in(chain: Chain, height: int) -> Trusted:
    """*height* of *chain*, believed."""
    if height == 0:
        return genesis_of(chain)
    return TrustedBlock.of(chain.blocks[height - 1].header, chain.validators_at(height + 1))


def offer_of(chain: Chain, height: int, *, round_: int = 0, signers: Iterable[int] | None = None) -> Offer:
    """What an honest node of *chain* shows of *height*."""
    block = chain.blocks[height - 1]
    light_block = LightBlock(block.header, chain.commit_for(block, round_=round_, signers=signers), False)
    return Offer(light_block, chain.validators_at(height), chain.validators_at(height + 1))


def view_of(chain: Chain, forged: Mapping[int, Offer] | None = None) -> View:
    """What a node of *chain* shows, but for *forged* blocks, by height; the latest may be one of those."""
    lies = dict(forged or {})
    top = max([len(chain.blocks), *lies])

    def view(height: int | None) -> Offer | None:
        wanted = top if height is None else height
        if wanted in lies:
            return lies[wanted]
        return offer_of(chain, wanted) if 1 <= wanted <= len(chain.blocks) else None

    return view


def forged_offer(header: Header, members: ValidatorSet, keys: Iterable[bytes], *, round_: int = 0) -> Offer:
    """*header* as if decided by *members*, with the signatures of those of them whose public keys are in *keys*."""
    signing = set(keys)
    entries: list[Signed | None] = []
    for member in members.validators:
        if member.public_key not in signing:
            entries.append(None)
            continue
        vote = signed_vote(SEEDS[member.public_key], header.id, height=header.height, round_=round_)
        entries.append(Signed(True, vote.signature))
    commit = Commit(header.height, round_, header.id, tuple(entries))
    return Offer(LightBlock(header, commit, False), without_priorities(members), None)


def lunatic_offer(chain: Chain, at: int, keys: Iterable[bytes], /, **fields: Any) -> Offer:
    """Block *at* but for *fields*, with a set of its own: the coalition with *keys*, who all sign it."""
    members = ValidatorSet.of([Update(key, 10) for key in keys])
    changes = {
        "validators_hash": members.hash,
        "next_validators_hash": members.hash,
        "app_hash": sha256(b"a better balance"),
        **fields,
    }
    return forged_offer(replace(chain.blocks[at - 1].header, **changes), members, keys)


def way_through(view: View, trusted: Trusted, height: int, now_ms: int) -> tuple[Step, ...]:
    """The way by which a client that asks only *view* comes to believe *height*. Raises BadLightBlock."""
    steps = trace(trusted, height, now_ms, TINY)
    wanted = next(steps)
    while True:
        offer = view(wanted)
        assert offer is not None, wanted
        try:
            wanted = steps.send(offer)
        except StopIteration as stop:
            way: tuple[Step, ...] = stop.value
            return way


def examined(way: tuple[Step, ...], primary: View, witness: View, now_ms: int) -> tuple[Verdict, list[Ask]]:
    """The verdict of `examine` between two views, and what it asked for."""
    steps = examine(way, now_ms, TINY)
    asked = [next(steps)]
    while True:
        wanted = asked[-1]
        view = witness if wanted.side is Side.WITNESS else primary
        try:
            asked.append(steps.send(view(wanted.height)))
        except StopIteration as stop:
            verdict: Verdict = stop.value
            return verdict, asked
