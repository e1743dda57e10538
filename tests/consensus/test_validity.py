"""Whether a block follows from its parent, and a commit proves it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from consensus.block import Block, Commit, ModuleRoot, Signed
from consensus.chain import (
    ChainState,
    commit_hash,
    evidence_root,
)
from consensus.jellyfish import application_hash
from consensus.params import TINY
from consensus.shape import to_bytes
from consensus.signing import sha256
from consensus.validators import ValidatorSet
from consensus.validity import InvalidBlock, check_block, commit_from_votes, contents_belong, verify_commit
from consensus.vote import VoteKind
from tests.consensus.chain_builder import (
    CHAIN_ID,
    GENESIS_HASH,
    GENESIS_TIME_MS,
    SEEDS,
    Chain,
    Leaf,
    seed,
    signed_vote,
)

ID = sha256(b"a block")


@pytest.fixture(scope="module")
def chain() -> Chain:
    """A chain of three blocks."""
    built = Chain()
    built.extend(3)
    return built


def code_of(block: Block, parent: ChainState, bodies_bytes: int = 0) -> str:
    """The code that *block* is refused with. Its evidence finds an empty past."""
    with pytest.raises(InvalidBlock) as refusal:
        check_block(block, bodies_bytes, parent, Leaf({}))
    return refusal.value.code


def changed(block: Block, **fields: Any) -> Block:
    """*block* with another header."""
    return replace(block, header=replace(block.header, **fields))


def test_every_block_of_a_chain_follows_from_its_parent(chain: Chain) -> None:
    """What `build_block` builds, `check_block` accepts, from the first block on."""
    for parent, block in zip(chain.states, chain.blocks, strict=False):
        check_block(block, 0, parent, chain.leaf)


def test_genesis_is_the_parent_of_block_one(chain: Chain) -> None:
    """Header 1 names the genesis hash, and carries no commit."""
    first = chain.blocks[0]
    assert first.header.last_block_id == GENESIS_HASH
    assert first.last_commit is None
    assert first.header.last_commit_hash == sha256(b"")
    assert chain.genesis.last_validators == ValidatorSet(())


def test_block_one_may_have_the_genesis_time() -> None:
    """The block delay counts from the first block on."""
    chain = Chain()
    block, _ = chain.next_block(time_ms=GENESIS_TIME_MS)
    check_block(block, 0, chain.genesis, chain.leaf)
    early, _ = chain.next_block(time_ms=GENESIS_TIME_MS - 1)
    assert code_of(early, chain.genesis) == "block.time"


def test_block_time_is_at_least_the_delay_after_the_parent(chain: Chain) -> None:
    """Not a millisecond earlier."""
    earliest = chain.state.time_ms + TINY.block_delay_ms
    block, _ = chain.next_block(time_ms=earliest)
    check_block(block, 0, chain.state, chain.leaf)
    early, _ = chain.next_block(time_ms=earliest - 1)
    assert code_of(early, chain.state) == "block.time"


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"version": 2}, "block.version"),
        ({"chain_id": "other"}, "block.chain_id"),
        ({"height": 3}, "block.height"),
        ({"height": 5}, "block.height"),
        ({"last_block_id": ID}, "block.last_block_id"),
        ({"last_commit_hash": ID}, "block.last_commit_hash"),
        ({"transactions_root": ID}, "block.transactions_root"),
        ({"validators_hash": ID}, "block.validators_hash"),
        ({"params_hash": ID}, "block.params_hash"),
        ({"app_hash": ID}, "block.app_hash"),
        ({"evidence_root": ID}, "block.evidence_root"),
        ({"proposer": bytes(20)}, "block.proposer"),
    ],
)
def test_a_header_that_says_something_else_is_refused(chain: Chain, fields: dict[str, Any], code: str) -> None:
    """Each field has its code."""
    block, _ = chain.next_block()
    assert code_of(changed(block, **fields), chain.state) == code


def test_results_and_next_set_are_left_to_execution(chain: Chain) -> None:
    """They can't be known without executing."""
    block, _ = chain.next_block()
    check_block(changed(block, results_hash=ID, next_validators_hash=ID), 0, chain.state, chain.leaf)


def test_any_member_may_be_the_proposer(chain: Chain) -> None:
    """A block that is proposed again in a later round keeps its first proposer."""
    block, _ = chain.next_block()
    for address in chain.state.validators.addresses:
        check_block(changed(block, proposer=address), 0, chain.state, chain.leaf)


