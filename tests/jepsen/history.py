"""What clients did and saw."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """What an operation asks of a register, or of the set."""

    READ = "read"
    WRITE = "write"
    CAS = "cas"
    ADD = "add"


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation on one key. Times are seconds of one clock."""

    kind: Kind
    key: int
    invoked: float
    completed: float = math.inf
    """When the client had its answer; infinite where it never came, and the operation is known to have taken effect."""
    value: int = 0
    """Written or added; for a read, what it saw (0: nothing had been written)."""
    expected: int = 0
    """What a cas compares with."""
    swapped: bool = True
    """Whether a cas found what it expected."""

    def after(self, value: int) -> int | None:
        """The register's value after this operation, if it held *value* before; None if the two don't fit."""
        match self.kind:
            case Kind.READ:
                return value if value == self.value else None
            case Kind.CAS if self.swapped:
                return self.value if value == self.expected else None
            case Kind.CAS:
                return value if value != self.expected else None
            case _:
                return self.value
