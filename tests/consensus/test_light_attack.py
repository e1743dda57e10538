"""An attack convicts by what it shows alone: a false charge is thrown out, and nobody is named beyond the proof."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from consensus.block import LightBlock, Signed
from consensus.codec import BadMessage
from consensus.light_attack import AttackKind, Finding, LightClientAttack, proof_from_bytes
from consensus.shape import from_bytes, to_bytes
from consensus.signing import sha256
from tests.consensus.chain_builder import SEEDS, Chain, signed_vote
from tests.consensus.forger import forged_offer, genesis_of, lunatic_offer, offer_of, trusted_in

OTHER = sha256(b"something else")


@pytest.fixture(scope="module")
def chain() -> Chain:
    """Eight blocks by four validators of equal power."""
    built = Chain((10, 10, 10, 10))
    built.extend(8)
    return built


def keys(chain: Chain, *places: int) -> list[bytes]:
    """Public keys of members."""
    return [chain.validators_at(1).validators[place].public_key for place in places]


def attack(
    chain: Chain, *places: int, height: int = 6, common: int = 2, round_: int = 0, **fields: Any
) -> LightClientAttack:
    """Members at *places* sign another block of *height*, which keeps the set."""
    header = replace(chain.blocks[height - 1].header, **{"app_hash": OTHER, **fields})
    offer = forged_offer(header, chain.validators_at(height), keys(chain, *places), round_=round_)
    return LightClientAttack.of(common, offer.light_block, offer.validators)


def own(chain: Chain, height: int, *, round_: int = 0, signers: tuple[int, ...] = (0, 1, 2, 3)) -> LightBlock:
    """What was decided."""
    return offer_of(chain, height, round_=round_, signers=signers).light_block


def judged(chain: Chain, charge: LightClientAttack, decided: LightBlock) -> Finding:
    """What *charge*, which holds, proves."""
    common = trusted_in(chain, charge.common_height)
    charge.verify(common, decided.header)
    return charge.judge(common, decided, chain.validators_at(decided.header.height))


def addresses(chain: Chain, *places: int) -> tuple[bytes, ...]:
    """Their addresses, ascending."""
    return tuple(sorted(chain.validators_at(1).addresses[place] for place in places))


def test_an_attack_survives_the_wire(chain: Chain) -> None:
    charge = attack(chain, 0, 1, 2)
    assert from_bytes(LightClientAttack, to_bytes(charge)) == charge
    assert proof_from_bytes(charge.encoded) == charge
    assert charge.id == sha256(to_bytes(charge))
    assert charge.height == 6


def test_whoever_signed_twice_in_a_round_is_convicted_and_nobody_else(chain: Chain) -> None:
    """Three signed the fork, three the chain: two of them both."""
    finding = judged(chain, attack(chain, 0, 1, 2), own(chain, 6, signers=(1, 2, 3)))
    assert finding.kind is AttackKind.EQUIVOCATION
    assert finding.culprits == addresses(chain, 1, 2)
    assert {each.first.validator for each in finding.duplicates} == set(addresses(chain, 1, 2))
    assert set(finding.signers) == set(addresses(chain, 0, 1, 2))
    for each in finding.duplicates:
        each.verify(charge_chain(chain), chain.validators_at(6))


def charge_chain(chain: Chain) -> str:
    """The chain id."""
    return chain.blocks[0].header.chain_id


def test_a_vote_for_nil_and_one_for_the_fork_convict_too(chain: Chain) -> None:
    """In the decided commit it stands as a vote for nil."""
    decided = own(chain, 6)
    member = chain.validators_at(6).validators[0]
    nil = signed_vote(SEEDS[member.public_key], None, height=6)
    entries = (Signed(False, nil.signature), *decided.commit.entries[1:3], None)
    decided = replace(decided, commit=replace(decided.commit, entries=(*entries[:3], decided.commit.entries[3])))
    finding = judged(chain, attack(chain, 0, 1, 2), decided)
    assert finding.culprits == addresses(chain, 0, 1, 2)
    assert any(each.first.block_id is None for each in finding.duplicates)


def test_two_rounds_convict_nobody(chain: Chain) -> None:
    """Somebody forgot a lock; two commits don't show who (amnesia)."""
    finding = judged(chain, attack(chain, 0, 1, 2, round_=3), own(chain, 6))
    assert (finding.kind, finding.duplicates, finding.culprits) == (AttackKind.AMNESIA, (), ())
    assert set(finding.signers) == set(addresses(chain, 0, 1, 2))


