"""Whom the light client believes: adjacent, skipping, backwards; and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from consensus.block import Commit, Header, LightBlock, Signed
from consensus.light import (
    CLOCK_DRIFT_MS,
    FUTURE,
    HEADERS_AT_ONCE,
    BadLightBlock,
    Offer,
    Trusted,
    TrustedBlock,
    TrustedGenesis,
    back,
    follow,
    is_stale,
    pivot,
    trace,
    verify_adjacent,
    verify_backwards,
    verify_skipping,
)
from consensus.params import TINY
from consensus.signing import sha256
from consensus.validators import ValidatorSet
from tests.consensus.chain_builder import CHAIN_ID, GENESIS_HASH, GENESIS_TIME_MS, SEEDS, Chain, signed_vote, update

POWERS = (10, 10, 10, 10)
OTHER = sha256(b"something else")


@pytest.fixture(scope="module")
def chain() -> Chain:
    """Ten blocks; block 4 brings a fifth validator, and from block 7 on two of the first four are gone."""
    built = Chain(POWERS)
    built.extend(3)
    built.extend(updates=[update(4, 10)])
    built.extend(2)
    built.extend(updates=[update(0, 0), update(1, 0), update(5, 10), update(6, 10)])
    built.extend(3)
    return built


def trusted_at(chain: Chain, height: int) -> Trusted:
    """*height* of *chain*, believed."""
    if height == 0:
        updates = [update(number, power) for number, power in enumerate(POWERS)]
        return TrustedGenesis.of(
            chain_id=CHAIN_ID, genesis_hash=GENESIS_HASH, time_ms=GENESIS_TIME_MS, validators=updates
        )
    return TrustedBlock.of(chain.blocks[height - 1].header, chain.validators_at(height + 1))


def now(chain: Chain) -> int:
    """Shortly after the latest block."""
    return chain.state.time_ms + 1


def advance(
    chain: Chain,
    trusted: Trusted,
    height: int,
    *,
    verify: Callable[..., TrustedBlock] = verify_adjacent,
    light_block: LightBlock | None = None,
    now_ms: int | None = None,
) -> TrustedBlock:
    """Believe *height* of *chain* on the strength of *trusted*."""
    return verify(
        trusted,
        chain.light_block(height) if light_block is None else light_block,
        chain.validators_at(height),
        chain.validators_at(height + 1),
        now(chain) if now_ms is None else now_ms,
        TINY,
    )


def code_of(call: Callable[[], Any]) -> str:
    """The code that *call* is refused with."""
    with pytest.raises(BadLightBlock) as refusal:
        call()
    return refusal.value.code


def test_a_chain_is_followed_from_its_genesis(chain: Chain) -> None:
    """Block by block, through changes of the set."""
    trusted = trusted_at(chain, 0)
    assert trusted.height == 0
    for height in range(1, 11):
        trusted = advance(chain, trusted, height)
        assert (trusted.height, trusted.block_id) == (height, chain.blocks[height - 1].id)
        assert trusted.time_ms == chain.blocks[height - 1].header.time_ms
        assert trusted.next_validators.hash == chain.validators_at(height + 1).hash


def test_an_unchanged_set_need_not_be_fetched_again(chain: Chain) -> None:
    """A changed one must."""
    unchanged = verify_adjacent(
        trusted_at(chain, 1), chain.light_block(2), chain.validators_at(2), None, now(chain), TINY
    )
    assert unchanged.next_validators.hash == chain.validators_at(3).hash
    changed = chain.light_block(4)
    args = (changed, chain.validators_at(4), None, now(chain), TINY)
    assert code_of(lambda: verify_adjacent(trusted_at(chain, 3), *args)) == "light.validators"


def test_a_stranger_s_priorities_are_not_kept(chain: Chain) -> None:
    """A set's hash does not cover them, so a peer could choose the proposers."""
    header = chain.blocks[2].header
    biased = ValidatorSet(tuple(replace(v, priority=7) for v in chain.validators_at(4).validators))
    trusted = TrustedBlock.of(header, biased)
    assert {validator.priority for validator in trusted.next_validators.validators} == {0}


def test_an_invite_s_root_is_believed_for_its_id_alone(chain: Chain) -> None:
    """Header and set come from anybody."""
    header, following = chain.blocks[4].header, chain.validators_at(6)
    assert TrustedBlock.root(header, header.id, following).height == 5
    assert code_of(lambda: TrustedBlock.root(header, OTHER, following)) == "light.root"
    assert code_of(lambda: TrustedBlock.root(header, header.id, chain.validators_at(1))) == "light.validators"


