"""No vote on parameters can stop the chain; timeouts grow with the round; what is timely."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.params import (
    CITY,
    COMMIT_ENTRY_BYTES,
    DAY_MS,
    HOUR_MS,
    ROUNDS_MAX,
    TINY,
    VALIDATORS_MAX,
    BadParams,
    Params,
)
from consensus.shape import from_bytes, to_bytes


@pytest.mark.parametrize("preset", [CITY, TINY])
def test_presets_are_sound(preset: Params) -> None:
    """And survive the wire."""
    preset.check()
    assert from_bytes(Params, to_bytes(preset)) == preset


@pytest.mark.parametrize("name", [field.name for field in fields(Params)])
@pytest.mark.parametrize("value", [0, 2**53, -1])
def test_every_parameter_is_positive_and_fits_javascript(name: str, value: int) -> None:
    """The text names the field."""
    with pytest.raises(BadParams, match=name):
        replace(CITY, **{name: value}).check()


FLOOR = CITY.transaction_bytes_max + VALIDATORS_MAX * COMMIT_ENTRY_BYTES + 4096


@pytest.mark.parametrize(
    ("name", "allowed", "refused"),
    [
        ("precision_ms", 100, 99),
        ("precision_ms", 60_000, 60_001),
        ("evidence_age_blocks", 1_000_000, 1_000_001),
        ("snapshot_interval_blocks", 10_000, 10_001),
        ("block_weight_max", 37_500_000, 37_500_001),
        ("block_delay_ms", CITY.heartbeat_ms, CITY.heartbeat_ms + 1),
        ("heartbeat_ms", CITY.trusting_period_ms // 20, CITY.trusting_period_ms // 20 + 1),
        ("trusting_period_ms", 14 * DAY_MS - 1, 14 * DAY_MS),
        ("evidence_age_ms", 366 * DAY_MS, 366 * DAY_MS + 1),
        ("transaction_weight_max", CITY.block_weight_max // 2, CITY.block_weight_max // 2 + 1),
        ("block_bytes_max", FLOOR, FLOOR - 1),
        ("block_bytes_max", 2**24, 2**24 + 1),
        ("transaction_bytes_max", 1024, 1023),
        ("propose_timeout_ms", DAY_MS, DAY_MS + 1),
        ("prevote_timeout_ms", DAY_MS, DAY_MS + 1),
        ("precommit_timeout_ms", DAY_MS, DAY_MS + 1),
        ("timeout_step_ms", HOUR_MS, HOUR_MS + 1),
    ],
)
def test_bounds_hold_to_the_unit(name: str, allowed: int, refused: int) -> None:
    """What is allowed is accepted; one more is refused, naming the field, and leaves the old parameters alone."""
    assert getattr(CITY.replaced(**{name: allowed}), name) == allowed
    with pytest.raises(BadParams, match=name):
        CITY.replaced(**{name: refused})


def test_a_transaction_may_have_a_mebibyte_and_a_block_twenty_thousand() -> None:
    largest = CITY.replaced(block_bytes_max=2**24, transaction_bytes_max=2**20, block_transactions_max=20_000)
    for name in ("transaction_bytes_max", "block_transactions_max"):
        with pytest.raises(BadParams, match=name):
            largest.replaced(**{name: getattr(largest, name) + 1})


def test_a_full_block_is_executed_in_a_quarter_of_the_propose_timeout() -> None:
    """Whichever of the two is changed: else blocks full of paid work would hold the chain up for many rounds each."""
    CITY.replaced(propose_timeout_ms=1_600)
    with pytest.raises(BadParams, match="block_weight_max"):
        CITY.replaced(propose_timeout_ms=1_599)
    CITY.replaced(propose_timeout_ms=6_000).replaced(block_weight_max=75_000_000)


def test_a_heartbeat_beyond_a_day_is_refused() -> None:
    """Even where the trusting period would allow it."""
    wide = {"evidence_age_ms": 366 * DAY_MS, "trusting_period_ms": 100 * DAY_MS}
    CITY.replaced(heartbeat_ms=DAY_MS, **wide)
    with pytest.raises(BadParams, match="heartbeat_ms must not exceed a day"):
        CITY.replaced(heartbeat_ms=DAY_MS + 1, **wide)


def test_timeouts_grow_without_limit() -> None:
    """By the same step, so that at last they exceed any delay of the network (L57, L61, L65)."""
    assert (TINY.propose_ms(0), TINY.prevote_ms(0), TINY.precommit_ms(0)) == (3_000, 1_000, 1_000)
    assert (TINY.propose_ms(3), TINY.prevote_ms(3), TINY.precommit_ms(3)) == (4_500, 2_500, 2_500)
    assert TINY.propose_ms(ROUNDS_MAX) == 3_000 + ROUNDS_MAX * 500


@given(st.integers(0, 2**50), st.integers(0, 1_000))
def test_a_proposal_is_timely_within_precision_and_delay(time_ms: int, round_: int) -> None:
    """To the millisecond on either side; the delay grows with the round."""
    earliest = time_ms - CITY.precision_ms
    latest = time_ms + CITY.message_delay_ms + round_ * CITY.timeout_step_ms + CITY.precision_ms
    for received, timely in ((earliest - 1, False), (earliest, True), (latest, True), (latest + 1, False)):
        assert CITY.timely(block_time_ms=time_ms, received_ms=received, round_=round_) is timely
