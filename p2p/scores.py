"""Points for broken rules, with the reasons, and bans that expire; both outlive a restart."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from consensus.codec import BadMessage
from consensus.shape import U63, Count, Length, PublicKey, Range, from_bytes, to_bytes
from p2p.limits import Limits

REMEMBERED_MAX = 4_096
"""Nodes with points or a ban that are remembered; the longest unheard of is forgotten first."""
REASONS_MAX = 8
"""Different reasons that are remembered of one node."""
REASON_CHARACTERS_MAX = 80
FILE_BYTES_MAX = 2**21
BAN_SECONDS_MAX = 366 * 86_400
"""The longest ban that an operator can give."""
OPERATOR = "operator"
"""The reason of a ban that no rule of ours made."""


class BadScores(ValueError):
    """The saved bytes are no scores; they can be deleted without loss of more than bans."""


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
    reasons: dict[str, int] = field(default_factory=dict)
    """Points ever counted, by reason, the latest last."""


@dataclass(frozen=True, slots=True)
class _Saved:
    """One node in the file. Times are Unix milliseconds."""

    node_id: PublicKey
    points: U63
    at_ms: U63
    bans: Annotated[int, Range(0, 32)]
    banned_until_ms: U63
    reason: Annotated[str, Length(REASON_CHARACTERS_MAX)]


@dataclass(frozen=True, slots=True)
class _File:
    version: Annotated[int, Range(1, 1)]
    records: Annotated[tuple[_Saved, ...], Count(REMEMBERED_MAX)]


class Scores:
    """Counts against node ids. Not for hosts: neighbours behind one router share theirs."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._records: dict[bytes, _Record] = {}
        self.changed = False
        """Whether there is something to save since `to_save`."""
        self.bans_made = 0
        """Since the start, for metrics."""
        self.penalties = 0

    def penalise(self, node_id: bytes, reason: str, points: int, now: float) -> bool:
        """*points* are added to what is left of earlier ones; whether the node is banned now because of them."""
        record = self._latest(node_id, reason, points, now)
        if record.points < self._limits.ban_points:
            return False
        record.banned_until = now + min(self._limits.ban_seconds * 2.0**record.bans, self._limits.ban_max_seconds)
        record.bans = min(record.bans + 1, 32)
        record.points = 0.0
        self.bans_made += 1
        return True

    def ban(self, node_id: bytes, seconds: float, now: float) -> None:
        """The node is not welcome for *seconds*, because the operator says so."""
        self._latest(node_id, OPERATOR, 0, now).banned_until = now + seconds
        self.bans_made += 1

    def lift(self, node_id: bytes) -> None:
        """The node's ban, if it has one, is over; what led to it is remembered."""
        if node_id in self._records:
            self._records[node_id].banned_until = 0.0

    def points(self, node_id: bytes, now: float) -> float:
        """What is left of the node's points."""
        record = self._records.get(node_id)
        return 0.0 if record is None else self._faded(record, now)

    def reasons(self, node_id: bytes) -> dict[str, int]:
        """Points that were ever counted against the node (as far as it is remembered), by reason."""
        record = self._records.get(node_id)
        return {} if record is None else dict(record.reasons)

    def is_banned(self, node_id: bytes, now: float) -> bool:
        """Whether the node is not welcome now."""
        record = self._records.get(node_id)
        return record is not None and now < record.banned_until

    def bans(self, now: float) -> list[Ban]:
        """All bans in force, the longest first."""
        bans = [Ban(node_id, r.banned_until, r.reason) for node_id, r in self._records.items() if now < r.banned_until]
        return sorted(bans, key=lambda ban: (-ban.until, ban.node_id))

    def forgive(self, node_id: bytes) -> bool:
        """The node has no points and no ban; whether it had any."""
        self.changed = True
        return self._records.pop(node_id, None) is not None

    def to_save(self, now: float, now_ms: int) -> bytes:
        """What `load` takes after a restart; *now* and *now_ms* are the same moment on both clocks."""

        def wall_ms(at: float) -> int:
            return max(0, now_ms + round((at - now) * 1_000))

        records = [
            _Saved(node_id, round(r.points), wall_ms(r.at), r.bans, wall_ms(r.banned_until), r.reason)
            for node_id, r in self._records.items()
        ]
        self.changed = False
        return to_bytes(_File(1, tuple(records)))

    def load(self, saved: bytes, now: float, now_ms: int) -> None:
        """The scores are those of *saved*. Whatever the clock did meanwhile, no ban lasts longer than it could.

        Raises BadScores if *saved* is damaged.
        """
        try:
            file = from_bytes(_File, saved, bytes_max=FILE_BYTES_MAX)
        except BadMessage as error:
            raise BadScores(f"the saved scores are damaged ({error})") from error
        for one in file.records:
            self._records[one.node_id] = _Record(
                points=float(one.points),
                at=now - max(0, now_ms - one.at_ms) / 1_000,
                bans=one.bans,
                banned_until=now + min((one.banned_until_ms - now_ms) / 1_000, BAN_SECONDS_MAX),
                reason=one.reason,
                reasons={one.reason: one.points} if one.reason else {},
            )

    def _latest(self, node_id: bytes, reason: str, points: int, now: float) -> _Record:
        """The node's record with *points* more for *reason*; the latest heard of."""
        record = self._records.pop(node_id, None) or _Record(at=now)
        self._records[node_id] = record
        if len(self._records) > REMEMBERED_MAX:
            del self._records[next(iter(self._records))]
        record.points = self._faded(record, now) + points
        record.at = now
        record.reason = reason[:REASON_CHARACTERS_MAX]
        record.reasons[record.reason] = record.reasons.pop(record.reason, 0) + points
        if len(record.reasons) > REASONS_MAX:
            del record.reasons[next(iter(record.reasons))]
        self.penalties += 1
        self.changed = True
        return record

    def _faded(self, record: _Record, now: float) -> float:
        left: float = record.points * 0.5 ** ((now - record.at) / self._limits.points_half_life_seconds)
        return left
