"""Peer exchange: who can be dialled is told only of nodes that a dial has reached, so a newcomer finds everybody
from one peer.

A peer that dialled us and says where it listens is dialled back once. If that meets the same node, its address goes
into the book as tried, and to the other peers at once; addresses that we merely heard stay with us until a dial of
ours succeeds. A seed is asked, and left as soon as it has answered.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import structlog
import trio

from p2p.address import PeerAddress, reach
from p2p.address_book import AddressBook
from p2p.control import ADDRESSES_MAX, Addresses, AskAddresses, ControlMessage
from p2p.limits import Limits
from p2p.named import NamedPeers
from p2p.peer import Peer

ADDRESSES_BURST = 2 * ADDRESSES_MAX
"""Addresses that one peer may tell us at once; the rest of a flood is ignored."""
ADDRESSES_PER_SECOND = 1.0
ANSWER_PAUSE_SECONDS = 10.0
"""Questions of one peer that come faster are ignored."""
VERIFIED_FOR_MS = 600_000
"""So long a dial that reached a node counts, and it is not dialled back again."""

log = structlog.get_logger("p2p")


@dataclass(slots=True)
class _Dealings:
    """What one peer has asked and told lately."""

    allowance: float
    allowance_at: float
    answered_at: float


class Exchange:
    """Asks, answers, and dials back."""

    def __init__(
        self,
        *,
        book: AddressBook,
        limits: Limits,
        named: NamedPeers,
        peers: Mapping[bytes, Peer],
        wall_ms: Callable[[], int],
        dial_back: Callable[[PeerAddress], Awaitable[bool]],
        on_news: Callable[[], None],
    ) -> None:
        """*dial_back*: whether a dial to the address meets the right node.

        *on_news*: called when the book has grown.
        """
        self._book = book
        self._limits = limits
        self._named = named
        self._peers = peers
        self._wall_ms = wall_ms
        self._dial_back = dial_back
        self._on_news = on_news
        self._slots = trio.CapacityLimiter(limits.dial_backs_max)
        self._dealings: dict[Peer, _Dealings] = {}
        self.addresses_ignored = 0
        """Addresses beyond a peer's allowance, since the start."""
        self.dial_backs_failed = 0

    def hear(self, peer: Peer, message: ControlMessage) -> None:
        """*message* about addresses is dealt with."""
        now = trio.current_time()
        dealings = self._dealings.setdefault(peer, _Dealings(ADDRESSES_BURST, now, -ANSWER_PAUSE_SECONDS))
        if isinstance(message, AskAddresses):
            if now - dealings.answered_at >= ANSWER_PAUSE_SECONDS:
                dealings.answered_at = now
                self._answer(peer)
        elif isinstance(message, Addresses):
            gained = (now - dealings.allowance_at) * ADDRESSES_PER_SECOND
            dealings.allowance = min(ADDRESSES_BURST, dealings.allowance + gained) - len(message.addresses)
            dealings.allowance_at = now
            if dealings.allowance >= 0:
                self._learn(peer, message.addresses)
                if peer.outbound and peer.id in self._named.seed_ids:
                    peer.disconnect("addresses_taken")
            else:
                dealings.allowance = 0
                self.addresses_ignored += len(message.addresses)

    def forget(self, peer: Peer) -> None:
        """*peer* is gone."""
        self._dealings.pop(peer, None)

    async def serve(self, peer: Peer) -> None:
        """*peer* has been asked for addresses and, if it dialled us, dialled back and made known.

        Runs as its service.
        """
        peer.say(AskAddresses())
        if peer.outbound and peer.id in self._named.seed_ids:
            await trio.sleep(self._limits.seed_timeout_seconds)
            if len(self._book):  # else it is all that there is
                peer.disconnect("seed_silent")
            return
        address = peer.address
        if peer.outbound or address is None or not is_plausible(address.host, told_by=peer.host):
            return
        known = self._book.get(peer.id)
        verified = known is not None and known.tried and known.address == address
        if known is not None and verified and self._wall_ms() - known.reached_ms < VERIFIED_FOR_MS:
            return
        async with self._slots:
            reached = await self._dial_back(address)
        if not reached:
            self.dial_backs_failed += 1
            peer.log.info("peer_not_reachable", address=str(address))
            return
        self._book.reached(address, self._wall_ms())
        if peer.id in self._named.private:
            return
        for other in self._peers.values():
            if other is not peer:
                other.say(Addresses((address,)))

    def _answer(self, peer: Peer) -> None:
        hidden = self._named.private | {peer.id}
        addresses = self._book.to_share(ADDRESSES_MAX, skip=hidden.__contains__)
        if addresses:
            peer.say(Addresses(tuple(addresses)))

    def _learn(self, peer: Peer, addresses: tuple[PeerAddress, ...]) -> None:
        grown = False
        for address in addresses:
            if is_plausible(address.host, told_by=peer.host):
                grown = self._book.add(address, source=peer.host) or grown
        if grown:
            self._on_news()


def is_plausible(host: str, *, told_by: str) -> bool:
    """Whether a node at *told_by* may send us to *host*: into a network that is not public only from within one.

    Else a stranger could have us knock at the doors of our own machine and home.
    """
    return reach(host) >= reach(told_by)
