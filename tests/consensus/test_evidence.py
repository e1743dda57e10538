"""Two votes convict their signer, and nobody else; once, and not for ever."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.application import Misbehaviour
from consensus.chain import chain_changes
from consensus.codec import BadMessage, encode
from consensus.evidence import (
    EVIDENCE_BYTES_MAX,
    PUNISHED,
    TOO_NEW,
    TOO_OLD,
    DuplicateVote,
    Uncounted,
    from_wire,
    is_expired,
    to_wire,
)
from consensus.params import HOUR_MS, ROUNDS_MAX, TINY, Params
from consensus.signing import public_key, sha256
from consensus.validity import InvalidBlock, check_block, judged_evidence
from consensus.vote import Vote, VoteKind
from tests.consensus.chain_builder import CHAIN_ID, GENESIS_TIME_MS, Chain, Leaf, seed, signed_vote, update

A, B = sorted([sha256(b"a"), sha256(b"b")])


def lie(
    number: int = 0, *, height: int = 1, round_: int = 0, kind: VoteKind = VoteKind.PRECOMMIT, chain_id: str = CHAIN_ID
) -> DuplicateVote:
    """Validator *number* signed A and B."""
    return DuplicateVote.of(
        *(
            signed_vote(seed(number), value, height=height, round_=round_, kind=kind, chain_id=chain_id)
            for value in (A, B)
        )
    )


def in_order(*lies: DuplicateVote) -> list[DuplicateVote]:
    """As a block bears them."""
    return sorted(lies, key=lambda piece: piece.accused)


def verdict(chain: Chain, evidence: DuplicateVote) -> str:
    """What the next block of *chain* makes of *evidence*: "" if it convicts, else a code."""
    try:
        chain.state.past(chain.leaf).judge(evidence)
    except (BadMessage, Uncounted) as refusal:
        return refusal.code
    return ""


@pytest.fixture(scope="module")
def chain() -> Chain:
    """Three blocks, and nobody was convicted."""
    built = Chain()
    built.extend(3)
    return built


FALSE = "bad_message.evidence"

# What convicts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(VoteKind))
@pytest.mark.parametrize(("one", "other"), [(A, B), (None, A)])
def test_two_different_votes_convict(chain: Chain, kind: VoteKind, one: bytes | None, other: bytes | None) -> None:
    """In whichever order they came; nil counts as a value. The power is that of the height of the lie."""
    votes = [signed_vote(seed(0), block_id, kind=kind, height=2) for block_id in (one, other)]
    evidence = DuplicateVote.of(*votes)
    assert evidence == DuplicateVote.of(*reversed(votes))
    assert chain.state.past(chain.leaf).judge(evidence) == Misbehaviour(
        public_key=public_key(seed(0)), power=10, height=2
    )


def test_evidence_has_one_form_on_the_wire(chain: Chain) -> None:
    """A kind and its fields; its id is the hash of them, and the largest one fits its limit."""
    evidence = lie(height=2**63 - 1, round_=ROUNDS_MAX)
    assert from_wire(to_wire(evidence)) == evidence
    assert evidence.id == sha256(encode(to_wire(evidence)))
    assert 3 * len(encode(to_wire(evidence))) < EVIDENCE_BYTES_MAX
    with pytest.raises(BadMessage):
        from_wire((1, ()))


# What convicts nobody -----------------------------------------------------------------------------------------------


def false(chain: Chain, first: Vote, second: Vote) -> bool:
    """Whether it is a false charge."""
    return verdict(chain, DuplicateVote(first, second)) == FALSE


def test_votes_of_different_slots_convict_nobody(chain: Chain) -> None:
    """Another validator, kind, height or round is no contradiction."""
    vote = signed_vote(seed(0), A)
    assert false(chain, vote, signed_vote(seed(1), B))
    assert false(chain, vote, signed_vote(seed(0), B, kind=VoteKind.PREVOTE))
    assert false(chain, vote, signed_vote(seed(0), B, height=2))
    assert false(chain, vote, signed_vote(seed(0), B, round_=1))


def test_the_same_vote_twice_convicts_nobody(chain: Chain) -> None:
    """Nor do two in the wrong order, of which each lie would have two proofs."""
    assert false(chain, signed_vote(seed(0), A), signed_vote(seed(0), A))
    assert false(chain, signed_vote(seed(0), None), signed_vote(seed(0), None))
    assert false(chain, signed_vote(seed(0), B), signed_vote(seed(0), A))


def test_a_stranger_cannot_be_convicted(chain: Chain) -> None:
    """Only members of that height's set."""
    assert verdict(chain, lie(9)) == FALSE


