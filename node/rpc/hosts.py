"""Which names this node answers to: a page from elsewhere must not speak to it through a browser (DNS rebinding)."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from node.rpc.errors import ForeignHost


class AllowedHosts:
    """Host names without port; an address that the node itself listens on is always among them."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(_bare(name) for name in names)

    def check(self, host: str | None, origin: str | None) -> None:
        """Raises ForeignHost unless the Host header, and the Origin if a browser sent one, name this node."""
        if host is None or _bare(host) not in self._names:
            raise ForeignHost(
                f"this node does not answer for the host {(host or '')[:80]!r}; "
                "the operator can add it to rpc.allowed_hosts in config.toml"
            )
        if origin is not None and _host_of(origin) not in self._names:
            raise ForeignHost(f"pages from {origin[:80]!r} may not speak to this node (rpc.allowed_hosts)")


def _host_of(origin: str) -> str:
    """The host that *origin* names, in lower case; "" where it names none."""
    try:
        return (urlsplit(origin).hostname or "").lower()
    except ValueError:  # such as "http://["
        return ""


def _bare(host: str) -> str:
    """*host* in lower case, without port and without the brackets of IPv6."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host if host.count(":") > 1 else host.partition(":")[0]
