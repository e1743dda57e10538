"""The validator set: who votes with what power, and whose turn it is to propose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from consensus.address import key_address
from consensus.params import VALIDATORS_MAX
from consensus.shape import I64, Count, PublicKey, Range

POWER_TOTAL_MAX = (2**63 - 1) // 8
Power = Annotated[int, Range(1, POWER_TOTAL_MAX)]


class BadUpdate(ValueError):
    """The validator updates of a block can't be applied; the text says why. The engine's only refusals (DESIGN §4)."""


@dataclass(frozen=True, slots=True)
class Update:
    """A validator's new power; 0 removes it."""

    public_key: PublicKey
    power: Annotated[int, Range(0, POWER_TOTAL_MAX)]


@dataclass(frozen=True, slots=True)
class Validator:
    """One member of a set."""

    public_key: PublicKey
    power: Power
    priority: I64 = 0

    @property
    def address(self) -> bytes:
        """20 bytes; the address of the key."""
        return key_address(self.public_key)


@dataclass(frozen=True)
class ValidatorSet:
    """Validators by power descending, then address. The first turn is that of the highest priority.

    Priorities follow the weighted round-robin of CometBFT (ENGINE §3): they are part of the state, not of `hash`.
    """

    validators: Annotated[tuple[Validator, ...], Count(VALIDATORS_MAX)]