def test_another_parent_convicts_nobody_by_itself(chain: Chain) -> None:
    """The lie was told further down; honest validators may have followed it."""
    finding = judged(chain, attack(chain, 0, 1, 2, round_=3, last_block_id=OTHER), own(chain, 6))
    assert (finding.kind, finding.culprits) == (AttackKind.AMNESIA, ())


def test_other_parameters_on_the_same_parent_convict_all_who_signed(chain: Chain) -> None:
    """What follows from the parent alone is no matter of opinion (lunatic)."""
    charge = attack(chain, 0, 1, 2, common=5, round_=3, params_hash=OTHER)
    finding = judged(chain, charge, own(chain, 6))
    assert (finding.kind, finding.culprits) == (AttackKind.LUNATIC, addresses(chain, 0, 1, 2))
    later = attack(chain, 0, 1, 2, common=4, round_=3, params_hash=OTHER)
    assert judged(chain, later, own(chain, 6)).kind is AttackKind.AMNESIA


def test_a_later_height_in_our_past_convicts_its_signers(chain: Chain) -> None:
    """Time only goes forward on one chain; strangers in its set signed, but the chain can't convict them."""
    offer = lunatic_offer(
        chain, 8, [*keys(chain, 0, 1), *stranger_keys()], height=20, time_ms=chain.blocks[7].header.time_ms
    )
    charge = LightClientAttack.of(2, offer.light_block, offer.validators)
    finding = judged(chain, charge, own(chain, 8))
    assert (finding.kind, finding.culprits) == (AttackKind.LUNATIC, addresses(chain, 0, 1))
    assert len(finding.signers) == 3


def stranger_keys() -> list[bytes]:
    """The key of somebody who was never a validator."""
    return [list(SEEDS)[9]]


def test_a_set_of_their_own_convicts_those_of_the_trusted_set_by_their_second_vote(chain: Chain) -> None:
    offer = lunatic_offer(chain, 6, [*keys(chain, 0, 1), *stranger_keys()])
    charge = LightClientAttack.of(2, offer.light_block, offer.validators)
    finding = judged(chain, charge, own(chain, 6))
    assert finding.culprits == addresses(chain, 0, 1)
    assert len(finding.duplicates) == 2


def refused(chain: Chain, charge: LightClientAttack, decided: LightBlock) -> str:
    """The sentence with which *charge* is thrown out."""
    with pytest.raises(BadMessage) as error:
        charge.verify(trusted_in(chain, charge.common_height), decided.header)
    assert error.value.code == "bad_message.evidence"
    return str(error.value)


def test_a_false_charge_is_thrown_out(chain: Chain) -> None:
    """cometbft#5638: nothing of evidence is taken on its word."""
    charge = attack(chain, 0, 1, 2)
    decided = own(chain, 6)
    members = charge.validators.validators
    biased = replace(charge.validators, validators=(replace(members[0], priority=1), *members[1:]))
    for wrong, why in (
        (replace(charge, validators=biased), "priorities"),
        (replace(charge, header=decided.header), "is the one that was decided"),
        (attack(chain, 0, 1), "is no quorum"),
        (attack(chain, 0, 1, 2, common=6), "nobody had to believe"),
        (attack(chain, 0, 1, 2, common=5, last_block_id=OTHER), "not built on the trusted block"),
        (attack(chain, 0, 1, 2, chain_id="another"), "chain 'another'"),
        (replace(charge, header=replace(charge.header, time_ms=charge.header.time_ms + 1)), "did not sign"),
    ):
        assert why in refused(chain, wrong, decided)


@pytest.mark.parametrize("known", [5, 7])
def test_a_height_that_is_not_decided_contradicts_nothing(chain: Chain, known: int) -> None:
    """Unless its time lies in the past of the latest block."""
    assert "nothing is decided" in refused(chain, attack(chain, 0, 1, 2), own(chain, known))


def test_the_genesis_can_be_the_last_common_block(chain: Chain) -> None:
    charge = attack(chain, 0, 1, 2, common=0)
    charge.verify(genesis_of(chain), chain.blocks[5].header)
