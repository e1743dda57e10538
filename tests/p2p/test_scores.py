"""Points fade, bans expire, and memory is bounded."""

from __future__ import annotations

import pytest

from p2p.limits import Limits
from p2p.scores import REMEMBERED_MAX, Scores

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
