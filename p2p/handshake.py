"""Two nodes meet: Noise XX, each side's static key bound to its node id, and both sides' consent.

Messages are Noise handshake messages with 2 bytes of length before each. The second and third carry a greeting: who
I am, which chain I am on, which channels I speak. After the third both sides send one record with their verdict, an
empty text or a stable code of refusal, so that both know why a connection ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import trio

from consensus.codec import BadMessage, decode, encode
from consensus.shape import Count, Hash, Length, PublicKey, Range, Signature, from_bytes, to_bytes
from consensus.signing import public_key, sha256, sign, sign_bytes, verify
from p2p.channel import MESSAGE_OVERHEAD_BYTES, Channel
from p2p.noise import XXHandshake
from p2p.records import LENGTH_BYTES, RecordReader, RecordWriter

PROTOCOL_VERSION = 1
HANDSHAKE_BYTES_MAX = 8_192
"""The largest handshake message: a greeting with 255 channels fits."""
VERDICT_BYTES_MAX = 96

REFUSALS = frozenset(
    {
        "handshake.banned",
        "handshake.dial_back",
        "handshake.duplicate",
        "handshake.full",
        "handshake.self",
        "handshake.unproven_identity",
        "handshake.unexpected_identity",
        "handshake.wrong_chain",
        "handshake.wrong_genesis",
        "handshake.wrong_version",
    }
)
"""Why a node may refuse another; the codes never change. ``dial_back``: I only looked whether you can be reached."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """What a node says about itself."""

    chain_id: Annotated[str, Length(50)]
    genesis_hash: Hash
    protocol_version: Annotated[int, Range(0, 65_535)] = PROTOCOL_VERSION
    moniker: Annotated[str, Length(64)]
    listen_address: Annotated[str, Length(300)] | None = None
    """``host:port`` where others can dial, ``0.0.0.0`` or ``[::]`` for the host that they see. None: nowhere."""


@dataclass(frozen=True, slots=True)
class ChannelOffer:
    """A channel as the receiver has it: its limits bind the other side."""

    id: Annotated[int, Range(1, 255)]
    message_bytes_max: Annotated[int, Range(1, 2**31)]
    receive_window_bytes: Annotated[int, Range(1, 2**31)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Greeting:
    """What travels inside the handshake."""

    node_id: PublicKey
    signature: Signature
    """By the node's key over its static key, for this chain: the same node, and no replay on another chain."""
    hello: Hello
    channels: Annotated[tuple[ChannelOffer, ...], Count(255)]


class HandshakeRefused(Exception):
    """One of the two sides does not want the other. ``code`` is one of REFUSALS, or ``handshake.unknown``."""

    def __init__(self, code: str, *, by_us: bool, greeting: Greeting) -> None:
        super().__init__(f"{code} ({'we refuse' if by_us else 'they refuse'})")
        self.code = code
        self.by_us = by_us
        self.greeting = greeting


@dataclass(frozen=True, slots=True)
class Session:
    """An agreed connection: who is there, and how to read and write records."""

    greeting: Greeting
    reader: RecordReader
    writer: RecordWriter


class Identity:
    """A node's keys and what it says in handshakes."""

    def __init__(self, *, seed: bytes, hello: Hello, channels: Sequence[Channel]) -> None:
        """*seed*: 32 bytes, the node key. The static key derives from it: nothing else to keep."""
        assert len({channel.id for channel in channels}) == len(channels), "each channel id once"
        self.node_id = public_key(seed)
        self.static = sha256(b"allting/noise-static/1" + seed)
        self.hello = hello
        static_public = XXHandshake(initiator=True, static=self.static, ephemeral=self.static).static_public
        greeting = Greeting(
            node_id=self.node_id,
            signature=sign(seed, _binding(hello.chain_id, static_public)),
            hello=hello,
            channels=tuple(
                ChannelOffer(channel.id, channel.message_bytes_max, channel.receive_window_bytes)
                for channel in channels
            ),
        )
        self.payload = encode((hello.protocol_version, to_bytes(greeting)))
        assert len(self.payload) <= HANDSHAKE_BYTES_MAX - 96


