"""What work costs. One unit is about 20 ns of the reference machine (2 cores, Python 3.11), rounded up and safe.

A transfer with one signature weighs about 7,000. Weights are part of the results, hence of what nodes agree on: whoever
changes one changes the protocol.
"""

from __future__ import annotations

from city.sdk.refusal import OUT_OF_WEIGHT, refused

TRANSACTION = 1_000
"""Admission, nonce, fee, the result: for each transaction."""
BYTE = 3
"""For each byte of a transaction: gossip, hashing, decoding, disk."""
SIGNATURE = 3_000
"""For each signature: its verification, in every node."""
MESSAGE = 300
READ = 100
"""A row looked at, by its key or in a scan."""
WRITE = 500
"""A row written or removed: its share of the state tree."""
WRITTEN_BYTE = 3
EVENT = 200
EVENT_BYTE = 3
CALL = 50
"""A call into another module."""
SCHEDULE = 3_000
"""A piece of work for later: its row, and the start of its execution."""

QUERY_MAX = 10_000_000
"""The most that one query may weigh."""


class Meter:
    """Weight used so far, and how much may be."""

    __slots__ = ("limit", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    def spend(self, weight: int) -> None:
        """*weight* is used; refused as out_of_weight beyond the limit."""
        self.used += weight
        if self.used > self.limit:
            raise refused(OUT_OF_WEIGHT)