@pytest.mark.parametrize("verify", [verify_adjacent, verify_skipping])
def test_trust_ends_with_the_trusting_period(chain: Chain, verify: Callable[..., TrustedBlock]) -> None:
    """To the millisecond."""
    trusted = trusted_at(chain, 2)
    end = trusted.time_ms + TINY.trusting_period_ms
    assert advance(chain, trusted, 3, verify=verify, now_ms=end - 1).height == 3
    assert code_of(lambda: advance(chain, trusted, 3, verify=verify, now_ms=end)) == "light.expired"


def test_trust_in_the_genesis_ends_too(chain: Chain) -> None:
    """Its validators may have sold their keys since."""
    end = GENESIS_TIME_MS + TINY.trusting_period_ms
    assert code_of(lambda: advance(chain, trusted_at(chain, 0), 1, now_ms=end)) == "light.expired"


def test_a_header_from_the_future_is_refused(chain: Chain) -> None:
    """A little drift between clocks is allowed."""
    time_ms = chain.blocks[2].header.time_ms
    trusted = trusted_at(chain, 2)
    assert advance(chain, trusted, 3, now_ms=time_ms - CLOCK_DRIFT_MS).height == 3
    assert code_of(lambda: advance(chain, trusted, 3, now_ms=time_ms - CLOCK_DRIFT_MS - 1)) == FUTURE


def with_header(light_block: LightBlock, **fields: Any) -> LightBlock:
    """*light_block* with another header."""
    return replace(light_block, header=replace(light_block.header, **fields))


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"chain_id": "other"}, "light.chain_id"),
        ({"time_ms": GENESIS_TIME_MS}, "light.time"),
        ({"height": 4}, "light.commit"),
        ({"last_block_id": OTHER}, "light.last_block_id"),
        ({"validators_hash": OTHER}, "light.validators_hash"),
        ({"app_hash": OTHER}, "light.commit"),
        ({"next_validators_hash": OTHER}, "light.commit"),
    ],
)
def test_a_header_that_was_changed_is_refused(chain: Chain, fields: dict[str, Any], code: str) -> None:
    """By its place in the chain, or by the commit that is not its own."""
    forged = with_header(chain.light_block(3), **fields)
    assert code_of(lambda: advance(chain, trusted_at(chain, 2), 3, light_block=forged)) == code


def test_time_goes_forward(chain: Chain) -> None:
    """A header of the trusted one's very time is none that follows it."""
    trusted = trusted_at(chain, 2)
    same_time = with_header(chain.light_block(3), time_ms=trusted.time_ms)
    assert code_of(lambda: advance(chain, trusted, 3, light_block=same_time)) == "light.time"


def test_block_one_may_have_the_genesis_time() -> None:
    """As in the rule for blocks; an earlier one may not."""
    chain = Chain(POWERS)
    chain.extend(time_ms=GENESIS_TIME_MS)
    trusted = trusted_at(chain, 0)
    assert advance(chain, trusted, 1).time_ms == GENESIS_TIME_MS
    early = with_header(chain.light_block(1), time_ms=GENESIS_TIME_MS - 1)
    assert code_of(lambda: advance(chain, trusted, 1, light_block=early)) == "light.time"


def test_adjacent_is_the_very_next_height(chain: Chain) -> None:
    """Nothing is skipped, nothing repeated."""
    assert code_of(lambda: advance(chain, trusted_at(chain, 2), 4)) == "light.height"
    trusted = trusted_at(chain, 0)
    assert code_of(lambda: advance(chain, trusted, 2)) == "light.height"


def test_the_set_offered_must_be_the_one_promised(chain: Chain) -> None:
    """A set of the attacker's own, with true signatures, is not believed."""
    attackers = Chain((10, 10, 10, 10, 10, 10))
    attackers.extend(3)
    forged = attackers.light_block(3)
    trusted = trusted_at(chain, 2)
    forged = LightBlock(replace(forged.header, last_block_id=trusted.block_id), forged.commit, False)
    args = (forged, attackers.validators_at(3), None, now(chain), TINY)
    assert code_of(lambda: verify_adjacent(trusted, *args)) == "light.validators_hash"
    args = (chain.light_block(3), attackers.validators_at(3), None, now(chain), TINY)
    assert code_of(lambda: verify_adjacent(trusted, *args)) == "light.validators"


