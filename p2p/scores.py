"""Points for broken rules, and bans that expire."""

from __future__ import annotations

from dataclasses import dataclass

from p2p.limits import Limits

REMEMBERED_MAX = 4_096
"""Nodes with points or a ban that are remembered; the longest unheard of is forgotten first."""


@dataclass(frozen=True, slots=True)
class Ban:
    """A node that is not welcome until *until* (seconds on trio's clock), and why."""

    node_id: bytes
    until: float
    reason: str


@dataclass(slots=True)
class _Record:
    points: float = 0.0
    at: float = 0.0
    bans: int = 0
    banned_until: float = 0.0
    reason: str = ""


class Scores:
    """Counts against node ids. Not for hosts: neighbours behind one router share theirs."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._records: dict[bytes, _Record] = {}

    def penalise(self, node_id: bytes, reason: str, points: int, now: float) -> bool:
        """*points* are added to what is left of earlier ones; whether the node is banned now because of them."""
        limits = self._limits
        record = self._records.pop(node_id, None) or _Record(at=now)
        self._records[node_id] = record  # at the end: the latest heard of
        if len(self._records) > REMEMBERED_MAX:
            del self._records[next(iter(self._records))]
        faded: float = 0.5 ** ((now - record.at) / limits.points_half_life_seconds)
        record.points = record.points * faded + points
        record.at = now
        record.reason = reason
        if record.points < limits.ban_points:
            return False
        record.banned_until = now + min(limits.ban_seconds * 2.0**record.bans, limits.ban_max_seconds)
        record.bans = min(record.bans + 1, 32)
        record.points = 0.0
        return True

    def points(self, node_id: bytes, now: float) -> float:
        """What is left of the node's points."""
        record = self._records.get(node_id)
        if record is None:
            return 0.0
        left: float = record.points * 0.5 ** ((now - record.at) / self._limits.points_half_life_seconds)
        return left

    def is_banned(self, node_id: bytes, now: float) -> bool:
        """Whether the node is not welcome now."""
        record = self._records.get(node_id)
        return record is not None and now < record.banned_until

    def bans(self, now: float) -> list[Ban]:
        """All bans in force, the longest first."""
        bans = [Ban(node_id, r.banned_until, r.reason) for node_id, r in self._records.items() if now < r.banned_until]
        return sorted(bans, key=lambda ban: (-ban.until, ban.node_id))

    def forgive(self, node_id: bytes) -> None:
        """The node has no points and no ban."""
        self._records.pop(node_id, None)
