"""Blocks, commits, sets and parameters: what others got wrong about them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import fields, replace
from pathlib import Path

import pytest
from trio.testing import MockClock

from consensus import merkle
from consensus.chain import chain_changes, without_priorities
from consensus.inputs import Step
from consensus.params import CITY, BadParams
from consensus.validity import InvalidBlock, check_block, verify_commit
from consensus.vote import Vote, VoteKind
from node.consensus_messages import Held, Status
from tests.consensus.chain_builder import CHAIN_ID, Chain
from tests.node.bench import Bench, settled, transaction

LEAVES = [b"part %d" % number for number in range(5)]


@pytest.fixture
async def bench(tmp_path: Path, autojump_clock: MockClock) -> AsyncIterator[Bench]:
    """A validator that runs, among scripted peers."""
    async with Bench(tmp_path).running() as bench:
        yield bench


def test_asa_2025_002_a_part_is_proved_at_its_own_index_only() -> None:
    """There the index of a block part and that of its proof could differ. Here the proof's index is the place."""
    root = merkle.root(LEAVES)
    for index, leaf in enumerate(LEAVES):
        proof = merkle.prove(LEAVES, index)
        assert merkle.verify(root, leaf, proof)
        for other in range(len(LEAVES)):
            if other != index:
                assert not merkle.verify(root, leaf, replace(proof, index=other))
                assert not merkle.verify(root, LEAVES[other], proof)


@pytest.mark.parametrize("mask", [b"", b"\xff", b"\xff" * 32])
async def test_asa_2024_011_masks_of_any_length_name_only_members(bench: Bench, mask: bytes) -> None:
    """There a vote's index beyond the set ended the node. Here votes name addresses, and bits beyond the set nobody."""
    link = bench.meets(66)
    held = Held(0, VoteKind.PREVOTE, mask, None)
    link.peer.says(Status(1, 0, Step.PREVOTE, (), (held,), 0))
    await settled()
    assert link.fault is None


def test_asa_2024_001_parameters_that_could_halt_the_chain_are_decided_by_nobody() -> None:
    """There a height in the past for a new rule halted the chain. Here what is refused never comes into force."""
    chain = Chain()
    with pytest.raises(BadParams):
        chain.next_block(params=replace(CITY, block_bytes_max=1))
    for field in fields(CITY):
        for value in (0, 2**53):
            with pytest.raises(BadParams):
                CITY.replaced(**{field.name: value})


def test_cometbft_5613_sets_that_differ_in_priorities_differ_in_leaf_chain() -> None:
    """There two sets could have one hash of priorities. Here leaf ``chain`` holds the set, priorities included."""
    chain = Chain((10, 20, 30))
    chain.extend(2)
    state = chain.state
    turned = replace(state, validators=state.validators.advanced())
    assert turned.validators.hash == state.validators.hash
    assert chain_changes(None, turned) != chain_changes(None, state)
    assert chain_changes(None, replace(state, validators=without_priorities(state.validators))) != chain_changes(
        None, state
    )


def test_cometbft_5901_no_vote_says_what_time_it_is() -> None:
    """There the median counted votes for nil and absent ones. Here a block's time is its proposer's, by rule."""
    assert not any("time" in field.name for field in fields(Vote))
    chain = Chain()
    chain.extend()
    block, _ = chain.next_block()
    for signers in ([0, 1, 2], [1, 2, 3], [0, 1, 2, 3]):
        commit = chain.commit_for(chain.blocks[-1], signers=signers)
        other = replace(block, header=replace(block.header, last_commit_hash=commit.hash), last_commit=commit)
        check_block(other, 0, chain.state, chain.leaf)
        assert other.header.time_ms == block.header.time_ms


def test_verify_commit_matches_each_signature_to_the_validator_at_its_place() -> None:
    """A signature that is true, but another member's, is refused wherever it stands."""
    chain = Chain()
    chain.extend()
    commit, members = chain.commit_for(chain.blocks[0]), chain.states[0].validators
    verify_commit(CHAIN_ID, members, commit, commit.block_id)
    for place in range(4):
        entries = list(commit.entries)
        entries[place] = commit.entries[place - 1]
        with pytest.raises(InvalidBlock) as refused:
            verify_commit(CHAIN_ID, members, replace(commit, entries=tuple(entries)), commit.block_id)
        assert refused.value.code == "block.commit_signature"


def test_cometbft_5663_signatures_beyond_two_thirds_are_verified_too() -> None:
    """A commit is stored and passed on, and says who was absent."""
    chain = Chain()
    chain.extend()
    commit, members = chain.commit_for(chain.blocks[0]), chain.states[0].validators
    last = commit.entries[3]
    assert last is not None
    forged = replace(commit, entries=(*commit.entries[:3], replace(last, signature=bytes(64))))
    with pytest.raises(InvalidBlock):
        verify_commit(CHAIN_ID, members, forged, commit.block_id)


async def test_xian_there_is_a_result_for_each_transaction_also_for_one_that_fails(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """There a failing transaction was skipped, so that results no longer matched transactions."""
    one = Bench(tmp_path, own=None)
    parent = one.driver.height.parent
    raws = [transaction(0, key=0), transaction(1, key=1, value=13), transaction(2, key=2)]
    transactions = await one.mempool.bodies.admit(raws)
    executed = await one.executor.propose(
        parent,
        time_ms=parent.time_ms + 1_000,
        proposer=parent.validators.addresses[0],
        last_commit=None,
        reap=lambda _: transactions,
        drop=lambda identity, code, text: None,
        until=float("inf"),
    )
    one.store.close()
    assert len(executed.results) == 1 + len(executed.transactions) + 1
    assert [bool(result.code) for result in executed.results] == [False, False, True, False, False]