def test_two_thirds_must_have_signed(chain: Chain) -> None:
    """Strictly more; and every signature that is there must hold."""
    light_block = chain.light_block(3)
    half = replace(light_block.commit, entries=(*light_block.commit.entries[:2], None, None))
    forged = replace(light_block, commit=half)
    assert code_of(lambda: advance(chain, trusted_at(chain, 2), 3, light_block=forged)) == "light.commit"
    false = replace(light_block.commit, entries=(*light_block.commit.entries[:3], Signed(True, bytes(64))))
    forged = replace(light_block, commit=false)
    assert code_of(lambda: advance(chain, trusted_at(chain, 2), 3, light_block=forged)) == "light.commit"


def test_heights_are_skipped_while_a_third_of_the_trusted_power_signed(chain: Chain) -> None:
    """The set may have changed in between."""
    trusted = advance(chain, trusted_at(chain, 1), 7, verify=verify_skipping)
    assert trusted.height == 7
    assert trusted.next_validators.hash == chain.validators_at(8).hash
    assert advance(chain, trusted, 8, verify=verify_skipping).height == 8
    same_set = verify_skipping(
        trusted_at(chain, 7), chain.light_block(9), chain.validators_at(9), None, now(chain), TINY
    )
    assert same_set.height == 9


def test_too_far_is_said_so_that_a_nearer_height_is_tried(chain: Chain) -> None:
    """Of the first four, only one of those that signed block 10 is trusted still: a quarter is not a third."""
    members = chain.validators_at(10)
    known = trusted_at(chain, 1).next_validators
    strangers = [place for place, address in enumerate(members.addresses) if known.index_of(address) is None]
    friend = next(place for place, address in enumerate(members.addresses) if known.index_of(address) is not None)
    light_block = chain.light_block(10, signers=[*strangers, friend])
    assert (
        code_of(lambda: advance(chain, trusted_at(chain, 1), 10, verify=verify_skipping, light_block=light_block))
        == "light.too_far"
    )
    nearer = pivot(1, 10)
    trusted = advance(chain, trusted_at(chain, 1), nearer, verify=verify_skipping)
    assert advance(chain, trusted, 10, verify=verify_skipping).height == 10


def test_a_third_of_the_trusted_power_is_not_more_than_a_third() -> None:
    """To the last unit: one of three trusted validators of power 1."""
    chain = Chain((1, 1, 1))
    chain.extend(1)
    chain.extend(updates=[update(0, 0), update(1, 0), update(3, 1)])
    chain.extend(3)
    assert [member.power for member in trusted_at(chain, 1).next_validators.validators] == [1, 1, 1]
    assert len(chain.validators_at(5).validators) == 2
    assert code_of(lambda: advance(chain, trusted_at(chain, 1), 5, verify=verify_skipping)) == "light.too_far"


def test_votes_for_nil_lend_no_trust(chain: Chain) -> None:
    """They are signed, but not for the block."""
    light_block = chain.light_block(10)
    known = trusted_at(chain, 1).next_validators
    members = chain.validators_at(10)
    entries = list(light_block.commit.entries)
    for place, validator in enumerate(members.validators):
        if known.index_of(validator.address) is not None:
            nil = signed_vote(SEEDS[validator.public_key], None, height=10)
            entries[place] = Signed(False, nil.signature)
    forged = replace(light_block, commit=replace(light_block.commit, entries=tuple(entries)))
    assert (
        code_of(lambda: advance(chain, trusted_at(chain, 1), 10, verify=verify_skipping, light_block=forged))
        == "light.too_far"
    )


def test_a_false_signature_lends_no_trust(chain: Chain) -> None:
    """It is checked against the key that we trust."""
    light_block = chain.light_block(7)
    false = tuple(Signed(True, bytes(64)) for _ in light_block.commit.entries)
    forged = replace(light_block, commit=replace(light_block.commit, entries=false))
    assert (
        code_of(lambda: advance(chain, trusted_at(chain, 1), 7, verify=verify_skipping, light_block=forged))
        == "light.commit"
    )


def test_a_commit_with_entries_missing_lends_no_trust(chain: Chain) -> None:
    """One for each validator, at its place."""
    light_block = chain.light_block(7)
    short = replace(light_block.commit, entries=light_block.commit.entries[:-1])
    forged = replace(light_block, commit=short)
    assert (
        code_of(lambda: advance(chain, trusted_at(chain, 1), 7, verify=verify_skipping, light_block=forged))
        == "light.commit"
    )


