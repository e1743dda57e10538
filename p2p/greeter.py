"""Dials, and agrees with whoever is at the other end on a session, or not; the reason is logged and counted."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import structlog
import trio

from consensus.codec import BadMessage
from p2p.address import PeerAddress
from p2p.channel import Channel
from p2p.handshake import Greeting, HandshakeRefused, Hello, Identity, Session, shake_hands
from p2p.limits import Limits
from p2p.transport import Transport

log = structlog.get_logger("p2p")


class Greeter:
    """Makes sessions out of streams, both ways."""

    def __init__(
        self,
        *,
        seed: bytes,
        hello: Hello,
        channels: Sequence[Channel],
        transport: Transport,
        limits: Limits,
        dice: random.Random,
        refusal: Callable[[bytes, bool], str],
        on_refused: Callable[[str, bytes | None, bool], None],
    ) -> None:
        """*refusal*: node id and whether we dialled → "" or our code of refusal.

        *on_refused*: told the code, the node id if it was proved, and whether we dialled.
        """
        self._seed = seed
        self._channels = tuple(channels)
        self._transport = transport
        self._limits = limits
        self._dice = dice
        self._refusal = refusal
        self._on_refused = on_refused
        self.introduce(hello)

    def introduce(self, hello: Hello) -> None:
        """From now on we say *hello* of ourselves."""
        self._identity = Identity(seed=self._seed, hello=hello, channels=self._channels)

    async def dial(self, address: PeerAddress) -> trio.abc.Stream | None:
        """A stream to *address*, or None, with the reason logged."""
        try:
            with trio.fail_after(self._limits.dial_timeout_seconds):
                return await self._transport.dial(address.endpoint)
        except (OSError, trio.TooSlowError) as error:
            log.debug("dial_failed", address=str(address), why=repr(error))
            return None

    async def is_there(self, address: PeerAddress) -> bool:
        """Whether a dial to *address* meets that node; the connection is not kept."""
        stream = await self.dial(address)
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
            await _close(stream)
        return False

    async def shake_hands(
        self, stream: trio.abc.Stream, *, host: str, outbound: bool, expected: bytes | None = None
    ) -> Session | None:
        """The session, or None if the other side is none of ours; then *stream* is closed."""
        session: Session | None = None
        try:
            session = await self._shake_hands(stream, host=host, outbound=outbound, expected=expected)
        finally:
            if session is None:
                await _close(stream)
        return session

    async def _shake_hands(
        self, stream: trio.abc.Stream, *, host: str, outbound: bool, expected: bytes | None
    ) -> Session | None:
        def judge(greeting: Greeting) -> str:
            if expected is not None and greeting.node_id != expected:
                return "handshake.unexpected_identity"
            return self._refusal(greeting.node_id, outbound)

        code, why, node_id = "", "", None
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
            node_id = refused.greeting.node_id
        self._on_refused(code, node_id, outbound)
        say = log.info if outbound and code != "handshake.duplicate" else log.debug  # strangers can't fill the log
        say("handshake_failed", host=host, outbound=outbound, code=code, why=why)
        return None


async def _close(stream: trio.abc.Stream) -> None:
    """*stream* is closed at once, also while we are being cancelled."""
    with trio.CancelScope(shield=True):
        await trio.aclose_forcefully(stream)
