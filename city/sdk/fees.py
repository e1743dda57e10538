"""Who pays for a transaction: the face of the one module that keeps the purse, as the application sees it."""

from __future__ import annotations

from abc import ABC, abstractmethod


class FeePolicy(ABC):
    """A module with this face says what a fee buys, takes it, and pays for newcomers. A town has at most one.

    These methods run outside of the transaction's own weight, and raise nothing but `Inadmissible`.
    """

    @abstractmethod
    def weight_bought(self, *, sender: bytes, payer: bytes, fee: int, weight_max: int, time_ms: int) -> int:
        """The weight that the transaction may use, at most *weight_max*. Inadmissible if *fee* can't be paid."""

    @abstractmethod
    def charge(self, *, payer: bytes, fee: int) -> None:
        """*payer* has paid *fee*; `weight_bought` has just said that it can."""

    @abstractmethod
    def spend_quota(self, *, sender: bytes, weight: int, time_ms: int) -> None:
        """A transaction without a fee has used *weight*, whatever came of it."""
