"""The validator set: who votes with what power, and whose turn it is to propose.

The rotation is CometBFT's weighted round-robin (``types/validator_set.go``): every turn each validator gains its power,
and the one with the highest priority proposes and pays the total. A set here holds the priorities *before* its first
turn, so that the set alone says who proposes; CometBFT stores them after the turn, beside the winner.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated

from consensus import merkle
from consensus.address import key_address
from consensus.codec import encode
from consensus.params import VALIDATORS_MAX
from consensus.shape import I64, Count, PublicKey, Range

POWER_TOTAL_MAX = (2**63 - 1) // 8
PRIORITY_WINDOW_FACTOR = 2
"""Priorities lie at most this many times the total power apart; a wider spread is scaled down."""

Power = Annotated[int, Range(1, POWER_TOTAL_MAX)]

_PRIORITY_LOW, _PRIORITY_HIGH = -(2**63), 2**63 - 1


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
    """Validators by power descending, then address. The first turn is that of the highest priority after a step.

    Priorities follow the weighted round-robin of CometBFT (ENGINE §3): they are part of the state, not of `hash`.
    """

    validators: Annotated[tuple[Validator, ...], Count(VALIDATORS_MAX)]

    @classmethod
    def of(cls, updates: Iterable[Update]) -> ValidatorSet:
        """The first set of a chain: exactly *updates*, all with equal priority. Raises BadUpdate."""
        validators = cls(()).updated(tuple(updates))
        if not validators.validators:
            raise BadUpdate("a chain can't begin without a validator")
        return validators

    @cached_property
    def total_power(self) -> int:
        """The sum of all powers."""
        return sum(validator.power for validator in self.validators)

    @cached_property
    def hash(self) -> bytes:
        """32 bytes: RFC 6962 over the canonical bytes of (public key, power), in set order."""
        return merkle.root([encode((validator.public_key, validator.power)) for validator in self.validators])

    @cached_property
    def addresses(self) -> tuple[bytes, ...]:
        """Every member's address (20 bytes), in set order."""
        return tuple(validator.address for validator in self.validators)

    @cached_property
    def _index(self) -> dict[bytes, int]:
        return {address: index for index, address in enumerate(self.addresses)}

    @cached_property
    def _turns(self) -> _Turns:
        return _Turns(self)

    def index_of(self, address: bytes) -> int | None:
        """The place in set order of the member with *address*, None for a stranger."""
        return self._index.get(address)

    def by_address(self, address: bytes) -> Validator | None:
        """The member with *address*, None for a stranger."""
        index = self._index.get(address)
        return None if index is None else self.validators[index]

    def has_two_thirds(self, power: int) -> bool:
        """Whether *power* is more than two thirds of the total: a quorum."""
        return 3 * power > 2 * self.total_power

    def has_one_third(self, power: int) -> bool:
        """Whether *power* is more than one third of the total: at least one correct validator is in it."""
        return 3 * power > self.total_power

    def proposer(self, round_: int) -> Validator:
        """Whose turn it is in *round_*, with its power as in this set: the winner of turn number *round_* + 1.

        Turns are kept once computed. The first call for a round costs one pass over the set for each new turn, so a
        round that a single stranger claims must be bounded by the caller first. The set must not be empty.
        """
        return self.validators[self._turns.winner(round_)]

    def advanced(self, times: int = 1) -> ValidatorSet:
        """This set after *times* turns: ``advanced(a).advanced(b)`` is ``advanced(a + b)``."""
        priorities = [validator.priority for validator in self.validators]
        powers = [validator.power for validator in self.validators]
        for _ in range(times):
            _turn(priorities, powers, self.addresses)
        return self._with_priorities(priorities)

    def updated(self, updates: Sequence[Update]) -> ValidatorSet:
        """This set with the powers of *updates*; a newcomer starts at -1.125 times the total power.

        That total counts updates before removals, so that leaving and coming back never resets a debt of turns.
        Raises BadUpdate for an empty result, a key that occurs twice, more power or members than allowed, and the
        removal of a stranger; nothing else is refused. No updates leave the set as it is.
        """
        if not updates:
            return self
        members = {validator.public_key: validator for validator in self.validators}
        if len({update.public_key for update in updates}) != len(updates):
            raise BadUpdate("a validator occurs twice in one block's updates")
        removed_power = 0
        for update in updates:
            if update.power == 0:
                if update.public_key not in members:
                    raise BadUpdate(f"{update.public_key.hex()} is no validator and can't be removed")
                removed_power += members.pop(update.public_key).power
        changed = {update.public_key: update.power for update in updates if update.power}
        kept_power = sum(member.power for key, member in members.items() if key not in changed)
        total = kept_power + sum(changed.values())
        if total > POWER_TOTAL_MAX:
            raise BadUpdate(f"the total power {total} exceeds {POWER_TOTAL_MAX}")
        before_removals = total + removed_power
        newcomer_priority = -(before_removals + (before_removals >> 3))
        for key, power in changed.items():
            member = members.get(key)
            members[key] = Validator(key, power, newcomer_priority if member is None else member.priority)
        if not members:
            raise BadUpdate("no validator would be left")
        if len(members) > VALIDATORS_MAX:
            raise BadUpdate(f"{len(members)} validators, at most {VALIDATORS_MAX} are allowed")
        ordered = sorted(members.values(), key=lambda member: (-member.power, member.address))
        priorities = [member.priority for member in ordered]
        _rescale(priorities, total)
        _centre(priorities)
        return ValidatorSet(tuple(ordered))._with_priorities(priorities)

    def _with_priorities(self, priorities: Sequence[int]) -> ValidatorSet:
        pairs = zip(self.validators, priorities, strict=True)
        return ValidatorSet(tuple([replace(validator, priority=priority) for validator, priority in pairs]))


