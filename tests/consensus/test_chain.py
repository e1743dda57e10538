"""Whether a block follows from its parent, and what carries over."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from consensus.block import Block, Commit, ModuleRoot, Signed
from consensus.chain import (
    FORMER_SETS_MAX,
    UNDECIDED,
    ChainState,
    FormerSet,
    InvalidBlock,
    chain_changes,
    check_block,
    commit_from_votes,
    commit_hash,
    contents_belong,
    evidence_root,
    params_hash,
    results_hash,
    transactions_root,
    verify_commit,
    without_priorities,
)
from consensus.codec import decode
from consensus.jellyfish import application_hash
from consensus.params import HOUR_MS, TINY, BadParams
from consensus.shape import from_bytes, to_bytes
from consensus.signing import sha256
from consensus.validators import BadUpdate, ValidatorSet
from consensus.vote import VoteKind
from tests.consensus.chain_builder import (
    CHAIN_ID,
    GENESIS_HASH,
    GENESIS_TIME_MS,
    RESULT,
    SEEDS,
    Chain,
    Leaf,
    seed,
    signed_vote,
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
    undecided = replace(following, block_id=UNDECIDED, app_hash=UNDECIDED)
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


def test_lists_are_hashed_as_rfc_6962_says() -> None:
    """Leaves are ids and canonical results."""
    leaf = sha256(b"\x00" + ID)
    assert transactions_root([ID]) == leaf
    assert transactions_root([ID, ID]) == sha256(b"\x01" + leaf + leaf)
    assert transactions_root([]) == sha256(b"")
    assert results_hash([RESULT]) == sha256(b"\x00" + to_bytes(RESULT))
