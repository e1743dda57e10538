"""What a third of liars can make a light client believe, an honest witness shows; a lying witness achieves nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.block import Header
from consensus.light import BadLightBlock, Offer
from consensus.light_attack import AttackKind
from consensus.light_witness import Agrees, Ask, Diverged, Lies, Side, Silent
from consensus.signing import sha256
from tests.consensus.chain_builder import Chain, update
from tests.consensus.forger import (
    View,
    examined,
    forged_offer,
    genesis_of,
    lunatic_offer,
    offer_of,
    trusted_in,
    view_of,
    way_through,
)

OTHER = sha256(b"something else")


@pytest.fixture(scope="module")
def chain() -> Chain:
    """Twelve blocks by four validators of equal power."""
    built = Chain((10, 10, 10, 10))
    built.extend(12)
    return built


@pytest.fixture(scope="module")
def changing() -> Chain:
    """Nine blocks, each of which replaces one of four validators: nothing can be skipped for long."""
    built = Chain((10, 10, 10, 10))
    for number in range(8):
        built.extend(updates=[update(number, 0), update(number + 4, 10)])
    built.extend()
    return built


def now(chain: Chain) -> int:
    """Shortly after the latest block."""
    return chain.state.time_ms + 1


def keys(chain: Chain, *places: int, height: int = 1) -> list[bytes]:
    """Public keys of the members at *places* of the set of *height*."""
    return [chain.validators_at(height).validators[place].public_key for place in places]


def fork_of(chain: Chain, after: int, count: int = 1) -> Chain:
    """A chain of the same first validators that shares the first *after* blocks with *chain*, and goes on otherwise."""
    fork = Chain(tuple(member.power for member in chain.genesis.validators.validators))
    fork.extend(after)
    fork.extend(count, app=b"fork")
    assert fork.blocks[:after] == chain.blocks[:after]
    return fork


def test_an_honest_witness_agrees_after_one_question(chain: Chain) -> None:
    """With another commit of the same block, too."""
    view = view_of(chain)
    way = way_through(view, genesis_of(chain), 12, now(chain))
    verdict, asked = examined(way, view, lambda height: offer_of(chain, height or 12, signers=[0, 1, 2]), now(chain))
    assert verdict == Agrees()
    assert asked == [Ask(Side.WITNESS, 12)]


def test_a_witness_that_is_behind_or_gone_says_nothing(chain: Chain) -> None:
    view = view_of(chain)
    way = way_through(view, genesis_of(chain), 12, now(chain))
    behind = Chain((10, 10, 10, 10))
    behind.extend(7)
    assert examined(way, view, view_of(behind), now(chain))[0] == Silent()
    assert examined(way, view, lambda height: None, now(chain))[0] == Silent()


@pytest.mark.parametrize("field", ["app_hash", "validators_hash", "last_block_id"])
def test_a_witness_that_can_t_prove_its_block_lies(chain: Chain, field: str) -> None:
    """Whatever it changes: it has no quorum for it."""
    view = view_of(chain)
    way = way_through(view, genesis_of(chain), 12, now(chain))
    honest = offer_of(chain, 12)
    changed = replace(honest.light_block, header=_changed(honest.light_block.header, field))
    lying = view_of(chain, {12: replace(honest, light_block=changed)})
    assert isinstance(examined(way, view, lying, now(chain))[0], Lies)


def _changed(header: Header, field: str) -> Header:
    changes: dict[str, Any] = {field: OTHER}
    return replace(header, **changes)


def test_a_witness_that_shows_another_height_than_asked_lies(chain: Chain) -> None:
    """At the end of the way, and on it."""
    view = view_of(chain)
    way = way_through(view, genesis_of(chain), 12, now(chain))
    assert isinstance(examined(way, view, lambda height: offer_of(chain, 11), now(chain))[0], Lies)
    other = offer_of(fork_of(chain, 3, 9), 12)

    def wanders(height: int | None) -> Offer:
        return other if height == 12 else offer_of(chain, 2)

    way = (
        *way_through(view, genesis_of(chain), 5, now(chain)),
        *way_through(view, trusted_in(chain, 5), 12, now(chain))[1:],
    )
    verdict = examined(way, view, wanders, now(chain))[0]
    assert isinstance(verdict, Lies)
    assert "height 5 was asked for" in verdict.why


def test_a_witness_of_less_than_a_third_convinces_nobody(chain: Chain) -> None:
    """One of four with a set of its own."""
    view = view_of(chain)
    way = way_through(view, genesis_of(chain), 12, now(chain))
    lying = view_of(chain, {12: lunatic_offer(chain, 12, keys(chain, 0))})
    assert isinstance(examined(way, view, lying, now(chain))[0], Lies)


def test_a_third_of_liars_is_seen_by_an_honest_witness(chain: Chain) -> None:
    """Two of four convince a client that skips; evidence against them is made, and holds for an honest node."""
    forged = lunatic_offer(chain, 12, keys(chain, 0, 1))
    primary = view_of(chain, {12: forged})
    way = way_through(primary, genesis_of(chain), 12, now(chain))
    assert way[-1].trusted.height == 12
    verdict, asked = examined(way, primary, view_of(chain), now(chain))
    assert asked.count(Ask(Side.WITNESS, 12)) == 1
    assert isinstance(verdict, Diverged)
    assert verdict.common_height == 0
    assert (verdict.primary, verdict.witness) == (forged.light_block.header, chain.blocks[11].header)
    verdict.against_primary.verify(genesis_of(chain), chain.blocks[11].header)
    assert verdict.against_witness is not None
    assert verdict.against_witness.header == chain.blocks[11].header


@pytest.mark.parametrize("side", ["primary", "witness"])
def test_a_fork_is_found_where_the_ways_part(changing: Chain, side: str) -> None:
    """Each side's evidence rests on the last block that both show."""
    fork = Chain((10, 10, 10, 10))
    for number in range(8):
        fork.extend(updates=[update(number, 0), update(number + 4, 10)], app=b"fork" if number >= 5 else b"")
    fork.extend()
    views = (view_of(fork), view_of(changing))
    primary, witness = views if side == "primary" else views[::-1]
    way = way_through(primary, genesis_of(changing), 9, now(changing))
    verdict, asked = examined(way, primary, witness, now(changing))
    assert isinstance(verdict, Diverged)
    assert len(set(asked)) == len(asked)
    assert verdict.primary.id != verdict.witness.id
    for attack, victim in ((verdict.against_primary, changing), (verdict.against_witness, fork)):
        assert attack is not None
        own = victim if side == "primary" else (fork if victim is changing else changing)
        assert attack.common_height <= 5 < attack.height
        attack.verify(trusted_in(own, attack.common_height), own.blocks[attack.height - 1].header)
        finding = attack.judge(
            trusted_in(own, attack.common_height),
            offer_of(own, attack.height).light_block,
            own.validators_at(attack.height),
        )
        assert finding.kind is AttackKind.EQUIVOCATION