class _Turns:
    """The winners of a set's turns, computed as far as they were asked for."""

    def __init__(self, validators: ValidatorSet) -> None:
        self._priorities = [validator.priority for validator in validators.validators]
        self._powers = [validator.power for validator in validators.validators]
        self._addresses = validators.addresses
        self._winners: list[int] = []

    def winner(self, round_: int) -> int:
        while len(self._winners) <= round_:
            self._winners.append(_turn(self._priorities, self._powers, self._addresses))
        return self._winners[round_]


def _turn(priorities: list[int], powers: Sequence[int], addresses: Sequence[bytes]) -> int:
    """One turn, in place; the index of the winner: highest priority, then lower address.

    CometBFT scales and centres once per call and steps several times only when it skips rounds; here every turn does
    all of it, so that the proposer of a round does not depend on the way that led to it.
    """
    total = sum(powers)
    _rescale(priorities, total)
    _centre(priorities)
    for index, power in enumerate(powers):
        priorities[index] = _clipped(priorities[index] + power)
    winner = min(range(len(powers)), key=lambda index: (-priorities[index], addresses[index]))
    priorities[winner] = _clipped(priorities[winner] - total)
    return winner


def _rescale(priorities: list[int], total_power: int) -> None:
    """Brings the spread of *priorities* within the window. Divides as Go does: toward zero; ``//`` would floor."""
    spread = max(priorities) - min(priorities)
    window = PRIORITY_WINDOW_FACTOR * total_power
    if spread > window:
        ratio = -(-spread // window)
        for index, priority in enumerate(priorities):
            priorities[index] = priority // ratio if priority >= 0 else -(-priority // ratio)


def _centre(priorities: list[int]) -> None:
    """Subtracts the average, rounded down as CometBFT's ``big.Int.Div`` rounds it (Euclidean, not toward zero)."""
    average = sum(priorities) // len(priorities)
    for index, priority in enumerate(priorities):
        priorities[index] = _clipped(priority - average)


def _clipped(priority: int) -> int:
    return max(_PRIORITY_LOW, min(_PRIORITY_HIGH, priority))
