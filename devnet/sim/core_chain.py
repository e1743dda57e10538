"""The chain of a core world: blocks that are little more than names, and the real rules for sets and priorities."""

from __future__ import annotations

import dataclasses
import random
from dataclasses import dataclass

from consensus.application import BlockInfo, BlockOutcome, Result
from consensus.chain import ChainState, next_state
from consensus.params import TINY
from consensus.signing import sha256
from consensus.validators import Update, ValidatorSet

CHAIN_ID = "world"
GENESIS_TIME_MS = 1_000_000
PARAMS = dataclasses.replace(
    TINY,
    block_weight_max=3_000_000,
    transaction_weight_max=1_000_000,
    block_delay_ms=50,
    heartbeat_ms=800,
    precision_ms=100,
    message_delay_ms=800,
    propose_timeout_ms=300,
    prevote_timeout_ms=100,
    precommit_timeout_ms=100,
    timeout_step_ms=50,
)
"""Short, so that rounds fail often; the faults of a world last about as long."""
POWER_MAX = 10
NOTHING = Result("", 0, 0, ())


@dataclass(frozen=True, slots=True)
class SimBlock:
    """A block of a core world."""

    id: bytes
    """32 bytes."""
    name: str
    """For traces."""
    height: int
    parent_id: bytes
    time_ms: int
    proposer: bytes
    updates: tuple[Update, ...]
    """Act at the next height."""
    defect: str | None
    """Why it is invalid whatever its parent; None: it is not."""


def genesis(powers: dict[bytes, int]) -> ChainState:
    """The state before block 1, of validators by public key."""
    return ChainState.genesis(
        chain_id=CHAIN_ID,
        genesis_hash=sha256(b"genesis of a world"),
        time_ms=GENESIS_TIME_MS,
        validators=[Update(key, power) for key, power in powers.items()],
        params=PARAMS,
    )


def earliest_ms(parent: ChainState) -> int:
    """The least time of the block after *parent*."""
    return parent.time_ms + (parent.params.block_delay_ms if parent.height else 0)


def is_valid(block: SimBlock, parent: ChainState) -> bool:
    """A function of the block and its parent state alone."""
    follows = block.height == parent.height + 1 and block.parent_id == parent.block_id
    return follows and block.defect is None and block.time_ms >= earliest_ms(parent)


def state_after(parent: ChainState, block: SimBlock) -> ChainState:
    """What the next height begins with, by the engine's own rules."""
    info = BlockInfo(
        chain_id=CHAIN_ID,
        height=block.height,
        time_ms=block.time_ms,
        parent_time_ms=parent.time_ms,
        proposer=block.proposer,
        params=parent.params,
        validators=parent.validators,
    )
    following = next_state(parent, info, BlockOutcome(result=NOTHING, validator_updates=block.updates))
    return dataclasses.replace(following, block_id=block.id)


def drawn_updates(
    dice: random.Random, validators: ValidatorSet, candidates: list[bytes], liars: frozenset[bytes]
) -> tuple[Update, ...]:
    """A change of the set that an application would make: mostly one validator comes, goes, or changes its power.

    *liars* (public keys) stay below 1/3 of the power, and somebody honest stays; else nothing changes. *candidates* are
    keys whose nodes run.
    """
    powers = {member.public_key: member.power for member in validators.validators}
    keys = sorted({*powers, *candidates})
    updates: dict[bytes, int] = {}
    for _ in range(1 + int(dice.random() * 1.3)):
        key = keys[int(dice.random() * len(keys))]
        updates[key] = 0 if key in powers and dice.random() < 0.4 else 1 + int(dice.random() * POWER_MAX)
    after = {key: power for key, power in {**powers, **updates}.items() if power}
    moved = sum(abs(after.get(key, 0) - powers.get(key, 0)) for key in updates)
    spread = len(updates) > 1 and 3 * moved > validators.total_power
    lying = sum(power for key, power in after.items() if key in liars)
    if spread or not after or 3 * lying >= sum(after.values()):
        return ()
    return tuple(Update(key, power) for key, power in updates.items() if powers.get(key, 0) != power)