def test_a_block_too_early_for_its_height_is_seen(chain: Chain) -> None:
    """Two of four invent a height that is not decided yet; a witness whose latest block is later shows it."""
    early = lunatic_offer(chain, 12, keys(chain, 0, 1), height=20, time_ms=chain.blocks[9].header.time_ms + 1)
    primary = view_of(chain, {20: early})
    way = way_through(primary, genesis_of(chain), 20, now(chain))
    verdict, _ = examined(way, primary, view_of(chain), now(chain))
    assert isinstance(verdict, Diverged)
    assert (verdict.primary.height, verdict.witness.height) == (20, 12)
    verdict.against_primary.verify(genesis_of(chain), chain.blocks[11].header)
    assert verdict.against_witness is None, "the primary shows the witness's block, too"


def test_a_block_in_time_can_t_be_told_from_one_that_the_witness_lacks_yet(chain: Chain) -> None:
    """So such a witness says nothing, and another must."""
    ahead = lunatic_offer(chain, 12, keys(chain, 0, 1), height=20, time_ms=chain.blocks[11].header.time_ms + 1)
    primary = view_of(chain, {20: ahead})
    way = way_through(primary, genesis_of(chain), 20, now(chain))
    assert examined(way, primary, view_of(chain), now(chain))[0] == Silent()


def test_a_witness_that_claims_a_latest_block_without_proof_lies(chain: Chain) -> None:
    """Else it could accuse any primary that is ahead."""
    behind = Chain((10, 10, 10, 10))
    behind.extend(7)
    view = view_of(chain)
    way = way_through(view, genesis_of(chain), 12, now(chain))
    late = replace(behind.blocks[6].header, time_ms=now(chain))
    claim = forged_offer(late, chain.validators_at(7), keys(chain, 0))

    def lying(height: int | None) -> Offer | None:
        return claim if height in (None, 7) else offer_of(chain, height) if height < 7 else None

    assert isinstance(examined(way, view, lying, now(chain))[0], Lies)


