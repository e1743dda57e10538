"""The past of other light clients."""

from __future__ import annotations

import dataclasses
from dataclasses import replace

from consensus.light import TrustedBlock, verify_adjacent
from consensus.light_attack import LightClientAttack
from consensus.params import TINY
from consensus.validators import ValidatorSet
from node.light.methods import members_json
from tests.consensus.chain_builder import Chain
from tests.consensus.forger import forged_offer, offer_of, trusted_in


def test_asa_2024_009_priorities_of_a_peer_s_set_reach_nobody() -> None:
    """A set's hash does not cover whose turn it is; a light client that kept a peer's word of it chose proposers so."""
    chain = Chain((10, 10, 10, 10))
    chain.extend(3)
    offer = offer_of(chain, 2)
    biased = ValidatorSet(tuple(replace(member, priority=99) for member in chain.validators_at(3).validators))
    now_ms = chain.state.time_ms + 1
    trusted = verify_adjacent(trusted_in(chain, 1), offer.light_block, offer.validators, biased, now_ms, TINY)
    assert {member.priority for member in trusted.next_validators.validators} == {0}
    assert all("priority" not in member for member in members_json(biased))


def test_cometbft_5638_evidence_of_an_attack_brings_no_list_of_culprits() -> None:
    """What is not there can't be wrong: each node names those whom its own chain convicts."""
    assert [field.name for field in dataclasses.fields(LightClientAttack)] == [
        "common_height",
        "header",
        "commit",
        "validators",
    ]
    chain = Chain((10, 10, 10, 10))
    chain.extend(4)
    liars = [member.public_key for member in chain.validators_at(3).validators[:3]]
    forged = forged_offer(replace(chain.blocks[2].header, app_hash=bytes(32)), chain.validators_at(3), liars)
    attack = LightClientAttack.of(2, forged.light_block, forged.validators)
    common = trusted_in(chain, 2)
    assert isinstance(common, TrustedBlock)
    attack.verify(common, chain.blocks[2].header)
    own = offer_of(chain, 3, signers=[1, 2, 3]).light_block
    assert set(attack.judge(common, own, chain.validators_at(3)).culprits) == set(chain.validators_at(3).addresses[1:3])
