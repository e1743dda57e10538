"""Every limit and timeout that all nodes must agree on, in one place, with units. Changed only by governance."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from consensus.shape import U63

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS

ROUNDS_MAX = 2**31 - 1
VALIDATORS_MAX = 256
TRANSACTIONS_MAX = 20_000
"""A block's; what messages between nodes have room for."""
WEIGHT_PER_MS = 50_000
"""What the reference machine executes in a millisecond (a unit of weight is 20 ns)."""
PRECISION_MS_MAX = 60_000
"""A proposer can move the chain's time so far ahead of all clocks, and the next height waits for them."""
EVIDENCE_AGE_BLOCKS_MAX = 1_000_000
"""Former validator sets are kept for as long as evidence can rest on them."""
SNAPSHOT_INTERVAL_BLOCKS_MAX = 10_000
"""The state of the last two snapshots is kept, whatever else is pruned; and a newcomer may have to go back so far."""
COMMIT_ENTRY_BYTES = 70
"""Encoded size of one signed entry of a commit, rounded up."""


class BadParams(ValueError):
    """The combination could stop the chain or break evidence; the text names the field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """The engine's parameters, in force from the height after the one that decided them."""

    block_bytes_max: U63
    """Header, commit, evidence, ids and transaction bodies together."""
    block_weight_max: U63
    """Weight of all executed work; a full block takes under a quarter of the propose timeout."""
    block_transactions_max: U63
    transaction_bytes_max: U63
    transaction_weight_max: U63
    block_delay_ms: U63
    """Block time is at least the parent's plus this."""
    heartbeat_ms: U63
    """An idle chain makes one block in this time."""
    precision_ms: U63
    """How far apart correct clocks may be (PBTS)."""
    message_delay_ms: U63
    """How long a proposal may travel in round 0 (PBTS); grows with the round."""
    propose_timeout_ms: U63
    prevote_timeout_ms: U63
    precommit_timeout_ms: U63
    timeout_step_ms: U63
    """Added to each timeout for each round after 0, without limit."""
    evidence_age_ms: U63
    evidence_age_blocks: U63
    """Evidence expires when it is too old in time and in blocks."""
    trusting_period_ms: U63
    """How long a light client trusts a header that it verified."""
    snapshot_interval_blocks: U63
    """The state at each multiple of it can be fetched by newcomers, until two later ones can."""

    def propose_ms(self, round_: int) -> int:
        """Timeout of the propose step in *round_*, ms (L57)."""
        return self.propose_timeout_ms + round_ * self.timeout_step_ms

    def prevote_ms(self, round_: int) -> int:
        """Timeout of the prevote step in *round_*, ms (L61)."""
        return self.prevote_timeout_ms + round_ * self.timeout_step_ms

    def precommit_ms(self, round_: int) -> int:
        """Timeout of the precommit step in *round_*, ms (L65)."""
        return self.precommit_timeout_ms + round_ * self.timeout_step_ms

    def timely(self, *, block_time_ms: int, received_ms: int, round_: int) -> bool:
        """Whether a proposal of *block_time_ms* that came at *received_ms* (own clock) is timely (PBTS)."""
        late = self.message_delay_ms + round_ * self.timeout_step_ms + self.precision_ms
        return block_time_ms - self.precision_ms <= received_ms <= block_time_ms + late

    def replaced(self, **changes: int) -> Params:
        """These parameters with *changes*; raises BadParams where the result is refused."""
        params = dataclasses.replace(self, **changes)
        params.check()
        return params

    def check(self) -> None:
        """Raises BadParams unless a chain with these parameters can always go on."""
        for field in dataclasses.fields(self):
            if not 1 <= getattr(self, field.name) <= 2**53 - 1:
                raise BadParams(f"{field.name} must be in 1…2^53-1")
        rules = (
            (self.precision_ms >= 100, "precision_ms must be at least 100"),
            (self.precision_ms <= PRECISION_MS_MAX, "precision_ms must not exceed a minute"),
            (self.block_delay_ms <= self.heartbeat_ms, "block_delay_ms must not exceed heartbeat_ms"),
            (self.heartbeat_ms <= DAY_MS, "heartbeat_ms must not exceed a day"),
            (self.heartbeat_ms * 20 <= self.trusting_period_ms, "heartbeat_ms must not exceed trusting_period_ms / 20"),
            (
                self.trusting_period_ms * 3 < self.evidence_age_ms * 2,
                "trusting_period_ms must be less than two thirds of evidence_age_ms",
            ),
            (
                self.transaction_weight_max <= self.block_weight_max // 2,
                "transaction_weight_max must fit in half a block",
            ),
            (
                self.block_bytes_max >= self.transaction_bytes_max + VALIDATORS_MAX * COMMIT_ENTRY_BYTES + 4096,
                "block_bytes_max must hold a full commit, one piece of evidence and the largest transaction",
            ),
            (
                4 * self.block_weight_max <= self.propose_timeout_ms * WEIGHT_PER_MS,
                "block_weight_max must be executed in a quarter of propose_timeout_ms (50,000 a millisecond)",
            ),
            (self.evidence_age_blocks <= EVIDENCE_AGE_BLOCKS_MAX, "evidence_age_blocks must not exceed 1,000,000"),
            (self.evidence_age_ms <= 366 * DAY_MS, "evidence_age_ms must not exceed 366 days"),
            (self.block_bytes_max <= 2**24, "block_bytes_max must not exceed 16 MiB"),
            (self.transaction_bytes_max >= 1024, "transaction_bytes_max must be at least 1024"),
            (self.transaction_bytes_max <= 2**20, "transaction_bytes_max must not exceed 1 MiB"),
            (self.block_transactions_max <= TRANSACTIONS_MAX, "block_transactions_max must not exceed 20,000"),
            (self.propose_timeout_ms <= DAY_MS, "propose_timeout_ms must not exceed a day"),
            (self.prevote_timeout_ms <= DAY_MS, "prevote_timeout_ms must not exceed a day"),
            (self.precommit_timeout_ms <= DAY_MS, "precommit_timeout_ms must not exceed a day"),
            (self.timeout_step_ms <= HOUR_MS, "timeout_step_ms must not exceed an hour"),
            (
                self.snapshot_interval_blocks <= SNAPSHOT_INTERVAL_BLOCKS_MAX,
                "snapshot_interval_blocks must not exceed 10,000",
            ),
        )
        for holds, text in rules:
            if not holds:
                raise BadParams(text)


CITY = Params(
    block_bytes_max=4 * 2**20,
    block_weight_max=20_000_000,
    block_transactions_max=5_000,
    transaction_bytes_max=64 * 2**10,
    transaction_weight_max=4_000_000,
    block_delay_ms=100,
    heartbeat_ms=600_000,
    precision_ms=500,
    message_delay_ms=15_000,
    propose_timeout_ms=3_000,
    prevote_timeout_ms=1_000,
    precommit_timeout_ms=1_000,
    timeout_step_ms=500,
    evidence_age_ms=21 * DAY_MS,
    evidence_age_blocks=100,
    trusting_period_ms=13 * DAY_MS,
    snapshot_interval_blocks=1_000,
)
"""For a town: quiet, patient, the ballots of a real community."""

TINY = dataclasses.replace(CITY, heartbeat_ms=1_000, evidence_age_ms=2 * DAY_MS, trusting_period_ms=DAY_MS)
"""For devnets and tests: the same limits, a heartbeat of a second, short periods."""
