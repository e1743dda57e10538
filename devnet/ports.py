"""Free TCP ports of loopback that stay free while a node is down."""

from __future__ import annotations

import random
import socket
from pathlib import Path

LOW = 10_240
EPHEMERAL_LOW = 32_768
"""Linux's default; ports from here on are handed to outgoing connections, and could be taken while a node restarts."""
TRIES_MAX = 10_000


def free_ports(count: int) -> list[int]:
    """*count* different ports of 127.0.0.1 below the ephemeral range that nobody listens on. Raises OSError if none."""
    high = _ephemeral_low()
    dice = random.Random()
    ports: dict[int, None] = {}
    for _ in range(TRIES_MAX):
        if len(ports) == count:
            return list(ports)
        port = dice.randrange(LOW, high)
        if port not in ports and _is_free(port):
            ports[port] = None
    raise OSError(f"found only {len(ports)} of {count} free ports in {LOW}…{high}; is something else using loopback?")


def listens(port: int) -> bool:
    """Whether something accepts connections at *port* of 127.0.0.1."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _ephemeral_low() -> int:
    setting = Path("/proc/sys/net/ipv4/ip_local_port_range")
    if not setting.exists():
        return EPHEMERAL_LOW
    low = int(setting.read_text().split()[0])
    return low if low > LOW + 1_000 else EPHEMERAL_LOW