def test_size_counts_the_bodies(chain: Chain) -> None:
    """Block and bodies together must fit, to the byte."""
    block, _ = chain.next_block(ids=[ID])
    room = TINY.block_bytes_max - len(to_bytes(block))
    check_block(block, room, chain.state, chain.leaf)
    assert code_of(block, chain.state, room + 1) == "block.size"


def test_too_many_transactions_are_refused() -> None:
    """The count has a limit of its own."""
    chain = Chain(params=replace(TINY, block_transactions_max=2))
    two, _ = chain.next_block(ids=[sha256(b"1"), sha256(b"2")])
    check_block(two, 0, chain.genesis, chain.leaf)
    three, _ = chain.next_block(ids=[sha256(b"1"), sha256(b"2"), sha256(b"3")])
    assert code_of(three, chain.genesis) == "block.transactions"


def test_a_transaction_occurs_once(chain: Chain) -> None:
    """Also where the root agrees."""
    block, _ = chain.next_block(ids=[ID, ID])
    assert code_of(block, chain.state) == "block.duplicate_transaction"


def test_evidence_that_is_not_evidence_is_refused(chain: Chain) -> None:
    """Though the root agrees; and evidence that the root does not commit to."""
    block, _ = chain.next_block()
    assert code_of(replace(block, evidence=((1, 2),)), chain.state) == "block.evidence_root"
    root = evidence_root([(1, 2)])
    assert code_of(changed(replace(block, evidence=((1, 2),)), evidence_root=root), chain.state) == "block.evidence"


@pytest.mark.parametrize("names", [("coin", "chain"), ("chain", "chain"), ("chain", "münze"), ("\U0001f600", "chain")])
def test_module_roots_are_in_order_once_each_and_ascii(chain: Chain, names: tuple[str, str]) -> None:
    """Otherwise one state would have several application hashes, or a name could not be hashed."""
    block, _ = chain.next_block()
    roots = tuple(ModuleRoot(name, bytes(32)) for name in names)
    forged = replace(changed(block, app_hash=application_hash(roots)), module_roots=roots)
    assert code_of(forged, chain.state) == "block.module_roots"


def test_a_commit_is_required_after_the_first_block(chain: Chain) -> None:
    """And refused in it."""
    block, _ = chain.next_block()
    bare = replace(changed(block, last_commit_hash=commit_hash(None)), last_commit=None)
    assert code_of(bare, chain.state) == "block.last_commit"
    first = chain.blocks[0]
    of_genesis = Commit(0, 0, GENESIS_HASH, ())
    for commit in (chain.commit_for(first), of_genesis):
        assert code_of(with_commit(first, commit), chain.genesis) == "block.last_commit"


def with_commit(block: Block, commit: Commit) -> Block:
    """*block* carrying *commit* as its last one."""
    return replace(changed(block, last_commit_hash=commit.hash), last_commit=commit)


def test_a_commit_of_another_height_is_refused(chain: Chain) -> None:
    """Though it is a true one."""
    block, _ = chain.next_block()
    older = chain.commit_for(chain.blocks[1])
    assert code_of(with_commit(block, older), chain.state) == "block.last_commit"


def test_any_true_commit_of_the_parent_will_do(chain: Chain) -> None:
    """The proposer chooses the canonical one: another round, other signers."""
    block, _ = chain.next_block()
    other = chain.commit_for(chain.blocks[-1], round_=7, signers=[0, 2, 3])
    check_block(with_commit(block, other), 0, chain.state, chain.leaf)


def test_every_signature_of_a_commit_is_verified(chain: Chain) -> None:
    """A false one is refused beyond the quorum too, and so is one in a neighbour's place."""
    members = chain.validators_at(3)
    commit = chain.commit_for(chain.blocks[-1])
    verify_commit(CHAIN_ID, members, commit, chain.state.block_id)
    for place in range(4):
        entries = list(commit.entries)
        entries[place] = Signed(True, bytes(64))
        assert refused(members, replace(commit, entries=tuple(entries))) == "block.commit_signature"
    swapped = (commit.entries[1], commit.entries[0], *commit.entries[2:])
    assert refused(members, replace(commit, entries=swapped)) == "block.commit_signature"


def refused(validators: ValidatorSet, commit: Commit, block_id: bytes | None = None) -> str:
    """The code that *commit* is refused with."""
    with pytest.raises(InvalidBlock) as refusal:
        verify_commit(CHAIN_ID, validators, commit, block_id or commit.block_id)
    return refusal.value.code


