"""What carries over from one block to the next."""

from __future__ import annotations

from dataclasses import replace

import pytest

from consensus.application import BlockInfo, BlockOutcome
from consensus.chain import (
    FORMER_SETS_MAX,
    UNDECIDED,
    ChainState,
    FormerSet,
    chain_changes,
    evidence_root,
    next_state,
    params_hash,
    results_hash,
    transactions_root,
    without_priorities,
)
from consensus.codec import decode, encode
from consensus.params import HOUR_MS, TINY, BadParams
from consensus.shape import from_bytes, to_bytes
from consensus.signing import sha256
from consensus.validators import BadUpdate, ValidatorSet
from consensus.validity import check_block
from tests.consensus.chain_builder import (
    CHAIN_ID,
    GENESIS_HASH,
    GENESIS_TIME_MS,
    RESULT,
    Chain,
    update,
)

ID = sha256(b"a block")


@pytest.fixture(scope="module")
def chain() -> Chain:
    """A chain of three blocks."""
    built = Chain()
    built.extend(3)
    return built


def test_the_state_before_block_one_is_that_of_the_genesis() -> None:
    updates = [update(0, 10), update(1, 5)]
    state = ChainState.genesis(
        chain_id=CHAIN_ID,
        genesis_hash=GENESIS_HASH,
        time_ms=GENESIS_TIME_MS,
        validators=updates,
        params=TINY,
        app_hash=ID,
    )
    assert (state.height, state.time_ms, state.block_id, state.app_hash) == (0, GENESIS_TIME_MS, GENESIS_HASH, ID)
    assert (state.last_validators, state.validators) == (ValidatorSet(()), ValidatorSet.of(updates))
    assert (state.set_since, state.former_sets, state.params) == (1, (), TINY)


def test_updates_and_parameters_act_at_the_next_height() -> None:
    """Header H already names the next set; header H + 1 names the parameters."""
    chain = Chain()
    faster = replace(TINY, heartbeat_ms=500)
    chain.extend(updates=[update(9, 7)], params=faster)
    first = chain.blocks[0].header
    assert first.validators_hash == chain.genesis.validators.hash
    assert first.next_validators_hash == chain.state.validators.hash != first.validators_hash
    assert first.params_hash == params_hash(TINY)
    assert chain.state.validators.by_address(update_address(9)) is not None
    chain.extend()
    second = chain.blocks[1].header
    assert second.validators_hash == first.next_validators_hash
    assert second.params_hash == params_hash(faster)
    check_block(chain.blocks[1], 0, chain.states[1], chain.leaf)


def update_address(number: int) -> bytes:
    """The address of validator *number*."""
    return ValidatorSet.of([update(number, 1)]).addresses[0]


def test_priorities_advance_with_every_block() -> None:
    """Then the updates are applied, as in CometBFT."""
    chain = Chain((5, 3, 2))
    before = chain.genesis.validators
    chain.extend()
    assert chain.state.validators == before.advanced()
    chain.extend(updates=[update(3, 4)])
    assert chain.state.validators == before.advanced(2).updated([update(3, 4)])


def test_what_no_chain_can_go_on_with_is_an_error_of_the_application() -> None:
    """Nothing is quietly left out."""
    chain = Chain()
    with pytest.raises(BadUpdate):
        chain.next_block(updates=[update(number, 0) for number in range(4)])
    with pytest.raises(BadParams):
        chain.next_block(params=replace(TINY, precision_ms=1))


def test_a_chain_does_not_begin_with_bad_parameters() -> None:
    """Nor without validators."""
    with pytest.raises(BadParams):
        Chain(params=replace(TINY, precision_ms=1))
    with pytest.raises(BadUpdate):
        Chain(())


def test_chain_state_survives_the_wire(chain: Chain) -> None:
    """Byte for byte, genesis included."""
    for state in chain.states:
        assert from_bytes(ChainState, to_bytes(state)) == state