def test_skipping_goes_forward_only(chain: Chain) -> None:
    """An older header is not after the trusted one, whatever its time says."""
    assert code_of(lambda: advance(chain, trusted_at(chain, 7), 3, verify=verify_skipping)) == "light.time"
    late = with_header(chain.light_block(3), time_ms=now(chain))
    assert (
        code_of(lambda: advance(chain, trusted_at(chain, 7), 3, verify=verify_skipping, light_block=late))
        == "light.height"
    )


def test_a_header_of_the_trusted_height_is_no_news(chain: Chain) -> None:
    """Two headers of one height are an attack, not progress."""
    late = with_header(chain.light_block(7), time_ms=now(chain))
    trusted = trusted_at(chain, 7)
    assert code_of(lambda: advance(chain, trusted, 7, verify=verify_skipping, light_block=late)) == "light.height"


def test_the_next_height_is_never_skipped_to(chain: Chain) -> None:
    """The whole promise of the trusted header is checked, not a third of it."""
    forged = with_header(chain.light_block(3), last_block_id=OTHER)
    trusted = trusted_at(chain, 2)
    code = code_of(lambda: advance(chain, trusted, 3, verify=verify_skipping, light_block=forged))
    assert code == "light.last_block_id"


def test_parents_are_believed_for_their_hash(chain: Chain) -> None:
    """Back to block 1."""
    headers = [block.header for block in chain.blocks]
    for height in range(10, 1, -1):
        verify_backwards(headers[height - 1], headers[height - 2])
    assert code_of(lambda: verify_backwards(headers[5], headers[3])) == "light.last_block_id"


@pytest.mark.parametrize("fields", [{"height": 2}, {"chain_id": "other"}, {"time_ms": GENESIS_TIME_MS * 2}])
def test_a_nonsense_parent_is_refused_though_its_hash_agrees(chain: Chain, fields: dict[str, Any]) -> None:
    """A lying quorum may have signed one."""
    parent = replace(chain.blocks[3].header, **fields)
    child = replace(chain.blocks[4].header, last_block_id=parent.id)
    assert code_of(lambda: verify_backwards(child, parent)) == "light.height"


def test_a_trusted_validator_lends_its_power_once(chain: Chain) -> None:
    """Though an attacker's set names it again and again, with its one true signature at each place."""
    traitor = chain.genesis.validators.validators[0]
    repeated = ValidatorSet((traitor,) * 4)
    header = replace(chain.blocks[8].header, validators_hash=repeated.hash, next_validators_hash=repeated.hash)
    vote = signed_vote(SEEDS[traitor.public_key], header.id, height=9)
    forged = LightBlock(header, Commit(9, 0, header.id, (Signed(True, vote.signature),) * 4), False)
    args = (forged, repeated, None, now(chain), TINY)
    assert code_of(lambda: verify_skipping(trusted_at(chain, 1), *args)) == "light.validators"


def followed(chain: Chain, trusted: Trusted, height: int) -> tuple[TrustedBlock, list[int]]:
    """The block of *height*, believed from *trusted* on, and the heights that were asked for."""
    steps = follow(trusted, height, now(chain), TINY)
    asked = [next(steps)]
    while True:
        at = asked[-1]
        try:
            asked.append(steps.send(Offer(chain.light_block(at), chain.validators_at(at), chain.validators_at(at + 1))))
        except StopIteration as stop:
            return stop.value, asked


@pytest.mark.parametrize("start", range(10))
@pytest.mark.parametrize("height", range(1, 11))
def test_any_later_height_can_be_reached(chain: Chain, start: int, height: int) -> None:
    """In a few steps, each height asked for once; an earlier one can't."""
    if height <= start:
        assert code_of(lambda: followed(chain, trusted_at(chain, start), height)) == "light.height"
        return
    trusted, asked = followed(chain, trusted_at(chain, start), height)
    assert (trusted.height, trusted.block_id) == (height, chain.blocks[height - 1].id)
    assert len(set(asked)) == len(asked)
    assert asked[0] == height


def test_a_set_that_changes_whole_is_followed_step_by_step() -> None:
    """One member of four each block: nothing can be skipped for long."""
    chain = Chain(POWERS)
    for number in range(8):
        chain.extend(updates=[update(number, 0), update(number + 4, 10)])
    chain.extend()
    trusted, asked = followed(chain, trusted_at(chain, 0), 9)
    assert trusted.height == 9
    assert len(asked) > 2


def test_a_set_that_stays_is_reached_in_one_step() -> None:
    """However far."""
    chain = Chain(POWERS)
    chain.extend(30)
    assert followed(chain, trusted_at(chain, 0), 30)[1] == [30]