def test_both_signatures_must_hold(chain: Chain) -> None:
    """On this chain."""
    first, second = lie().first, lie().second
    assert false(chain, replace(first, signature=bytes(64)), second)
    assert false(chain, first, replace(second, signature=first.signature))
    assert verdict(chain, lie(chain_id="other")) == FALSE


def test_a_member_is_not_convicted_by_the_key_of_another(chain: Chain) -> None:
    """The address beside a vote is not signed, and proves nothing."""
    victim = lie(1).accused
    stolen = lie(0)
    assert false(chain, replace(stolen.first, validator=victim), replace(stolen.second, validator=victim))


honest_votes = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.integers(1, 3),
        st.integers(0, 2),
        st.sampled_from(VoteKind),
        st.sampled_from([None, A, B]),
    ),
    min_size=2,
    max_size=8,
)


@given(honest_votes, st.data())
def test_whoever_votes_once_in_a_slot_is_never_convicted(
    votes: list[tuple[int, int, int, VoteKind, bytes | None]], data: st.DataObject
) -> None:
    """Whatever two signatures of honest validators are put together, whoever is named and whatever is changed."""
    first_of_slot = {vote[:4]: vote for vote in reversed(votes)}
    signed = [
        signed_vote(seed(number), value, height=height, round_=round_, kind=kind)
        for number, height, round_, kind, value in first_of_slot.values()
    ]
    one, other = (data.draw(st.sampled_from(signed)) for _ in range(2))
    forged = replace(
        other,
        validator=data.draw(st.sampled_from([one.validator, other.validator])),
        kind=data.draw(st.sampled_from([one.kind, other.kind])),
        height=data.draw(st.sampled_from([one.height, other.height])),
        round=data.draw(st.sampled_from([one.round, other.round])),
        block_id=data.draw(st.sampled_from([other.block_id, A, B, None])),
    )
    chain = _DECIDED
    for evidence in (DuplicateVote(one, forged), DuplicateVote(forged, one), DuplicateVote.of(one, forged)):
        assert verdict(chain, evidence) == FALSE


_DECIDED = Chain()
_DECIDED.extend(3)

# What does not count now --------------------------------------------------------------------------------------------


def test_a_height_that_is_not_decided_here_is_no_lie_yet(chain: Chain) -> None:
    """The latest one counts; of the next one nothing is said, not even whether the signatures hold."""
    assert verdict(chain, lie(height=3)) == ""
    assert verdict(chain, lie(height=4)) == TOO_NEW
    assert verdict(chain, lie(9, height=4)) == TOO_NEW


def test_too_old_is_too_old_in_time_and_in_blocks() -> None:
    """In one alone it counts; to the last millisecond and block."""

    def expired(*, age_ms: int, age_blocks: int) -> bool:
        return is_expired(TINY, found_height=5, found_time_ms=7, height=5 + age_blocks, time_ms=7 + age_ms)

    old_ms, old_blocks = TINY.evidence_age_ms + 1, TINY.evidence_age_blocks + 1
    assert expired(age_ms=old_ms, age_blocks=old_blocks)
    assert not expired(age_ms=old_ms - 1, age_blocks=old_blocks)
    assert not expired(age_ms=old_ms, age_blocks=old_blocks - 1)


