"""The network: who is met, who stays, and what the rest of the node sees of it."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import structlog
import trio

from consensus.codec import BadMessage
from p2p.address import Endpoint, PeerAddress, is_unspecified
from p2p.address_book import AddressBook
from p2p.channel import Channel, Traffic
from p2p.dialler import Dialler
from p2p.exchange import Exchange
from p2p.handshake import Greeting, HandshakeRefused, Hello, Identity, Session, shake_hands
from p2p.limits import Limits
from p2p.peer import Peer
from p2p.roster import Roster
from p2p.scores import Ban, Scores
from p2p.transport import Accepted, Listener, Transport

BOOK_SAVE_SECONDS = 60.0
"""How often the address book goes to its file, if it changed."""

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
        persistent_peers: Sequence[PeerAddress] = (),
        private_peers: Sequence[bytes] = (),
        listen_addr: Endpoint | None = None,
        clock: Callable[[], int] = lambda: 0,
        dice: random.Random | None = None,
        make_peer: Callable[..., Peer] = Peer,
    ) -> None:
        """Nothing happens before `run`. *seed*: the node key, 32 bytes.

        *clock*: Unix milliseconds. *dice*: keys of handshakes, jitter, choices (default: the system's). *make_peer*:
        what stands between the services and a connection; simulations bring a subclass.

        *hello.listen_address* None: the bound address is told, if we listen. *private_peers*: node ids never passed
        on.
        """
        self._seed = seed
        self._hello = hello
        self._channels = tuple(channels)
        self._services = dict(services)
        self._transport = transport
        self._limits = limits or Limits()
        self._persistent = tuple(persistent_peers)
        self._private = frozenset(private_peers)
        self._listen = listen_addr
        self._clock = clock
        self._dice = dice or random.SystemRandom()
        self._make_peer = make_peer
        self._identity = Identity(seed=seed, hello=hello, channels=channels)
        self.book = book
        book.own_id = self.node_id
        self.scores = Scores(self._limits)
        self._roster = Roster(self.node_id, [address.node_id for address in persistent_peers], self._limits)
        self._handshakes: dict[trio.CancelScope, None] = {}
        self._exchange = self._make_exchange()
        self._services["exchange"] = self._exchange.serve
        self._dialler = self._make_dialler()
        self._past_wire = Traffic()
        self._past_traffic: dict[str, Traffic] = {channel.name: Traffic() for channel in channels}
        self.bound_address: Endpoint | None = None
        """Where we listen, once `run` has started; None if nowhere."""

    def _make_exchange(self) -> Exchange:
        return Exchange(
            book=self.book,
            limits=self._limits,
            private=self._private,
            peers=self._roster.view,
            wall_ms=self._clock,
            dial_back=self._dial_back,
            on_news=lambda: self._dialler.nudge(),
        )

    def _make_dialler(self) -> Dialler:
        return Dialler(
            meet=self.meet,
            roster=self._roster,
            book=self.book,
            limits=self._limits,
            unwelcome=self._is_banned,
            wall_ms=self._clock,
            dice=self._dice,
        )

    # --- what others see

    @property
    def node_id(self) -> bytes:
        """32 bytes, our Ed25519 public key."""
        return self._identity.node_id

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

    def net_info(self) -> dict[str, Any]:
        """Facts for people, in JSON types: ids in hex, times in milliseconds or seconds as named."""
        now = trio.current_time()
        return {
            "node_id": self.node_id.hex(),
            "moniker": self._hello.moniker,
            "listening": self.bound_address is not None,
            "listen_address": str(self.bound_address) if self.bound_address else None,
            "known_addresses": len(self.book),
            "n_peers": len(self.peers),
            "persistent": [{"address": str(a), "connected": a.node_id in self.peers} for a in self._persistent],
            "peers": [_peer_info(peer, now, self.scores.points(peer.id, now)) for peer in self.peers.values()],
            "bans": [
                {"node_id": ban.node_id.hex(), "seconds_left": round(ban.until - now, 1), "reason": ban.reason}
                for ban in self.bans()
            ],
        }

    # --- running

    async def run(self, *, task_status: trio.TaskStatus[Endpoint | None] = trio.TASK_STATUS_IGNORED) -> None:
        """Peers are met and served until cancelled. Started with the bound listen address once dials can be answered.

        Raises OSError if the listen address can't be bound, and whatever a service of ours raises.
        """
        listener = None
        if self._listen is not None:
            listener = await self._transport.listen(self._listen)
            self.bound_address = listener.endpoint
            if self._hello.listen_address is None:
                self._hello = replace(self._hello, listen_address=str(listener.endpoint))
                self._identity = Identity(seed=self._seed, hello=self._hello, channels=self._channels)
        async with trio.open_nursery() as nursery:
            if listener is not None:
                nursery.start_soon(self._accept, listener)
            nursery.start_soon(self._dialler.run, [peer for peer in self._persistent if peer.node_id != self.node_id])
            nursery.start_soon(self._keep_book)
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
        if not self._roster.host_has_room(host):
            log.debug("connection_refused", host=host, why="per_host_max")
            await trio.aclose_forcefully(stream)
            return
        self._roster.host_arrived(host)
        try:
            if len(self._handshakes) >= self._limits.handshakes_max:
                oldest = next(iter(self._handshakes))
                del self._handshakes[oldest]
                oldest.cancel()
            scope = trio.CancelScope()
            self._handshakes[scope] = None
            session: Session | None = None
            try:
                with scope:
                    session = await self._shake_hands(stream, host=host, outbound=False)
            finally:
                self._handshakes.pop(scope, None)
                if session is None:
                    with trio.CancelScope(shield=True):
                        await trio.aclose_forcefully(stream)
            if session is not None:
                await self._be_peers(stream, session, host=host, dialled=None)
        finally:
            self._roster.host_left(host)

    async def meet(self, address: PeerAddress) -> str:
        """*address* was dialled and, if it is the right node, served until it went. Returns the reason of the end.

        The reasons are stable: ``dial_failed``, ``handshake_failed``, or why the peer ended.
        """
        stream = await self._dial(address)
        if stream is None:
            return "dial_failed"
        session: Session | None = None
        try:
            session = await self._shake_hands(stream, host=address.host, outbound=True, expected=address.node_id)
        finally:
            if session is None:
                with trio.CancelScope(shield=True):
                    await trio.aclose_forcefully(stream)
        if session is None:
            return "handshake_failed"
        return await self._be_peers(stream, session, host=address.host, dialled=address)

    async def _dial(self, address: PeerAddress) -> trio.abc.Stream | None:
        """A stream to *address*, or None, with the reason logged."""
        try:
            with trio.fail_after(self._limits.dial_timeout_seconds):
                return await self._transport.dial(address.endpoint)
        except (OSError, trio.TooSlowError) as error:
            log.debug("dial_failed", address=str(address), why=repr(error))
            return None

    async def _dial_back(self, address: PeerAddress) -> bool:
        """Whether a dial to *address* meets that node; the connection is not kept."""
        stream = await self._dial(address)
        if stream is None:
            return False

        def judge(greeting: Greeting) -> str:
            return "handshake.dial_back" if greeting.node_id == address.node_id else "handshake.unexpected_identity"

        ephemeral = self._dice.randbytes(32)
        try:
            with trio.fail_after(self._limits.handshake_timeout_seconds):
                await shake_hands(stream, self._identity, initiator=True, ephemeral=ephemeral, judge=judge)
        except HandshakeRefused as refused:
            return refused.by_us and refused.code == "handshake.dial_back"
        except (trio.TooSlowError, BadMessage, trio.BrokenResourceError, OSError) as error:
            log.debug("dial_back_failed", address=str(address), why=repr(error))
        finally:
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(stream)
        return False

    async def _shake_hands(
        self, stream: trio.abc.Stream, *, host: str, outbound: bool, expected: bytes | None = None
    ) -> Session | None:
        """The session, or None if the other side is none of ours; the reason is logged."""

        def judge(greeting: Greeting) -> str:
            if expected is not None and greeting.node_id != expected:
                return "handshake.unexpected_identity"
            if self._is_banned(greeting.node_id):
                return "handshake.banned"
            return self._roster.refusal(greeting.node_id, outbound=outbound)

        code, why = "", ""
        ephemeral = self._dice.randbytes(32)
        try:
            with trio.fail_after(self._limits.handshake_timeout_seconds):
                return await shake_hands(stream, self._identity, initiator=outbound, ephemeral=ephemeral, judge=judge)
        except trio.TooSlowError:
            code = "handshake_timeout"
        except BadMessage as error:
            code, why = error.code, str(error)
        except (trio.BrokenResourceError, OSError) as error:
            code, why = "broken", repr(error)
        except HandshakeRefused as refused:
            code, why = refused.code, "we refuse" if refused.by_us else "they refuse"
            rival = self.peers.get(refused.greeting.node_id)
            if code == "handshake.duplicate" and rival is not None:
                rival.probe()  # it may be dead without our knowing: its node has a reason to dial
        say = log.info if outbound and code != "handshake.duplicate" else log.debug  # strangers can't fill the log
        say("handshake_failed", host=host, outbound=outbound, code=code, why=why)
        return None

    async def _be_peers(
        self, stream: trio.abc.Stream, session: Session, *, host: str, dialled: PeerAddress | None
    ) -> str:
        peer = self._make_peer(
            stream=stream,
            session=session,
            address=dialled or _told_address(session.greeting, host),
            host=host,
            outbound=dialled is not None,
            channels=self._channels,
            limits=self._limits,
            wall_ms=self._clock,
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
        if dialled is not None:
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

    async def _keep_book(self) -> None:
        """What the book learns is saved now and then, and at the end."""
        try:
            while True:
                await trio.sleep(BOOK_SAVE_SECONDS)
                self.book.save()
        finally:
            self.book.save()

    def _is_banned(self, node_id: bytes) -> bool:
        """Whether this node is not welcome now; persistent peers always are, however they behave."""
        if self._roster.is_persistent(node_id):
            return False
        return self.scores.is_banned(node_id, trio.current_time())

    def _on_penalty(self, peer: Peer, reason: str, points: int) -> None:
        if self.scores.penalise(peer.id, reason, points, trio.current_time()):
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


def _peer_info(peer: Peer, now: float, points: float) -> dict[str, Any]:
    return {
        "node_id": peer.id.hex(),
        "moniker": peer.hello.moniker,
        "address": str(peer.address) if peer.address else None,
        "host": peer.host,
        "outbound": peer.outbound,
        "connected_seconds": round(now - peer.connected_at, 1),
        "round_trip_ms": peer.round_trip_ms,
        "clock_skew_ms": peer.clock_skew_ms,
        "points": round(points, 1),
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