def _without(view: View, *missing: int | None) -> View:
    """*view* of a node that does not show some heights."""
    return lambda height: None if height in missing else view(height)


def test_a_witness_that_hides_the_heights_that_decide_says_nothing(changing: Chain) -> None:
    """It may have forgotten them: no ground to call it a liar, and none to believe the primary."""
    fork = Chain((10, 10, 10, 10))
    for number in range(8):
        fork.extend(updates=[update(number, 0), update(number + 4, 10)], app=b"fork" if number >= 5 else b"")
    fork.extend()
    primary, witness = view_of(fork), view_of(changing)
    way = way_through(primary, genesis_of(changing), 9, now(changing))
    _, asked = examined(way, primary, witness, now(changing))
    heights = [ask.height for ask in asked if ask.side is Side.WITNESS and ask.height != 9]
    assert heights
    for height in heights:
        assert examined(way, primary, _without(witness, height), now(changing))[0] == Silent()


def test_a_witness_whose_way_is_longer_is_followed_along_it(changing: Chain) -> None:
    """The primary's set never changes and is skipped at once; the witness's must be followed step by step."""
    lazy = Chain((10, 10, 10, 10))
    lazy.extend(9, app=b"fork")
    primary, witness = view_of(lazy), view_of(changing)
    way = way_through(primary, genesis_of(changing), 9, now(changing))
    assert len(way) == 2
    verdict, asked = examined(way, primary, witness, now(changing))
    assert isinstance(verdict, Diverged)
    assert verdict.against_witness is not None
    assert verdict.against_witness.height < 9
    own = lazy.blocks[verdict.against_witness.height - 1].header
    verdict.against_witness.verify(trusted_in(lazy, verdict.against_witness.common_height), own)
    hidden = [ask.height for ask in asked if ask.side is Side.PRIMARY]
    alone = examined(way, _without(primary, *hidden), witness, now(changing))[0]
    assert alone == replace(verdict, against_witness=None)
    for height in {ask.height for ask in asked if ask.side is Side.WITNESS} - {9}:
        assert examined(way, primary, _without(witness, height), now(changing))[0] == Silent()


POWERS = st.lists(st.integers(1, 20), min_size=2, max_size=6)


@settings(max_examples=60, deadline=None)
@given(powers=POWERS, coalition=st.sets(st.integers(0, 5)), data=st.data())
def test_what_a_coalition_can_make_believe_depends_on_its_power(
    powers: list[int], coalition: set[int], data: st.DataObject
) -> None:
    """Up to a third: nothing. More: a client that skips believes it, until an honest witness is asked."""
    chain = Chain(tuple(powers))
    chain.extend(5)
    members = chain.validators_at(1).validators
    liars = [members[place].public_key for place in sorted(coalition) if place < len(members)]
    if not liars:
        return
    power = sum(member.power for member in members if member.public_key in liars)
    height = data.draw(st.integers(1, 5), label="height")
    forged = lunatic_offer(chain, height, liars)
    if data.draw(st.booleans(), label="keeps the set"):
        header = replace(chain.blocks[height - 1].header, app_hash=OTHER)
        forged = forged_offer(header, chain.validators_at(height), liars)
        needed = 2 * sum(powers) < 3 * power
    else:
        needed = sum(powers) < 3 * power and height > 1
    primary = view_of(chain, {height: forged})
    if not needed:
        with pytest.raises(BadLightBlock):
            way_through(primary, genesis_of(chain), height, now(chain))
        return
    way = way_through(primary, genesis_of(chain), height, now(chain))
    verdict, _ = examined(way, primary, view_of(chain), now(chain))
    assert isinstance(verdict, Diverged)
    attack = verdict.against_primary
    common = trusted_in(chain, attack.common_height)
    attack.verify(common, chain.blocks[attack.height - 1].header)
    finding = attack.judge(common, offer_of(chain, attack.height).light_block, chain.validators_at(attack.height))
    guilty = {member.address for member in members if member.public_key in liars}
    assert set(finding.culprits) == set(finding.signers) == guilty
    for duplicate in finding.duplicates:
        duplicate.verify(attack.header.chain_id, chain.validators_at(attack.height))
