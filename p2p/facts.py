"""What a network says of itself to people, in JSON types: ids in hex, times in milliseconds or seconds as named."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Any

from p2p.peer import Peer
from p2p.scores import Ban, Scores


def peer_facts(peer: Peer, now: float, scores: Scores, private: Container[bytes]) -> dict[str, Any]:
    """What is known of a connected peer; where it can be reached only if it is not *private*."""
    hidden = peer.id in private
    received, sent = peer.rates(now)
    return {
        "node_id": peer.id.hex(),
        "moniker": peer.hello.moniker,
        "address": None if hidden or peer.address is None else str(peer.address),
        "host": None if hidden else peer.host,
        "outbound": peer.outbound,
        "connected_seconds": round(now - peer.connected_at, 1),
        "round_trip_ms": peer.round_trip_ms,
        "clock_skew_ms": peer.clock_skew_ms,
        "points": round(scores.points(peer.id, now), 1),
        "reasons": scores.reasons(peer.id),
        "useful_seconds_ago": {kind: round(now - at, 1) for kind, at in sorted(peer.useful_at.items())},
        "bytes_per_second": {"received": round(received), "sent": round(sent)},
        "waiting": peer.waiting(),
        "traffic": {
            name: {
                "bytes_sent": t.bytes_sent,
                "bytes_received": t.bytes_received,
                "messages_sent": t.messages_sent,
                "messages_received": t.messages_received,
            }
            for name, t in peer.traffic().items()
        },
    }


def ban_facts(bans: Iterable[Ban], now: float) -> list[dict[str, Any]]:
    """Who is banned, for how long yet, and why."""
    return [
        {"node_id": ban.node_id.hex(), "seconds_left": round(ban.until - now, 1), "reason": ban.reason} for ban in bans
    ]