def test_an_undecided_state_learns_its_block(chain: Chain) -> None:
    """And only one of its own height."""
    block, following = chain.next_block()
    assert (following.block_id, following.app_hash) == (block.id, block.header.app_hash)
    parent = chain.state
    info = BlockInfo(
        chain_id=parent.chain_id,
        height=block.header.height,
        time_ms=block.header.time_ms,
        parent_time_ms=parent.time_ms,
        proposer=block.header.proposer,
        params=parent.params,
        validators=parent.validators,
    )
    undecided = next_state(parent, info, BlockOutcome(result=RESULT))
    assert undecided == replace(following, block_id=UNDECIDED, app_hash=UNDECIDED)
    assert undecided.decided(block.header) == following
    with pytest.raises(AssertionError):
        undecided.decided(chain.blocks[0].header)


def test_the_chain_leaf_does_not_depend_on_the_header_that_covers_it(chain: Chain) -> None:
    """It must be known before the application hash and the block id are."""
    _, following = chain.next_block()
    undecided = replace(following, block_id=UNDECIDED, app_hash=UNDECIDED)
    assert chain_changes(chain.state, undecided) == chain_changes(chain.state, following)


def key(table: str, *parts: int) -> bytes:
    """A key of leaf ``chain``."""
    return table.encode() + b"\x00" + b"".join(part.to_bytes(8, "big") for part in parts)