def test_a_lie_on_the_way_is_refused(chain: Chain) -> None:
    """Another height than was asked for, or a forged block."""
    offer = Offer(chain.light_block(4), chain.validators_at(4), chain.validators_at(5))
    steps = follow(trusted_at(chain, 0), 5, now(chain), TINY)
    assert next(steps) == 5
    assert code_of(lambda: steps.send(offer)) == "light.height"
    forged = replace(offer, light_block=with_header(chain.light_block(4), app_hash=OTHER))
    steps = follow(trusted_at(chain, 0), 4, now(chain), TINY)
    assert next(steps) == 4
    assert code_of(lambda: steps.send(forged)) == "light.commit"


def test_a_parent_of_the_same_time_is_refused(chain: Chain) -> None:
    """Though its hash agrees."""
    child = chain.blocks[4].header
    parent = replace(chain.blocks[3].header, time_ms=child.time_ms)
    assert code_of(lambda: verify_backwards(replace(child, last_block_id=parent.id), parent)) == "light.height"


def test_pivots_lie_between_and_come_to_an_end() -> None:
    """Nine sixteenths of the way; the next height at last, which is never too far."""
    assert pivot(0, 1_600) == 900
    height = 1_000_000
    for _ in range(40):
        if height == 1:
            break
        assert 0 < pivot(0, height) < height
        height = pivot(0, height)
    assert height == 1


def test_the_way_tells_what_was_believed_and_why(chain: Chain) -> None:
    """The trusted block first, then each step with its offer."""
    steps = trace(trusted_at(chain, 0), 10, now(chain), TINY)
    way = _sent(steps, lambda at: Offer(chain.light_block(at), chain.validators_at(at), chain.validators_at(at + 1)))
    assert (way[0].trusted, way[0].offer) == (trusted_at(chain, 0), None)
    assert all(step.offer is not None for step in way[1:])
    heights = [step.trusted.height for step in way]
    assert heights == sorted(set(heights))
    assert heights[-1] == 10


def _sent(steps: Any, answer: Callable[[Any], Any]) -> Any:
    """What the generator *steps* returns if each thing that it yields is answered so."""
    wanted = next(steps)
    while True:
        try:
            wanted = steps.send(answer(wanted))
        except StopIteration as stop:
            return stop.value


@pytest.fixture(scope="module")
def long_chain() -> Chain:
    """Fifty blocks by one validator."""
    chain = Chain((10,))
    chain.extend(50)
    return chain


def headers(chain: Chain, heights: range) -> list[Header]:
    """The headers of *heights* of *chain*."""
    return [chain.blocks[height - 1].header for height in heights]


@pytest.mark.parametrize("share", [1, 2, 20])
def test_any_earlier_height_is_reached_by_hashes_alone(long_chain: Chain, share: int) -> None:
    """In answers of bounded length, of which only a part may come."""
    asked: list[range] = []

    def answer(wanted: range) -> list[Header]:
        asked.append(wanted)
        return headers(long_chain, wanted)[:share]

    top = long_chain.blocks[49].header
    assert _sent(back(top, 3), answer) == long_chain.blocks[2].header
    assert asked[0][0] == 49
    assert asked[-1][-1] == 3
    assert max(map(len, asked)) <= HEADERS_AT_ONCE
    assert _sent(back(top, 1), answer) == long_chain.blocks[0].header
    with pytest.raises(StopIteration) as stop:
        next(back(top, 50))
    assert stop.value.value == top


def test_a_way_back_bears_no_lie(long_chain: Chain) -> None:
    """No header that is not the parent, none too many, and not none."""
    top = long_chain.blocks[49].header
    for height in (0, 51):
        assert code_of(lambda height=height: next(back(top, height))) == "light.height"  # type: ignore[misc]
    for wrong, code in (
        (headers(long_chain, range(48, 40, -1)), "light.last_block_id"),
        (headers(long_chain, range(49, 20, -1)), "light.height"),
        ([], "light.height"),
    ):
        steps = back(top, 35)
        assert next(steps) == range(49, 34, -1)
        assert code_of(lambda steps=steps, wrong=wrong: steps.send(wrong)) == code  # type: ignore[misc]


def test_a_chain_that_shows_nothing_new_for_two_heartbeats_is_stale(chain: Chain) -> None:
    """To the millisecond."""
    header = chain.blocks[9].header
    end = header.time_ms + 2 * TINY.heartbeat_ms
    assert (is_stale(header, end, TINY), is_stale(header, end + 1, TINY)) == (False, True)
