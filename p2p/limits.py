"""Every bound of the peer-to-peer layer in one place."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much of everything, and how long; the defaults suit a town of some hundred nodes."""

    inbound_max: int = 40
    """Peers that dialled us; persistent and unconditional peers come on top. A newcomer displaces the least useful."""
    outbound_max: int = 10
    """Peers that we dial by ourselves; persistent peers come on top."""
    per_host_max: int = 8
    """Connections, finished or not, from one host (of IPv6: one /64); loopback is exempt."""
    exempt_loopback: bool = True
    """Whether limits per host and network leave out this machine itself, where a devnet or a test runs."""
    connections_per_host_per_second: float = 0.5
    """How often one host may connect in the long run: a node that restarts needs two or three."""
    connections_per_host_burst: int = 20
    connections_per_group_per_second: float = 5.0
    """The same for one network (IPv4 /16, IPv6 /32): a handshake costs about a millisecond of our time."""
    connections_per_group_burst: int = 100
    handshakes_max: int = 64
    """Inbound handshakes under way; beyond, one of the most crowded network gives way to the next."""
    dial_timeout_seconds: float = 5.0
    handshake_timeout_seconds: float = 10.0
    ping_interval_seconds: float = 20.0
    silence_max_seconds: float = 60.0
    """A peer from which nothing arrives for so long is dropped."""
    probe_timeout_seconds: float = 5.0
    """The same, for a peer that tries to connect although it seems to be connected."""
    send_timeout_seconds: float = 30.0
    """A peer that takes none of our bytes for so long is dropped."""
    reconnect_base_seconds: float = 0.5
    """The first pause before dialling a persistent peer again; doubles with each failure."""
    reconnect_max_seconds: float = 20.0
    settled_after_seconds: float = 10.0
    """A connection that lasted so long counts as success: pauses begin from the base again."""
    exchange_interval_seconds: float = 30.0
    """How often more addresses are asked for while peers are lacking."""
    seed_timeout_seconds: float = 10.0
    """How long a seed has for its answer before we hang up."""
    seed_pause_seconds: float = 30.0
    """Before a seed is asked again while nobody is known; doubles each time, up to an hour."""
    feeler_interval_seconds: float = 60.0
    """How often one address is dialled only to see whether somebody is there."""
    dial_backs_max: int = 4
    """Dial-backs under way."""
    control_messages_per_second: int = 2_000
    """Messages on p2p's own channel that one peer may send, twice that in a burst."""
    ban_points: int = 100
    """A peer whose points reach this is banned."""
    points_half_life_seconds: float = 600.0
    """Points fade by half in this time."""
    ban_seconds: float = 600.0
    """The first ban's length; doubles each time."""
    ban_max_seconds: float = 86_400.0