def aged(params: Params, *, lied_at: int, blocks: int, ms: int) -> Chain:
    """A chain whose latest block is *blocks* and *ms* after the one at *lied_at*, which began its hour."""
    chain = Chain(params=params)
    start = (GENESIS_TIME_MS // HOUR_MS + 1) * HOUR_MS
    for height in range(1, lied_at + 1):
        chain.extend(time_ms=start + height * HOUR_MS)
    lied_ms = chain.state.time_ms
    chain.extend(blocks - 1)
    chain.extend(time_ms=lied_ms + ms)
    return chain


@pytest.mark.parametrize(("late_blocks", "late_ms"), [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_evidence_expires_when_too_old_in_time_and_in_blocks(late_blocks: int, late_ms: int) -> None:
    """In one alone it counts: a quiet chain makes few blocks, a busy one many."""
    params = replace(TINY, evidence_age_blocks=5)
    chain = aged(params, lied_at=2, blocks=5 + late_blocks, ms=params.evidence_age_ms + late_ms)
    assert verdict(chain, lie(height=2)) == (TOO_OLD if late_blocks and late_ms else "")


def test_a_block_is_as_old_as_the_first_of_its_hour() -> None:
    """That one's time is known to all, by the leaf."""
    params = replace(TINY, evidence_age_blocks=1)
    chain = Chain(params=params)
    hour = (GENESIS_TIME_MS // HOUR_MS + 1) * HOUR_MS
    chain.extend(time_ms=hour)
    chain.extend(time_ms=hour + HOUR_MS // 2)  # a block of which the leaf says nothing
    chain.extend(time_ms=hour + HOUR_MS)
    chain.extend(time_ms=hour + params.evidence_age_ms)
    assert verdict(chain, lie(height=2)) == ""
    chain.extend(time_ms=hour + params.evidence_age_ms + 1)
    assert chain.state.time_ms - (hour + HOUR_MS // 2) < params.evidence_age_ms
    assert verdict(chain, lie(height=2)) == TOO_OLD
    assert verdict(chain, lie(height=3)) == ""


def test_where_no_block_is_young_in_time_the_blocks_decide() -> None:
    """As when evidence may age for less than an hour."""
    params = replace(
        TINY, heartbeat_ms=1_000, trusting_period_ms=60_000, evidence_age_ms=100_000, evidence_age_blocks=2
    )
    chain = Chain(params=params)
    hour = (GENESIS_TIME_MS // HOUR_MS + 1) * HOUR_MS
    chain.extend(time_ms=hour)
    chain.extend(3, time_ms=None)
    chain.extend(time_ms=hour + 600_000)
    assert [verdict(chain, lie(height=height)) for height in (2, 3, 4)] == [TOO_OLD, "", ""]


def test_a_lie_before_the_first_known_set_is_too_old() -> None:
    """Height 0 has no validators."""
    assert verdict(_DECIDED, lie(height=0)) == TOO_OLD
    empty = _DECIDED.state.past(Leaf({}))
    with pytest.raises(Uncounted, match="too far back"):
        empty.judge(lie())


def test_who_left_meanwhile_is_convicted_by_the_set_of_then() -> None:
    """And who came later is not, for a height before it came."""
    chain = Chain()
    chain.extend(updates=[update(0, 0), update(7, 10)])
    chain.extend(3)
    assert [verdict(chain, lie(0, height=height)) for height in (1, 2, 3)] == ["", FALSE, FALSE]
    assert [verdict(chain, lie(7, height=height)) for height in (1, 2, 3)] == [FALSE, "", ""]


def test_the_power_is_that_of_the_height_of_the_lie() -> None:
    """It may have changed since."""
    chain = Chain()
    chain.extend(updates=[update(0, 99)])
    chain.extend()
    past = chain.state.past(chain.leaf)
    assert [past.judge(lie(height=height)).power for height in (1, 2)] == [10, 99]


def test_whoever_knows_only_the_leaf_judges_as_the_others_do() -> None:
    """A node that joined by snapshot has state, height, time and parameters, and no block from before."""
    chain = Chain(params=replace(TINY, evidence_age_blocks=3))
    chain.extend(updates=[update(0, 0), update(7, 10)])
    chain.extend(4, time_ms=None)
    chain.extend(evidence=[lie(1, height=5)])
    newcomer = replace(chain.state, former_sets=(), last_validators=chain.state.validators, set_since=1)
    for number in range(9):
        for height in range(9):
            evidence = lie(number, height=height)
            try:
                newcomer.past(Leaf(chain.leaf.rows)).judge(evidence)
                code = ""
            except (BadMessage, Uncounted) as refusal:
                code = refusal.code
            assert code == verdict(chain, evidence)


@given(st.integers(0, 12), st.integers(0, 6), st.integers(0, 12))
def test_what_is_expired_by_the_times_of_all_blocks_is_too_old_by_the_leaf(blocks: int, age: int, hours: int) -> None:
    """Whoever forgets blocks by their own times never forgets one on which evidence can rest."""
    params = replace(
        TINY, evidence_age_blocks=max(1, age), evidence_age_ms=(age + 1) * HOUR_MS, trusting_period_ms=20_000
    )
    chain = Chain(params=params)
    for number in range(blocks + 1):
        chain.extend(time_ms=chain.state.time_ms + (number * 7 + hours) % 5 * HOUR_MS // 2 + 1_000)
    latest = chain.state
    for height in range(1, latest.height + 1):
        found_ms = chain.states[height].time_ms
        if is_expired(
            params, found_height=height, found_time_ms=found_ms, height=latest.height, time_ms=latest.time_ms
        ):
            assert verdict(chain, lie(height=height)) == TOO_OLD


# Once ---------------------------------------------------------------------------------------------------------------


def test_a_conviction_covers_all_until_the_block_that_bore_it() -> None:
    """And nothing after it: whoever comes back from jail and lies again is convicted again."""
    chain = Chain()
    chain.extend(2)
    chain.extend(evidence=[lie(height=1)])  # in block 3
    chain.extend(2)
    assert [verdict(chain, lie(height=height)) for height in (1, 2, 3, 4)] == [PUNISHED, PUNISHED, PUNISHED, ""]
    assert verdict(chain, lie(height=2, round_=7)) == PUNISHED
    assert verdict(chain, lie(1, height=2)) == ""
    chain.extend(evidence=[lie(height=4)])  # in block 6
    assert verdict(chain, lie(height=4)) == PUNISHED
    assert chain.state.past(chain.leaf).convicted_at(lie().accused) == 6


def test_a_conviction_stands_though_parameters_make_old_evidence_young_again() -> None:
    """Or else a vote on parameters could punish twice."""
    short = replace(TINY, evidence_age_blocks=1, evidence_age_ms=TINY.evidence_age_ms)
    chain = Chain(params=short)
    chain.extend()
    chain.extend(evidence=[lie(height=1)])
    chain.extend(time_ms=chain.state.time_ms + 2 * short.evidence_age_ms)
    assert verdict(chain, lie(height=1)) == TOO_OLD
    chain.extend(params=replace(short, evidence_age_blocks=1_000, evidence_age_ms=10 * short.evidence_age_ms))
    assert verdict(chain, lie(height=1)) == PUNISHED


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 6)), max_size=12))
def test_no_validator_is_convicted_twice_of_one_lie(charges: list[tuple[int, int]]) -> None:
    """In whatever order charges come, each height of each validator counts at most once."""
    chain = Chain()
    chain.extend(3)
    convicted: list[tuple[int, int]] = []
    for number, height in charges:
        evidence = lie(number, height=height)
        if verdict(chain, evidence):
            continue
        chain.extend(evidence=[evidence])
        convicted.append((number, height))
        assert verdict(chain, evidence) == PUNISHED
    assert len(set(convicted)) == len(convicted)


# In a block ---------------------------------------------------------------------------------------------------------


def test_a_block_bears_evidence_in_one_order_and_of_each_validator_once(chain: Chain) -> None:
    """Else two blocks would say the same, and one could punish twice."""
    both = in_order(lie(0), lie(1, height=2))
    block, _ = chain.next_block(evidence=both)
    check_block(block, 0, chain.state, chain.leaf)
    lies = judged_evidence(block.evidence, chain.state, chain.leaf)
    assert [found.public_key for found in lies] == [
        public_key(seed(number)) for number in ((0, 1) if both[0] == lie(0) else (1, 0))
    ]
    for wrong in (list(reversed(both)), [lie(0), lie(0)], [lie(0), lie(0, height=2)]):
        block, _ = chain.next_block(evidence=wrong)
        with pytest.raises(InvalidBlock, match="in order, each once") as refusal:
            check_block(block, 0, chain.state, chain.leaf)
        assert refusal.value.code == "block.evidence"


@pytest.mark.parametrize("wrong", [lie(9), lie(height=4), lie(height=0)], ids=["stranger", "future", "no set"])
def test_a_block_with_evidence_that_does_not_count_is_invalid(chain: Chain, wrong: DuplicateVote) -> None:
    """False, or of another time."""
    block, _ = chain.next_block(evidence=[wrong])
    with pytest.raises(InvalidBlock) as refusal:
        check_block(block, 0, chain.state, chain.leaf)
    assert refusal.value.code == "block.evidence"


def test_the_leaf_remembers_who_was_convicted_and_when(chain: Chain) -> None:
    """Under its address."""
    block, following = chain.next_block(evidence=[lie()])
    lies = judged_evidence(block.evidence, chain.state, chain.leaf)
    changes = chain_changes(chain.state, following, lies)
    assert changes[b"convicted\x00\x00\x14" + lie().accused] == encode(4)