def test_a_commit_is_for_the_block_and_the_set(chain: Chain) -> None:
    """Another block's, or one with entries missing or to spare, is refused."""
    members = chain.validators_at(3)
    commit = chain.commit_for(chain.blocks[-1])
    assert refused(members, commit, ID) == "block.commit_block_id"
    assert refused(members, replace(commit, entries=commit.entries[:3])) == "block.commit_entries"
    assert refused(members, replace(commit, entries=(*commit.entries, None))) == "block.commit_entries"


def test_two_thirds_are_no_quorum() -> None:
    """Strictly more is needed; nil votes and absence count nothing towards it."""
    chain = Chain((10, 10, 10))
    block, following = chain.next_block()
    chain.decide(block, following)
    members = chain.validators_at(1)
    commit = chain.commit_for(block)
    two = (*commit.entries[:2], None)
    assert refused(members, replace(commit, entries=two)) == "block.commit_power"
    nil = signed_vote(SEEDS[members.validators[2].public_key], None)
    two_and_nil = (*commit.entries[:2], Signed(False, nil.signature))
    assert refused(members, replace(commit, entries=two_and_nil)) == "block.commit_power"


def test_a_nil_vote_in_a_commit_is_verified_as_such(chain: Chain) -> None:
    """It is neither a vote for the block nor free of proof."""
    members = chain.validators_at(3)
    commit = chain.commit_for(chain.blocks[-1])
    voter = SEEDS[members.validators[0].public_key]
    nil = signed_vote(voter, None, height=3)
    with_nil = replace(commit, entries=(Signed(False, nil.signature), *commit.entries[1:]))
    verify_commit(CHAIN_ID, members, with_nil, commit.block_id)
    forged = replace(commit, entries=(Signed(False, bytes(64)), *commit.entries[1:]))
    assert refused(members, forged) == "block.commit_signature"
    passed_off = replace(commit, entries=(Signed(True, nil.signature), *commit.entries[1:]))
    assert refused(members, passed_off) == "block.commit_signature"


def test_a_commit_of_another_chain_or_round_is_refused(chain: Chain) -> None:
    """Signatures are bound to both."""
    members = chain.validators_at(3)
    commit = chain.commit_for(chain.blocks[-1])
    assert refused(members, replace(commit, round=1)) == "block.commit_signature"
    with pytest.raises(InvalidBlock):
        verify_commit("other", members, commit, commit.block_id)


def test_votes_become_a_commit_in_set_order() -> None:
    """Nil votes are kept as such; prevotes, other rounds and other blocks count as absent; strangers are left out."""
    chain = Chain((10, 10, 10, 10, 10, 10, 10))
    members = chain.genesis.validators
    secrets = [SEEDS[validator.public_key] for validator in members.validators]
    for_block = [signed_vote(secret, ID) for secret in secrets[:5]]
    nil = signed_vote(secrets[5], None)
    other = signed_vote(secrets[6], sha256(b"another block"))
    stranger = signed_vote(seed(15), ID)
    noise = [
        signed_vote(secrets[6], ID, round_=1),
        signed_vote(secrets[6], ID, height=2),
        signed_vote(secrets[6], ID, kind=VoteKind.PREVOTE),
    ]
    commit = commit_from_votes(members, [stranger, other, nil, *reversed(for_block), *noise], 1, 0, ID)
    verify_commit(CHAIN_ID, members, commit, ID)
    assert commit.entries == (
        *(Signed(True, vote.signature) for vote in for_block),
        Signed(False, nil.signature),
        None,
    )


def test_no_commit_is_made_without_a_quorum() -> None:
    """That would be our defect, and stops us."""
    members = Chain().genesis.validators
    with pytest.raises(AssertionError):
        commit_from_votes(members, [signed_vote(seed(0), ID), signed_vote(seed(1), ID)], 1, 0, ID)
    three = Chain((1, 1, 1)).genesis.validators
    with pytest.raises(AssertionError):
        commit_from_votes(three, [signed_vote(seed(number), ID if number else None) for number in range(3)], 1, 0, ID)


def test_contents_that_were_changed_on_the_way_do_not_belong(chain: Chain) -> None:
    """A verdict on a block is one on its id only if all parts are those of its header."""
    block, _ = chain.next_block(ids=[ID])
    assert contents_belong(block)
    for parts in (
        {"last_commit": None},
        {"transaction_ids": ()},
        {"evidence": (1,)},
        {"module_roots": (ModuleRoot("münze", bytes(32)),)},
    ):
        assert not contents_belong(replace(block, **parts))
