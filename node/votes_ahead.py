"""A bound on votes of rounds to come: a liar could sign them for ever, and each would be verified and logged."""

from __future__ import annotations

from dataclasses import dataclass

BURST = 64
"""Votes at once; whoever was away hears of a few rounds and both kinds of votes."""
PER_S = 8.0
"""In the long run; a correct validator's rounds last longer."""


@dataclass(slots=True)
class _Allowance:
    tokens: float
    at: float


class VotesAhead:
    """What each validator has left. What is refused comes again, since our status shows that we lack it."""

    def __init__(self) -> None:
        self._allowances: dict[bytes, _Allowance] = {}

    def take(self, validator: bytes, now: float) -> bool:
        """Whether one more vote of *validator* (address) may be looked at, at *now* (s); it is counted then."""
        allowance = self._allowances.setdefault(validator, _Allowance(BURST, now))
        allowance.tokens = min(BURST, allowance.tokens + (now - allowance.at) * PER_S)
        allowance.at = now
        if allowance.tokens < 1:
            return False
        allowance.tokens -= 1
        return True

    def clear(self) -> None:
        """All have everything left."""
        self._allowances.clear()
