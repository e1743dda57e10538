"""Strangers at the door: they dial honest nodes and speak garbage, one layer deeper each time, or a byte a second."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import trio

from consensus.codec import BadMessage, encode
from devnet.sim.node_machine import SimNode
from node.engine import CHANNELS
from p2p import frames
from p2p.address import Endpoint
from p2p.handshake import HandshakeRefused, Hello, Identity, Session, shake_hands

if TYPE_CHECKING:
    from devnet.sim.node_world import NodeWorld

PAUSE_S = 1.0
VISIT_S = 15.0
"""So long a visit lasts at most."""
DRIPS = 60


async def intrude(world: NodeWorld, node: SimNode, dice: random.Random) -> None:
    """One visit after another, from the machine of *node*, until cancelled."""
    while True:
        await trio.sleep(dice.expovariate(1 / PAUSE_S))
        victim = dice.choice(world.honest)
        visit = dice.choice((_noise, _drip, _bad_record, _bad_frame, _bad_control, _flood))
        world.trace.fault("lie_intruder", f"{visit.__name__} at {victim.number}")
        with trio.move_on_after(VISIT_S):
            try:
                stream = await world.links.transport(f"stranger{node.number}").dial(Endpoint(victim.host, world.port))
                async with stream:
                    await visit(stream, world, dice)
            except (OSError, trio.BrokenResourceError, HandshakeRefused, BadMessage):
                continue  # it was shown the door


async def _noise(stream: trio.abc.Stream, world: NodeWorld, dice: random.Random) -> None:
    """Bytes that are no handshake."""
    await stream.send_all(dice.randbytes(dice.randint(1, 100_000)))
    await trio.sleep(dice.random())


async def _drip(stream: trio.abc.Stream, world: NodeWorld, dice: random.Random) -> None:
    """A handshake that never ends."""
    await stream.send_all((32).to_bytes(2, "big"))
    for _ in range(DRIPS):
        await stream.send_all(dice.randbytes(1))
        await trio.sleep(1.0)


async def _bad_record(stream: trio.abc.Stream, world: NodeWorld, dice: random.Random) -> None:
    """Behind the handshake, bytes that nobody sealed."""
    await _greeted(stream, world, dice)
    await stream.send_all(dice.randbytes(1_000))
    await trio.sleep(dice.random())


async def _bad_frame(stream: trio.abc.Stream, world: NodeWorld, dice: random.Random) -> None:
    """Sealed, but no sections."""
    session = await _greeted(stream, world, dice)
    await stream.send_all(session.writer.seal(dice.randbytes(dice.randint(1, 500))))
    await trio.sleep(dice.random())


async def _bad_control(stream: trio.abc.Stream, world: NodeWorld, dice: random.Random) -> None:
    """Sections, but no messages that p2p knows; or more credit than there can be."""
    session = await _greeted(stream, world, dice)
    channel_id = dice.choice((0, *(channel.id for channel in CHANNELS)))
    said = dice.choice((dice.randbytes(40), encode((3, 1, 2**32 - 1)), encode((2, 7, 7)), encode((5, ("x",) * 64))))
    await stream.send_all(session.writer.seal(frames.whole_section(channel_id, [said] * dice.randint(1, 50))))
    await trio.sleep(dice.random())


async def _flood(stream: trio.abc.Stream, world: NodeWorld, dice: random.Random) -> None:
    """The beginning of a large message, again and again, and never its end."""
    session = await _greeted(stream, world, dice)
    for _ in range(50):
        channel = dice.choice(CHANNELS)
        await stream.send_all(
            session.writer.seal(frames.begin_section(channel.id, channel.message_bytes_max, dice.randbytes(2_000)))
        )
        await trio.sleep(0.01)


async def _greeted(stream: trio.abc.Stream, world: NodeWorld, dice: random.Random) -> Session:
    """A session as somebody whom nobody knows."""
    hello = Hello(chain_id=world.genesis.chain_id, genesis_hash=world.genesis.hash, moniker="stranger")
    identity = Identity(seed=dice.randbytes(32), hello=hello, channels=CHANNELS)
    return await shake_hands(stream, identity, initiator=True, ephemeral=dice.randbytes(32), judge=lambda _: "")
