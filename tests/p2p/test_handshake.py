"""Who is let in, who is refused and with which code, and who can't pretend."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from consensus.codec import BadMessage, encode
from consensus.shape import to_bytes
from consensus.signing import sign
from p2p.handshake import (
    REFUSALS,
    Greeting,
    HandshakeRefused,
    Identity,
    Session,
    _binding,
    shake_hands,
)
from p2p.memory import memory_stream_pair
from p2p.noise import XXHandshake
from tests.p2p.nodes import channel, hello, identity, seed, welcome


async def attempt(one: Identity, two: Identity, *, judge_two: str = "") -> tuple[object, object]:
    """What each side gets: a session or an exception. *one* dials."""
    near, far = memory_stream_pair()
    results: dict[str, object] = {}

    async def side(name: str, stream: trio.abc.Stream, who: Identity, initiator: bool, verdict: str) -> None:
        try:
            results[name] = await shake_hands(
                stream, who, initiator=initiator, ephemeral=bytes([initiator + 3]) * 32, judge=lambda greeting: verdict
            )
        except (HandshakeRefused, BadMessage, trio.BrokenResourceError) as error:
            results[name] = error
            await stream.aclose()

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(side, "one", near, one, True, "")
            nursery.start_soon(side, "two", far, two, False, judge_two)
    return results["one"], results["two"]


async def test_two_nodes_of_one_chain_learn_who_the_other_is() -> None:
    at_one, at_two = await attempt(identity(1), identity(2))
    assert isinstance(at_one, Session)
    assert isinstance(at_two, Session)
    assert at_one.greeting.node_id == identity(2).node_id
    assert at_two.greeting.hello == hello(1)
    record = at_one.writer.seal(b"hello")
    assert at_two.reader.feed(record) == [b"hello"]


@pytest.mark.parametrize(
    ("stranger", "code"),
    [
        (identity(2, chain_id="other-1"), "handshake.wrong_chain"),
        (identity(2, genesis_hash=bytes([1]) * 32), "handshake.wrong_genesis"),
        (identity(2, protocol_version=2), "handshake.wrong_version"),
        (identity(1), "handshake.self"),
    ],
)
async def test_a_node_of_another_world_is_refused_by_both_sides(stranger: Identity, code: str) -> None:
    for refused in await attempt(identity(1), stranger):
        assert isinstance(refused, HandshakeRefused)
        assert (refused.code, refused.by_us) == (code, True)


async def test_both_sides_know_the_reason_when_one_refuses() -> None:
    at_one, at_two = await attempt(identity(1), identity(2), judge_two="handshake.full")
    assert isinstance(at_one, HandshakeRefused)
    assert isinstance(at_two, HandshakeRefused)
    assert (at_one.code, at_one.by_us) == ("handshake.full", False)
    assert (at_two.code, at_two.by_us) == ("handshake.full", True)


def forged(signature: bytes, node_number: int = 3, version: int = 1) -> Identity:
    """An identity of node 2's static key that claims to be another node."""
    forger = identity(2)
    greeting = Greeting(node_id=identity(node_number).node_id, signature=signature, hello=hello(2), channels=())
    forger.payload = encode((version, to_bytes(greeting)))
    return forger


def static_public(of: Identity) -> bytes:
    return XXHandshake(initiator=True, static=of.static, ephemeral=of.static).static_public


@pytest.mark.parametrize(
    "signature",
    [
        pytest.param(bytes(64), id="no signature"),
        pytest.param(sign(seed(2), _binding("test-1", static_public(identity(2)))), id="signed by its own key"),
        pytest.param(sign(seed(3), _binding("test-1", static_public(identity(3)))), id="replayed from the real node"),
        pytest.param(sign(seed(3), _binding("other-1", static_public(identity(2)))), id="signed for another chain"),
    ],
)
async def test_nobody_can_pretend_to_be_another_node(signature: bytes) -> None:
    _, at_two = await attempt(forged(signature), identity(1))
    assert isinstance(at_two, HandshakeRefused)
    assert at_two.code == "handshake.unproven_identity"


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc0",
        encode((1,)),
        encode((1, 2)),
        encode((1, b"")),
        encode(("1", b"")),
        encode((1, encode((1, 2, 3, 4)))),
    ],
)
async def test_a_greeting_that_is_none_is_a_bad_message(payload: bytes) -> None:
    stranger = identity(2)
    stranger.payload = payload
    _, at_two = await attempt(stranger, identity(1))
    assert isinstance(at_two, BadMessage)


async def test_a_window_smaller_than_its_message_is_a_bad_message() -> None:
    narrow = channel(1, message_bytes_max=1_000, receive_window_bytes=2_000)
    object.__setattr__(narrow, "receive_window_bytes", 1_000)
    _, at_two = await attempt(identity(2, (narrow,)), identity(1))
    assert isinstance(at_two, BadMessage)


@pytest.mark.parametrize(
    "garbage", [b"GET / HTTP/1.1\r\n\r\n", b"\0\0", b"\xff\xff", b"\0\x20" + bytes(32), bytes(9000)]
)
async def test_garbage_is_a_bad_message(garbage: bytes) -> None:
    near, far = memory_stream_pair()
    await near.send_all(garbage)
    await near.aclose()
    with pytest.raises((BadMessage, trio.BrokenResourceError)):
        await shake_hands(far, identity(1), initiator=False, ephemeral=bytes(32), judge=welcome)


async def test_bytes_that_follow_the_handshake_at_once_are_not_lost() -> None:
    near, far = memory_stream_pair()
    done: list[Session] = []

    async def dial() -> None:
        session = await shake_hands(near, identity(1), initiator=True, ephemeral=bytes([1]) * 32, judge=welcome)
        await near.send_all(session.writer.seal(b"one") + session.writer.seal(b"two"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(dial)
        done.append(await shake_hands(far, identity(2), initiator=False, ephemeral=bytes([2]) * 32, judge=welcome))
    out = done[0].reader.feed(b"")
    while len(out) < 2:
        out += done[0].reader.feed(await far.receive_some())
    assert out == [b"one", b"two"]


def test_codes_of_refusal_never_change() -> None:
    assert sorted(REFUSALS) == [
        "handshake.banned",
        "handshake.dial_back",
        "handshake.duplicate",
        "handshake.full",
        "handshake.self",
        "handshake.unexpected_identity",
        "handshake.unproven_identity",
        "handshake.wrong_chain",
        "handshake.wrong_genesis",
        "handshake.wrong_version",
    ]
