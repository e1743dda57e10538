"""Where a node can be dialled: ``nodeidhex@host:port``."""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import NamedTuple

NODE_ID_BYTES = 32
HOST_CHARACTERS_MAX = 253
CACHED_MAX = 8_192
"""Hosts whose group is remembered: more than an address book holds."""
_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"{_LABEL}(\.{_LABEL})*")
"""Names as the resolver takes them: it raises for an empty or a long label, and strangers tell us names."""


class BadAddress(ValueError):
    """The text is no address; the message says what was expected."""


class Endpoint(NamedTuple):
    """A host (name, IPv4 or IPv6, without brackets) and a TCP port."""

    host: str
    port: int

    def __str__(self) -> str:
        """``host:port``, with brackets around IPv6."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> Endpoint:
        """The endpoint that `str` would write as *text*. Raises BadAddress. Port 0 stands for «any free one»."""
        host, colon, port_text = text.rpartition(":")
        if not colon or not (port_text.isascii() and port_text.isdigit() and len(port_text) <= 5):
            raise BadAddress(f"{text!r:.80} is not host:port")
        port = int(port_text)
        if port > 65_535:
            raise BadAddress(f"port {port} is above 65535")
        if host.startswith("[") and host.endswith("]"):
            host = _ipv6(host[1:-1], text)
        elif len(host) > HOST_CHARACTERS_MAX or not _HOST.fullmatch(host):
            raise BadAddress(f"{text!r:.80} has no usable host")
        return cls(host, port)


class PeerAddress(NamedTuple):
    """A node's id (32 bytes, its Ed25519 public key) and where it listens."""

    node_id: bytes
    host: str
    port: int

    def __str__(self) -> str:
        """``nodeidhex@host:port``."""
        return f"{self.node_id.hex()}@{self.endpoint}"

    @property
    def endpoint(self) -> Endpoint:
        """Host and port alone."""
        return Endpoint(self.host, self.port)

    @classmethod
    def parse(cls, text: str) -> PeerAddress:
        """The address that `str` would write as *text*. Raises BadAddress."""
        id_text, at, rest = text.partition("@")
        if not at or not re.fullmatch(r"[0-9a-f]{64}", id_text):
            raise BadAddress(f"{text!r:.80} is not <64 lower-case hex digits>@host:port")
        endpoint = Endpoint.parse(rest)
        if endpoint.port == 0:
            raise BadAddress("port 0 can't be dialled")
        return cls(bytes.fromhex(id_text), endpoint.host, endpoint.port)


def is_loopback(host: str) -> bool:
    """Whether *host* is this machine itself, so that limits per address would only hit one's own nodes."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_unspecified(host: str) -> bool:
    """Whether *host* means «all interfaces», which nobody can dial."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def reach(host: str) -> int:
    """How far *host* can be meant: 0 this machine, 1 a network that is not public, 2 the whole net (names too)."""
    if is_loopback(host):
        return 0
    try:
        return 2 if ipaddress.ip_address(host).is_global else 1
    except ValueError:
        return 2


@lru_cache(CACHED_MAX)
def host_key(host: str) -> str:
    """What limits per address count: an IPv4 address or a name; of IPv6 the /64, which any one line at home owns."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    return host if address.version == 4 else str(ipaddress.ip_network((address, 64), strict=False))


@lru_cache(CACHED_MAX)
def network_group(host: str) -> str:
    """The part of the net that one operator easily controls: IPv4 /16, IPv6 /32, else the host itself."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    bits = 16 if address.version == 4 else 32
    return str(ipaddress.ip_network((address, bits), strict=False))


def _ipv6(host: str, text: str) -> str:
    try:
        return str(ipaddress.IPv6Address(host))
    except ValueError as error:
        raise BadAddress(f"{text!r:.80} has no usable IPv6 host") from error