async def shake_hands(
    stream: trio.abc.Stream,
    identity: Identity,
    *,
    initiator: bool,
    ephemeral: bytes,
    judge: Callable[[Greeting], str],
) -> Session:
    """Both sides know and want each other.

    *ephemeral*: 32 fresh random bytes. *judge*: "" or our code of refusal for a node that proved its identity and
    is on our chain. Raises HandshakeRefused; BadMessage for a handshake that is none; trio.BrokenResourceError. The
    caller bounds the time.
    """
    noise = XXHandshake(initiator=initiator, static=identity.static, ephemeral=ephemeral)
    incoming = _Incoming(stream)
    if initiator:
        await _send(stream, noise.write())
        payload = noise.read(await incoming.message())
        await _send(stream, noise.write(identity.payload))
    else:
        noise.read(await incoming.message())
        await _send(stream, noise.write(identity.payload))
        payload = noise.read(await incoming.message())
    greeting, verdict = _examine(payload, noise.remote_static, identity)
    verdict = verdict or judge(greeting)
    assert verdict == "" or verdict in REFUSALS, verdict
    sending, receiving = noise.split()
    writer = RecordWriter(sending)
    await stream.send_all(writer.seal(encode(verdict)))
    sealed = await incoming.message()
    theirs = decode(receiving.decrypt(sealed), bytes_max=VERDICT_BYTES_MAX)
    if theirs == "handshake.dial_back":
        raise HandshakeRefused(theirs, by_us=False, greeting=greeting)
    if verdict:
        raise HandshakeRefused(verdict, by_us=True, greeting=greeting)
    if theirs != "":
        code = theirs if isinstance(theirs, str) and theirs in REFUSALS else "handshake.unknown"
        raise HandshakeRefused(code, by_us=False, greeting=greeting)
    return Session(greeting, RecordReader(receiving, incoming.leftover), writer)


def _binding(chain_id: str, static_public: bytes) -> bytes:
    return sign_bytes("node", chain_id, ("noise", static_public))


def _examine(payload: bytes, static_public: bytes, identity: Identity) -> tuple[Greeting, str]:
    """The greeting and "" or the code of refusal. The version is read before what it may change."""
    envelope = decode(payload, bytes_max=HANDSHAKE_BYTES_MAX)
    if not (isinstance(envelope, tuple) and len(envelope) == 2):
        raise BadMessage("not a greeting", "bad_message.handshake")
    version, body = envelope
    if type(version) is not int or not isinstance(body, bytes):
        raise BadMessage("not a greeting", "bad_message.handshake")
    ours = identity.hello
    if version != ours.protocol_version:
        return _stranger(ours), "handshake.wrong_version"
    greeting = from_bytes(Greeting, body, bytes_max=HANDSHAKE_BYTES_MAX)
    theirs = greeting.hello
    for offer in greeting.channels:
        if offer.receive_window_bytes < offer.message_bytes_max + MESSAGE_OVERHEAD_BYTES:
            raise BadMessage(f"channel {offer.id}: the window holds no message", "bad_message.handshake")
    if len({offer.id for offer in greeting.channels}) != len(greeting.channels):
        raise BadMessage("a channel is offered twice", "bad_message.handshake")
    if theirs.chain_id != ours.chain_id:
        return greeting, "handshake.wrong_chain"
    if theirs.genesis_hash != ours.genesis_hash:
        return greeting, "handshake.wrong_genesis"
    if not verify(greeting.node_id, _binding(ours.chain_id, static_public), greeting.signature):
        return greeting, "handshake.unproven_identity"
    if greeting.node_id == identity.node_id:
        return greeting, "handshake.self"
    return greeting, ""


def _stranger(ours: Hello) -> Greeting:
    """Stands for a node whose greeting we can't read because its protocol is another."""
    hello = Hello(chain_id=ours.chain_id, genesis_hash=ours.genesis_hash, moniker="")
    return Greeting(node_id=bytes(32), signature=bytes(64), hello=hello, channels=())


async def _send(stream: trio.abc.Stream, message: bytes) -> None:
    await stream.send_all(len(message).to_bytes(LENGTH_BYTES, "big") + message)


class _Incoming:
    """Length-prefixed messages from a stream, bounded."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self.leftover = b""

    async def message(self) -> bytes:
        length = int.from_bytes(await self._exactly(LENGTH_BYTES), "big")
        if not 0 < length <= HANDSHAKE_BYTES_MAX:
            raise BadMessage(f"a handshake message of {length} bytes", "bad_message.handshake")
        return await self._exactly(length)

    async def _exactly(self, size: int) -> bytes:
        while len(self.leftover) < size:
            data = await self._stream.receive_some(HANDSHAKE_BYTES_MAX)
            if not data:
                raise trio.BrokenResourceError("closed during the handshake")
            self.leftover += data
        message, self.leftover = self.leftover[:size], self.leftover[size:]
        return message
