"""Points fade, bans expire, and memory is bounded."""

from __future__ import annotations

import pytest

from p2p.limits import Limits
from p2p.scores import OPERATOR, REASONS_MAX, REMEMBERED_MAX, BadScores, Scores

NODE, OTHER = b"a" * 32, b"b" * 32


def test_points_add_up_to_a_ban_with_the_last_reason() -> None:
    scores = Scores(Limits())
    assert not scores.penalise(NODE, "first", 60, 0.0)
    assert scores.penalise(NODE, "second", 60, 1.0)
    assert scores.is_banned(NODE, 2.0)
    assert not scores.is_banned(OTHER, 2.0)
    assert [(ban.node_id, ban.until, ban.reason) for ban in scores.bans(2.0)] == [(NODE, 601.0, "second")]


def test_points_fade_by_half_in_the_half_life() -> None:
    scores = Scores(Limits())
    scores.penalise(NODE, "x", 80, 0.0)
    assert scores.points(NODE, 600.0) == pytest.approx(40)
    assert not scores.penalise(NODE, "x", 59, 600.0)


def test_each_ban_is_twice_as_long_up_to_a_day() -> None:
    scores = Scores(Limits())
    lengths = []
    now = 0.0
    for _ in range(12):
        assert scores.penalise(NODE, "x", 100, now)
        (ban,) = scores.bans(now)
        lengths.append(ban.until - now)
        now = ban.until
        assert not scores.is_banned(NODE, now)
    assert lengths[:3] == [600, 1_200, 2_400]
    assert lengths[-1] == 86_400


def test_a_ban_can_be_lifted() -> None:
    scores = Scores(Limits())
    scores.penalise(NODE, "x", 100, 0.0)
    scores.forgive(NODE)
    assert scores.bans(0.0) == []
    assert scores.points(NODE, 0.0) == 0


def test_the_longest_unheard_of_is_forgotten_first() -> None:
    scores = Scores(Limits())
    for number in range(REMEMBERED_MAX + 1):
        scores.penalise(number.to_bytes(32, "big"), "x", 10, float(number))
    assert scores.points(bytes(32), 0.0) == 0
    assert scores.points((1).to_bytes(32, "big"), 1.0) == 10


def test_the_reasons_of_points_are_remembered_within_bounds() -> None:
    scores = Scores(Limits())
    scores.penalise(NODE, "sync", 10, 0.0)
    scores.penalise(NODE, "frame", 5, 1.0)
    scores.penalise(NODE, "sync", 10, 2.0)
    assert scores.reasons(NODE) == {"sync": 20, "frame": 5}
    assert scores.reasons(OTHER) == {}
    for number in range(50):
        scores.penalise(NODE, f"{number}" * 200, 1, 3.0)
    assert len(scores.reasons(NODE)) == REASONS_MAX


def test_the_operator_bans_whom_and_as_long_as_he_likes() -> None:
    scores = Scores(Limits())
    scores.ban(NODE, 5.0, 10.0)
    assert [(ban.until, ban.reason) for ban in scores.bans(10.0)] == [(15.0, OPERATOR)]
    assert not scores.is_banned(NODE, 15.0)
    assert scores.forgive(NODE)
    assert not scores.forgive(NODE)


WALL_MS = 1_800_000_000_000


def test_bans_points_and_their_history_outlive_a_restart() -> None:
    scores = Scores(Limits())
    scores.penalise(NODE, "frame", 100, 1_000.0)
    scores.penalise(OTHER, "sync", 80, 1_000.0)
    saved = scores.to_save(1_100.0, WALL_MS)
    assert not scores.changed
    again = Scores(Limits())
    again.load(saved, 5.0, WALL_MS + 200_000)
    (ban,) = again.bans(5.0)
    assert (ban.node_id, ban.reason) == (NODE, "frame")
    assert ban.until == pytest.approx(5 + 600 - 100 - 200)
    assert again.points(OTHER, 5.0) == pytest.approx(80 * 0.5 ** (300 / 600))
    assert again.reasons(OTHER) == {"sync": 80}
    again.penalise(NODE, "frame", 100, 1_000.0)
    assert again.bans(1_000.0)[0].until == pytest.approx(1_000 + 1_200), "the second ban is twice as long"


def test_a_clock_that_was_set_back_makes_no_ban_eternal() -> None:
    scores = Scores(Limits())
    scores.penalise(NODE, "frame", 100, 0.0)
    again = Scores(Limits())
    again.load(scores.to_save(0.0, WALL_MS), 0.0, 0)
    assert again.bans(0.0)[0].until <= 366 * 86_400


def test_damaged_scores_are_named_as_such() -> None:
    with pytest.raises(BadScores, match="damaged"):
        Scores(Limits()).load(b"junk", 0.0, WALL_MS)
