"""Which inbound peer gives way to a newcomer when all places are taken.

As in Bitcoin Core (`src/node/eviction.cpp`): those are kept whom an attacker can't easily imitate, each for a reason of
its own; of the rest, half stay for their age, and the youngest of the most crowded network goes. So nobody fills the
places for good, and whoever fills them from few networks displaces himself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

from consensus.signing import sha256

KEPT_SHARE = 10
"""One in so many is kept for each reason: far network, each kind of usefulness; twice as many for short ways."""


class Candidate(NamedTuple):
    """An inbound peer without a right to stay."""

    node_id: bytes
    group: str
    """Its `network_group`."""
    connected_at: float
    """Seconds on trio's clock, as below."""
    round_trip_ms: float | None
    useful_at: Mapping[str, float]
    """Kind of service → when it last brought something new and true."""


def to_evict(candidates: Sequence[Candidate], *, secret: bytes) -> bytes | None:
    """The node id of who gives way; None if everybody deserves to stay. *secret*: so that networks can't be chosen."""
    few = max(1, len(candidates) // KEPT_SHARE)
    left = {candidate.node_id: candidate for candidate in sorted(candidates, key=lambda each: each.node_id)}

    def keep(ranked: Iterable[Candidate], count: int) -> None:
        for candidate in list(islice(ranked, count)):
            del left[candidate.node_id]

    keep(_eldest_of_groups(left.values(), secret), few)
    near = [candidate for candidate in left.values() if candidate.round_trip_ms is not None]
    keep(sorted(near, key=lambda candidate: candidate.round_trip_ms or 0.0), 2 * few)
    for kind in sorted({kind for candidate in candidates for kind in candidate.useful_at}):
        useful = [candidate for candidate in left.values() if kind in candidate.useful_at]
        keep(sorted(useful, key=lambda candidate, kind=kind: -candidate.useful_at[kind]), few)  # type: ignore[misc]
    keep(sorted(left.values(), key=lambda candidate: candidate.connected_at), len(left) // 2)
    if not left:
        return None
    crowd = Counter(candidate.group for candidate in left.values())
    return max(left.values(), key=lambda each: (crowd[each.group], each.connected_at, each.node_id)).node_id


def _eldest_of_groups(candidates: Iterable[Candidate], secret: bytes) -> list[Candidate]:
    """The longest connected of each network, in an order that only we know."""
    eldest: dict[str, Candidate] = {}
    for candidate in candidates:
        known = eldest.get(candidate.group)
        if known is None or candidate.connected_at < known.connected_at:
            eldest[candidate.group] = candidate
    return sorted(eldest.values(), key=lambda candidate: sha256(secret + candidate.group.encode()))
