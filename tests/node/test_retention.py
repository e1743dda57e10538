"""How much of the past is kept: as configured, never less than evidence and readers need, and never half a height."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.params import CITY, DAY_MS
from node.config import BadConfig, Config
from node.retention import BLOCKS, EVENTS, INDEX, PARTS, RESULTS, STATES, STEPS_MAX, Keep, Latest, Pins, Retention

KEEPS = st.one_of(
    st.just(Keep()),
    st.builds(Keep, days=st.integers(1, 60)),
    st.builds(Keep, heights=st.integers(1, 300)),
)
PARAMS = CITY.replaced(evidence_age_ms=5 * DAY_MS, trusting_period_ms=3 * DAY_MS, evidence_age_blocks=20)


def _all_of(part: str, text: str) -> Retention:
    return Retention.of(**{each: text if each == part else "all" for each in PARTS})


@pytest.mark.parametrize(
    ("text", "keep"), [("all", Keep()), ("400 days", Keep(days=400)), ("1 heights", Keep(heights=1))]
)
def test_what_can_be_said(text: str, keep: Keep) -> None:
    assert Keep.parse(text) == keep


@pytest.mark.parametrize("text", ["", "0 days", "-1 days", "5", "5 weeks", "5  days", "all days", "9999999999 days"])
def test_what_can_not_be_said(text: str) -> None:
    with pytest.raises(ValueError, match="such as 400 days"):
        Keep.parse(text)


@given(st.tuples(*[KEEPS] * 5), st.integers(1, 400), st.integers(1, DAY_MS), st.none() | st.integers(0, 400))
def test_what_is_promised_stays(keeps: tuple[Keep, ...], height: int, pace_ms: int, pinned: int | None) -> None:
    """Whatever is configured: at the end, each height below a horizon is too old for its part or for its blocks."""
    retention = Retention(*keeps)
    latest = Latest(height, height * pace_ms, PARAMS)
    present = {**dict.fromkeys(PARTS, 1), STATES: 0}
    for _ in range(height // STEPS_MAX + 2):
        following = retention.horizons(present, latest, lambda each: each * pace_ms, pinned)
        assert all(following[part] >= present[part] for part in PARTS), "horizons only rise"
        present = following
    end = height if pinned is None else min(height, pinned)
    assert all(horizon <= max(end, 1) for horizon in present.values()), "the latest and what is pinned stay"
    assert present[BLOCKS] <= min(present[RESULTS], present[STATES] or 1), "nothing outlives its block"
    assert present[RESULTS] <= min(present[EVENTS], present[INDEX]), "events and index lead to results"
    last = present[BLOCKS] - 1
    if last > 0:
        is_old = last * pace_ms + PARAMS.evidence_age_ms < latest.time_ms
        assert is_old, "evidence may rest on it"
        assert last + PARAMS.evidence_age_blocks < height, "evidence may rest on it"
    own_last = present[STATES] - 1
    if own_last > last:
        assert retention.states.lets_go(own_last, own_last * pace_ms, latest), "it was to be kept"


def test_a_horizon_moves_a_bounded_step_at_a_time() -> None:
    latest = Latest(10_000, 10_000 * DAY_MS, PARAMS)
    found = _all_of(BLOCKS, "10 heights").horizons(
        {**dict.fromkeys(PARTS, 1), STATES: 0}, latest, lambda each: each * DAY_MS, None
    )
    assert found == dict.fromkeys(PARTS, 1 + STEPS_MAX)


def test_the_lowest_pin_counts_until_it_is_let_go() -> None:
    pins = Pins()
    assert pins.lowest is None
    seven, five = pins.hold(7), pins.hold(5)
    lowest = [pins.lowest]
    for pin in (five, five, seven):
        pin.let_go()
        lowest.append(pins.lowest)
    assert lowest == [5, 7, 7, None]


def test_the_defaults_bound_the_disk() -> None:
    retention = Config.defaults().store.retention()
    assert all(getattr(retention, part) != Keep() for part in PARTS)


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ('keep_states = "a week"', 2, "store.keep_states: “a week” is not all"),
        ('keep_results = "all"', 2, "store.keep_results: keep_results is all, but keep_blocks is 400 days"),
        ('keep_blocks = "30 days"', 2, "store.keep_blocks: keep_results is 400 days, but keep_blocks is 30 days"),
        ('keep_results = "9 days"', 2, "store.keep_results: keep_events is 400 days"),
        ('keep_blocks = "5 heights"\nkeep_states = "6 heights"', 3, "keep_states is 6 heights"),
        ("keep_bodies = 1", 2, "unknown key; known here: map_bytes, keep_blocks"),
    ],
)
def test_what_can_not_be_kept_is_a_mistake_with_its_line(text: str, line: int, what: str) -> None:
    with pytest.raises(BadConfig, match=f"line {line}: .*") as error:
        Config.parse(f"[store]\n{text}")
    assert what in str(error.value)


def test_days_beside_heights_are_not_compared() -> None:
    assert Config.parse('[store]\nkeep_blocks = "9 heights"').store.keep_results == "400 days"
