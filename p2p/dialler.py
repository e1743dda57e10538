"""Who is dialled, and when: persistent peers until they answer, others from the book up to the outbound limit.

Outbound peers are our own choice, which an attacker can't crowd: they are taken from different networks where the book
allows. Where it knows nobody, a seed is asked. Now and then an address is dialled only to see whether it is alive.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import trio

from p2p.address import PeerAddress, network_group
from p2p.address_book import AddressBook
from p2p.control import AskAddresses
from p2p.limits import Limits
from p2p.named import NamedPeers
from p2p.roster import Roster

PAUSE_SECONDS_MIN = 0.1
"""Between two looks into the book."""
SEED_PAUSE_SECONDS_MAX = 3_600.0


class Dialler:
    """Keeps as many outbound connections as there should be."""

    def __init__(
        self,
        *,
        meet: Callable[[PeerAddress], Awaitable[str]],
        dial_back: Callable[[PeerAddress], Awaitable[bool]],
        named: NamedPeers,
        roster: Roster,
        book: AddressBook,
        limits: Limits,
        unwelcome: Callable[[bytes], bool],
        wall_ms: Callable[[], int],
        dice: random.Random,
    ) -> None:
        """*meet* dials, serves the peer until it goes, and returns the reason. *unwelcome*: banned.

        *dial_back*: whether a dial to the address meets the right node.
        """
        self._meet = meet
        self._dial_back = dial_back
        self._named = named
        self._seeds = list(named.seeds)
        """In the order in which they will be asked."""
        self._seed_pause = limits.seed_pause_seconds
        self._seed_due = 0.0
        self._roster = roster
        self._book = book
        self._limits = limits
        self._unwelcome = unwelcome
        self._wall_ms = wall_ms
        self._dice = dice
        self._meeting: dict[bytes, str] = {}
        """Node ids that are being dialled or served by us, with their networks."""
        self._news = trio.lowlevel.ParkingLot()

    def nudge(self) -> None:
        """Something changed (an address, a peer that left): look again."""
        self._news.unpark_all()

    async def run(self, own_id: bytes) -> None:
        """Dials until cancelled, but never the node *own_id*."""
        async with trio.open_nursery() as nursery:
            for wanted in self._named.persistent:
                if wanted.node_id != own_id:
                    nursery.start_soon(self._keep, wanted)
            if self._limits.outbound_max:
                nursery.start_soon(self._feel)
            while True:
                address = self._next()
                if address is None:
                    await self._rest()
                else:
                    self._meeting[address.node_id] = network_group(address.host)
                    nursery.start_soon(self._try, address)

    async def _keep(self, address: PeerAddress) -> None:
        """A persistent peer is dialled whenever it is not connected, with growing pauses while that fails."""
        limits = self._limits
        pause = limits.reconnect_base_seconds
        while True:
            peer = self._roster.view.get(address.node_id)
            began = trio.current_time() if peer is None else peer.connected_at
            if peer is None:
                await self._meet(address)
            else:
                await peer.ended.wait()
            if trio.current_time() - began >= limits.settled_after_seconds:
                pause = limits.reconnect_base_seconds
            await trio.sleep(pause * (0.5 + self._dice.random()))
            pause = min(2 * pause, limits.reconnect_max_seconds)

    async def _try(self, address: PeerAddress) -> None:
        """One dial from the book, and the connection if there comes one."""
        began = trio.current_time()
        reason = await self._meet(address)
        del self._meeting[address.node_id]
        lasted = trio.current_time() - began
        if lasted < self._limits.settled_after_seconds and reason != "handshake.duplicate":
            self._book.failed(address, self._wall_ms())
        self.nudge()

    async def _feel(self) -> None:
        """One address after the other is tested, so that the book knows who is there before that is needed."""
        while True:
            await trio.sleep(self._limits.feeler_interval_seconds * (0.5 + self._dice.random()))
            address = self._book.to_test(self._wall_ms(), skip=self._skip)
            if address is not None:
                there = await self._dial_back(address)
                self._book.tested(address, self._wall_ms(), there=there)

    def _next(self) -> PeerAddress | None:
        if self._lacking() <= 0:
            return None
        found = self._book.to_dial(self._wall_ms(), skip=self._skip, groups=set(self._meeting.values()))
        return found or self._next_seed()

    def _next_seed(self) -> PeerAddress | None:
        """The seed to ask next, if nobody else can be dialled and its time has come."""
        if not self._seeds or trio.current_time() < self._seed_due:
            return None
        self._seed_due = trio.current_time() + self._seed_pause
        self._seed_pause = min(2 * self._seed_pause, SEED_PAUSE_SECONDS_MAX)
        seed = self._seeds.pop(0)
        self._seeds.append(seed)
        return seed if seed.node_id not in self._meeting and not self._unwelcome(seed.node_id) else None

    def _lacking(self) -> int:
        """How many more outbound peers there should be, those being dialled counted as there."""
        there = {peer.id for peer in self._roster.view.values() if self._counts(peer.id, outbound=peer.outbound)}
        return self._limits.outbound_max - len(there | self._meeting.keys())

    def _counts(self, node_id: bytes, *, outbound: bool) -> bool:
        return outbound and not self._named.is_persistent(node_id)

    def _skip(self, node_id: bytes) -> bool:
        return (
            node_id in self._roster.view
            or node_id in self._meeting
            or self._named.is_persistent(node_id)
            or node_id in self._named.seed_ids
            or self._unwelcome(node_id)
        )

    async def _rest(self) -> None:
        """Returns on news, or when the book has somebody again. While peers are lacking, one is asked for more."""
        await trio.sleep(PAUSE_SECONDS_MIN)
        if self._lacking() <= 0:
            await self._news.park()
            return
        interval = self._limits.exchange_interval_seconds * (0.5 + self._dice.random())
        wait_ms = self._book.next_dial_ms(self._wall_ms(), skip=self._skip)
        rest = interval if wait_ms is None else min(interval, wait_ms / 1_000)
        if self._seeds:
            rest = min(rest, max(0.0, self._seed_due - trio.current_time()))
        with trio.move_on_after(rest):
            await self._news.park()
            return
        if wait_ms is None and self._roster.view:
            self._dice.choice(list(self._roster.view.values())).say(AskAddresses())