def test_genesis_writes_the_whole_leaf() -> None:
    """Set, parameters, members and hour."""
    genesis = Chain().genesis
    assert chain_changes(None, genesis) == {
        key("set"): to_bytes(genesis.validators),
        key("params"): to_bytes(TINY),
        key("members", 1): to_bytes(without_priorities(genesis.validators)),
        key("hour", GENESIS_TIME_MS // HOUR_MS): b"\x92\x00" + b"\xcf" + GENESIS_TIME_MS.to_bytes(8, "big"),
    }


def test_an_ordinary_block_writes_the_set_alone() -> None:
    """The rest is written on change."""
    chain = Chain()
    chain.extend(2)
    assert chain_changes(chain.states[1], chain.states[2]) == {key("set"): to_bytes(chain.state.validators)}


def test_the_first_block_of_an_hour_is_marked() -> None:
    """With its height and time."""
    chain = Chain()
    time_ms = (GENESIS_TIME_MS // HOUR_MS + 2) * HOUR_MS + 5
    chain.extend(time_ms=time_ms)
    changes = chain_changes(chain.genesis, chain.state)
    mark = changes[key("hour", time_ms // HOUR_MS)]
    assert mark is not None
    assert decode(mark, bytes_max=100) == (1, time_ms)


def leaf_after(chain: Chain) -> dict[bytes, bytes]:
    """Leaf ``chain`` after all changes from genesis on."""
    leaf: dict[bytes, bytes] = {}
    for parent, following in zip([None, *chain.states], chain.states, strict=False):
        for name, value in chain_changes(parent, following).items():
            if value is None:
                leaf.pop(name, None)
            else:
                leaf[name] = value
    return leaf


def table(leaf: dict[bytes, bytes], name: str) -> list[int]:
    """The integers that the keys of table *name* end with."""
    prefix = key(name)
    return sorted(int.from_bytes(entry[len(prefix) :], "big") for entry in leaf if entry.startswith(prefix))


def test_former_sets_stay_while_evidence_can_rest_on_them() -> None:
    """They go when they are too old in time and in blocks, and the leaf stays bounded."""
    params = replace(TINY, evidence_age_blocks=3)
    chain = Chain(params=params)
    chain.extend()
    chain.extend(updates=[update(5, 1)])  # in force from height 3 on; the first set was until 2
    assert list(chain.state.former_sets) == [FormerSet(1, 2, chain.state.time_ms)]
    chain.extend(4)  # too old in blocks, not in time
    assert table(leaf_after(chain), "members") == [1, 3]
    chain.extend(time_ms=chain.state.time_ms + params.evidence_age_ms)
    assert not chain.state.former_sets
    assert table(leaf_after(chain), "members") == [3]
    assert chain.state.set_since == 3


def test_a_former_set_too_old_in_time_alone_stays() -> None:
    """A quiet chain makes few blocks."""
    chain = Chain()
    chain.extend(updates=[update(5, 1)])
    chain.extend(time_ms=chain.state.time_ms + TINY.evidence_age_ms + 1)
    assert len(chain.state.former_sets) == 1
    assert table(leaf_after(chain), "members") == [1, 2]


def test_a_former_set_too_old_in_time_stays_to_the_last_block() -> None:
    """Two blocks of age still count; three no more."""
    params = replace(TINY, evidence_age_blocks=2)
    chain = Chain(params=params)
    chain.extend(updates=[update(5, 1)])  # the first set was in force at height 1 alone
    chain.extend(time_ms=chain.state.time_ms + params.evidence_age_ms + 1)
    chain.extend()
    assert chain.state.height == 3
    assert chain.state.former_sets
    chain.extend()
    assert not chain.state.former_sets


def test_a_former_set_too_old_in_blocks_stays_to_the_last_millisecond() -> None:
    """At the very age it still counts; a millisecond later no more."""
    params = replace(TINY, evidence_age_blocks=1)
    for late_ms, kept in ((0, True), (1, False)):
        chain = Chain(params=params)
        chain.extend(updates=[update(5, 1)])
        end_ms = chain.state.time_ms + params.evidence_age_ms
        chain.extend(2)
        chain.extend(time_ms=end_ms + late_ms)
        assert bool(chain.state.former_sets) is kept


def test_the_number_of_former_sets_is_bounded() -> None:
    """The oldest goes first."""
    chain = Chain()
    many = tuple(FormerSet(height, height, GENESIS_TIME_MS) for height in range(1, FORMER_SETS_MAX + 1))
    chain.state = replace(chain.genesis, height=FORMER_SETS_MAX, former_sets=many, set_since=FORMER_SETS_MAX + 1)
    chain.states[-1] = chain.state
    _, following = chain.next_block(updates=[update(5, 1)])
    assert len(following.former_sets) == FORMER_SETS_MAX
    assert following.former_sets[0] == many[1]
    assert chain_changes(chain.state, following)[key("members", 1)] is None


def test_hours_beyond_the_evidence_window_are_forgotten() -> None:
    """Also after a long silence, and when the window grows or shrinks."""
    chain = Chain()
    hour = GENESIS_TIME_MS // HOUR_MS
    window = TINY.evidence_age_ms // HOUR_MS
    for ahead in (1, 2, window + 2):
        chain.extend(time_ms=(hour + ahead) * HOUR_MS)
    assert table(leaf_after(chain), "hour") == [hour + 2, hour + window + 2]
    shorter = replace(TINY, evidence_age_ms=window * HOUR_MS // 2, trusting_period_ms=HOUR_MS)
    chain.extend(params=shorter)
    assert table(leaf_after(chain), "hour") == [hour + window + 2]
    chain.extend(params=TINY)
    assert table(leaf_after(chain), "hour") == [hour + window + 2]
    chain.extend(time_ms=(hour + 10_000) * HOUR_MS)
    assert table(leaf_after(chain), "hour") == [hour + 10_000]


def test_lists_are_hashed_as_rfc_6962_says() -> None:
    """Leaves are ids and canonical results."""
    leaf = sha256(b"\x00" + ID)
    assert transactions_root([ID]) == leaf
    assert transactions_root([ID, ID]) == sha256(b"\x01" + leaf + leaf)
    assert transactions_root([]) == sha256(b"")
    assert results_hash([RESULT]) == sha256(b"\x00" + to_bytes(RESULT))
    assert evidence_root([(0, b"a lie")]) == sha256(b"\x00" + encode((0, b"a lie")))
