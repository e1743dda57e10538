"""The network: who is met, who stays, and what the rest of the node sees of it."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import structlog
import trio

from consensus.signing import public_key
from p2p.address import Endpoint, PeerAddress, is_unspecified
from p2p.address_book import AddressBook
from p2p.channel import Channel, Traffic
from p2p.dialler import Dialler
from p2p.doorway import Doorway
from p2p.exchange import Exchange
from p2p.facts import ban_facts, peer_facts
from p2p.greeter import Greeter
from p2p.handshake import Greeting, Hello, Session
from p2p.limits import Limits
from p2p.named import NOBODY, NamedPeers
from p2p.peer import Peer
from p2p.roster import Roster
from p2p.scores import BadScores, Ban, Scores
from p2p.transport import Accepted, Listener, Transport

SAVE_SECONDS = 60.0
"""How often address book and scores go to their files, if they changed."""

log = structlog.get_logger("p2p")

Service = Callable[[Peer], Awaitable[None]]


class Network:
    """All peers of one node. `run` does everything; the rest may be read while it runs."""

    def __init__(
        self,
        *,
        seed: bytes,
        hello: Hello,
        channels: Sequence[Channel],
        services: Mapping[str, Service],
        transport: Transport,
        book: AddressBook,
        limits: Limits | None = None,
        named: NamedPeers = NOBODY,
        save_scores: Callable[[bytes], None] | None = None,
        saved_scores: bytes = b"",
        listen_addr: Endpoint | None = None,
        clock: Callable[[], int] = lambda: 0,
        dice: random.Random | None = None,
        make_peer: Callable[..., Peer] = Peer,
    ) -> None:
        """Nothing happens before `run`. *seed*: the node key, 32 bytes.

        *hello.listen_address* None: the bound address is told, if we listen. *save_scores* writes a file atomically
        (None: nothing is kept), *saved_scores* is its content. *clock*: Unix milliseconds. *dice*: keys of handshakes,
        jitter, choices (default: the system's). *make_peer*: what stands between the services and a connection;
        simulations bring a subclass.
        """
        limits = limits or Limits()
        dice = dice or random.SystemRandom()
        self.node_id = public_key(seed)
        """32 bytes, our Ed25519 public key."""
        self.named = named
        """Whom the settings name."""
        self.book = book
        book.own_id = self.node_id
        self.bound_address: Endpoint | None = None
        """Where we listen, once `run` has started; None if nowhere."""
        self._hello = hello
        self._transport = transport
        self._listen = listen_addr
        self._clock = clock

        self.scores = Scores(limits)
        self._save_scores, self._saved_scores = save_scores, saved_scores
        self.doorway = Doorway(limits)
        self._roster = Roster(self.node_id, limits, named, secret=dice.randbytes(32))
        self._greeter = Greeter(
            seed=seed,
            hello=hello,
            channels=channels,
            transport=transport,
            limits=limits,
            dice=dice,
            refusal=self._refusal,
            on_refused=self._on_refused,
        )
        self._dialler = Dialler(
            meet=self.meet,
            dial_back=self._greeter.is_there,
            named=named,
            roster=self._roster,
            book=book,
            limits=limits,
            unwelcome=self._is_banned,
            wall_ms=clock,
            dice=dice,
        )
        self._exchange = Exchange(
            book=book,
            limits=limits,
            named=named,
            peers=self._roster.view,
            wall_ms=clock,
            dial_back=self._greeter.is_there,
            on_news=self._dialler.nudge,
        )

        # What every peer is made of and served by, and what those that left have sent and received.
        self._make_peer = partial(make_peer, channels=tuple(channels), limits=limits, wall_ms=clock)
        self._services = {**services, "exchange": self._exchange.serve}
        self._past_wire = Traffic()
        self._past_traffic: dict[str, Traffic] = {channel.name: Traffic() for channel in channels}

    # --- what others see

    @property
    def peers(self) -> Mapping[bytes, Peer]:
        """The connected peers by node id."""
        return self._roster.view

    def bans(self) -> list[Ban]:
        """All bans in force."""
        return self.scores.bans(trio.current_time())

    def statistics(self) -> dict[str, Traffic]:
        """What has passed since the start, by channel name, peers that left included."""
        totals = {name: replace(traffic) for name, traffic in self._past_traffic.items()}
        for peer in self.peers.values():
            for name, traffic in peer.traffic().items():
                totals[name].add(traffic)
        return totals

    def wire_statistics(self) -> Traffic:
        """What has passed over all streams since the start as encrypted bytes and records, handshakes left out."""
        total = replace(self._past_wire)
        for peer in self.peers.values():
            total.add(peer.wire)
        return total

    @property
    def evicted(self) -> int:
        """Inbound peers that gave way to a newcomer since the start."""
        return self._roster.evicted

    @property
    def addresses_ignored(self) -> int:
        """Addresses that peers told beyond their allowance since the start."""
        return self._exchange.addresses_ignored

    @property
    def dial_backs_failed(self) -> int:
        """Peers since the start whose own address did not answer, and that are not passed on."""
        return self._exchange.dial_backs_failed

    def net_info(self, *, private: bool = False) -> dict[str, Any]:
        """Facts for people, in JSON types. *private*: whether it is for the operator, who may see private peers too."""
        now = trio.current_time()
        hidden = frozenset() if private else self.named.private
        return {
            "node_id": self.node_id.hex(),
            "moniker": self._hello.moniker,
            "listening": self.bound_address is not None,
            "listen_address": str(self.bound_address) if self.bound_address else None,
            "known_addresses": len(self.book),
            "n_peers": len(self.peers),
            "persistent": [
                {"address": str(a), "connected": a.node_id in self.peers}
                for a in self.named.persistent
                if a.node_id not in hidden
            ],
            "peers": [peer_facts(peer, now, self.scores, hidden) for peer in self.peers.values()],
            "bans": ban_facts(self.bans(), now),
        }

    # --- for the operator

    def ban(self, node_id: bytes, seconds: float) -> None:
        """The node is not let in for *seconds*, nor dialled; if it is connected it goes."""
        assert not self.named.is_welcome(node_id), "the settings say otherwise"
        self.scores.ban(node_id, seconds, trio.current_time())
        self._store_scores()
        if node_id in self.peers:
            self.peers[node_id].disconnect("banned")

    def unban(self, node_id: bytes) -> bool:
        """The node has neither ban nor points; whether it had any."""
        had = self.scores.forgive(node_id)
        self._store_scores()
        self._dialler.nudge()
        return had

    # --- running

    async def run(self, *, task_status: trio.TaskStatus[Endpoint | None] = trio.TASK_STATUS_IGNORED) -> None:
        """Peers are met and served until cancelled. Started with the bound listen address once dials can be answered.

        Raises OSError if the listen address can't be bound, and whatever a service of ours raises.
        """
        if self._saved_scores:
            try:
                self.scores.load(self._saved_scores, trio.current_time(), self._clock())
            except BadScores as error:
                log.warning("scores_damaged", why=str(error))
        listener = None
        if self._listen is not None:
            listener = await self._transport.listen(self._listen)
            self.bound_address = listener.endpoint
            if self._hello.listen_address is None:
                self._hello = replace(self._hello, listen_address=str(listener.endpoint))
                self._greeter.introduce(self._hello)
        async with trio.open_nursery() as nursery:
            if listener is not None:
                nursery.start_soon(self._accept, listener)
            nursery.start_soon(self._dialler.run, self.node_id)
            nursery.start_soon(self._keep_files)
            log.info("network_started", node_id=self.node_id.hex(), listen=str(self.bound_address))
            task_status.started(self.bound_address)

    async def _accept(self, listener: Listener) -> None:
        try:
            async with trio.open_nursery() as nursery:
                while True:
                    nursery.start_soon(self._meet_inbound, await listener.accept())
        finally:
            with trio.CancelScope(shield=True):
                await listener.aclose()

    async def _meet_inbound(self, accepted: Accepted) -> None:
        stream, host = accepted
        if not self.doorway.admits(host, trio.current_time()):
            log.debug("connection_refused", host=host)
            await trio.aclose_forcefully(stream)
            return
        with self.doorway.inside(host):
            session: Session | None = None
            with self.doorway.handshake(host):
                session = await self._greeter.shake_hands(stream, host=host, outbound=False)
            if session is not None:
                await self._be_peers(stream, session, host=host, dialled=None)

    async def meet(self, address: PeerAddress) -> str:
        """*address* was dialled and, if it is the right node, served until it went. Returns the reason of the end.

        The reasons are stable: ``dial_failed``, ``handshake_failed``, or why the peer ended.
        """
        stream = await self._greeter.dial(address)
        if stream is None:
            return "dial_failed"
        session = await self._greeter.shake_hands(stream, host=address.host, outbound=True, expected=address.node_id)
        if session is None:
            return "handshake_failed"
        return await self._be_peers(stream, session, host=address.host, dialled=address)

    async def _be_peers(
        self, stream: trio.abc.Stream, session: Session, *, host: str, dialled: PeerAddress | None
    ) -> str:
        peer = self._make_peer(
            stream=stream,
            session=session,
            address=dialled or _told_address(session.greeting, host),
            host=host,
            outbound=dialled is not None,
            on_control=self._exchange.hear,
            on_penalty=self._on_penalty,
        )
        entered = False
        try:
            entered = await self._roster.enter(peer)
        finally:
            if not entered:
                with trio.CancelScope(shield=True):
                    await trio.aclose_forcefully(stream)
        if not entered:
            return "handshake.duplicate"
        peer.log.info("peer_connected", outbound=peer.outbound, host=host)
        if dialled is not None and peer.id not in self.named.seed_ids:
            self.book.reached(dialled, self._clock())
        try:
            reason = await peer.run(self._services)
        finally:
            self._roster.leave(peer)
            self._exchange.forget(peer)
            self._dialler.nudge()
            self._past_wire.add(peer.wire)
            for name, traffic in peer.traffic().items():
                self._past_traffic[name].add(traffic)
        peer.log.info("peer_gone", reason=reason, seconds=round(trio.current_time() - peer.connected_at, 1))
        return reason

    async def _keep_files(self) -> None:
        """What book and scores learn is saved now and then, and at the end."""
        try:
            while True:
                await trio.sleep(SAVE_SECONDS)
                self._store()
        finally:
            self._store()

    def _store(self) -> None:
        """Those whom we chose ourselves, and who stayed longest, are whom the next run begins with."""
        chosen = [peer for peer in self.peers.values() if peer.outbound and not self.named.is_persistent(peer.id)]
        self.book.keep_anchors([peer.id for peer in sorted(chosen, key=lambda peer: peer.connected_at)])
        self.book.save()
        self._store_scores()

    def _store_scores(self) -> None:
        if self._save_scores is not None and self.scores.changed:
            self._save_scores(self.scores.to_save(trio.current_time(), self._clock()))

    def _refusal(self, node_id: bytes, outbound: bool) -> str:
        """ "" if a connection with this node is wanted, else the code of our refusal."""
        if self._is_banned(node_id):
            return "handshake.banned"
        return self._roster.refusal(node_id, outbound=outbound)

    def _on_refused(self, code: str, node_id: bytes | None, outbound: bool) -> None:
        """A handshake came to nothing."""
        if not outbound:
            self.doorway.refused[code] += 1
        rival = self.peers.get(node_id) if node_id else None
        if code == "handshake.duplicate" and rival is not None:
            rival.probe()  # it may be dead without our knowing: its node has a reason to dial

    def _is_banned(self, node_id: bytes) -> bool:
        """Whether this node is not welcome now; those that the settings name always are, however they behave."""
        if self.named.is_welcome(node_id):
            return False
        return self.scores.is_banned(node_id, trio.current_time())

    def _on_penalty(self, peer: Peer, reason: str, points: int) -> None:
        if not self.scores.penalise(peer.id, reason, points, trio.current_time()):
            return
        if self.named.is_welcome(peer.id):
            self.scores.lift(peer.id)
            peer.disconnect("broke_rules")
            return
        peer.log.warning("peer_banned", reason=reason)
        peer.disconnect("banned")


def _told_address(greeting: Greeting, seen_host: str) -> PeerAddress | None:
    """Where the node says that it listens; an unspecified host is replaced by the one that we see."""
    if greeting.hello.listen_address is None:
        return None
    try:
        endpoint = Endpoint.parse(greeting.hello.listen_address)
    except ValueError:
        return None
    host = seen_host if is_unspecified(endpoint.host) else endpoint.host
    return PeerAddress(greeting.node_id, host, endpoint.port) if endpoint.port else None
