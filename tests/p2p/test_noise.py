"""Noise against published vectors, and against liars."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.codec import BadMessage
from p2p.noise import MESSAGE_BYTES_MAX, CipherState, XXHandshake

INITIATOR_STATIC = bytes(range(0x20))
RESPONDER_STATIC = bytes(range(0x01, 0x21))
INITIATOR_EPHEMERAL = bytes(range(0x20, 0x40))
RESPONDER_EPHEMERAL = bytes(range(0x41, 0x61))
FIRST_KEY = "358072d6365880d1aeea329adf9121383851ed21a28e3b75e965d0d2cd166254"
SECOND_KEYS = (
    "64b101b1d0be5a8704bd078f9895001fc03e8e9f9522f188dd128d9846d48466"
    "3414af878d3e46a2f58911a816d6e8346d4ea17a6f2a0bb4ef4ed56c133cff45"
)
THIRD_KEY = "87f864c11ba449f46a0a4f4e2eacbb7b0457784f4fca1937f572c93603e9c4d9"

VECTORS = [
    pytest.param(
        b"",
        (b"", b"", b""),
        (
            FIRST_KEY,
            SECOND_KEYS + "60a34e36ea82109f26cf2e5a5caf992b608d55c747f615e5a3425a7a19eefb8f",
            THIRD_KEY + "7e5ea11b16f3968710b23a3be3202dc1b5e1ce3c963347491e74f5c0768a9b42",
        ),
        id="empty payloads",
    ),
    pytest.param(
        b"",
        (b"test_msg_0", b"test_msg_1", b"test_msg_2"),
        (
            FIRST_KEY + "746573745f6d73675f30",
            SECOND_KEYS + "72e7a2ba5123ac30618b3d205f5c2d17f50cbca216483ac56bcc78e33bf520303278db641e5e731b2e3a",
            THIRD_KEY + "f27e318e43ba630594c4d08eeb3b36d97c7377a2f4f9144b2f0c8095ad92140505b2ab53eff244b14138",
        ),
        id="payloads",
    ),
    pytest.param(
        b"notsecret",
        (b"", b"", b""),
        (
            FIRST_KEY,
            SECOND_KEYS + "88f043d1e49a3289b1beeab8f96b0551a48cddf9f38b1a12e46c6908644198f3",
            THIRD_KEY + "5a04fa1f1c41fb3f00d496f242c1e44ce5b749b3d54bf74cea2dad086d601fb6",
        ),
        id="prologue",
    ),
]
"""Noise_XX_25519_ChaChaPoly_SHA256 as flynn/noise, and after it several libp2p implementations, publish it."""


def sides(prologue: bytes = b"") -> tuple[XXHandshake, XXHandshake]:
    return (
        XXHandshake(initiator=True, static=INITIATOR_STATIC, ephemeral=INITIATOR_EPHEMERAL, prologue=prologue),
        XXHandshake(initiator=False, static=RESPONDER_STATIC, ephemeral=RESPONDER_EPHEMERAL, prologue=prologue),
    )


@pytest.mark.parametrize(("prologue", "payloads", "messages"), VECTORS)
def test_handshake_agrees_with_the_published_vectors(
    prologue: bytes, payloads: tuple[bytes, ...], messages: tuple[str, ...]
) -> None:
    initiator, responder = sides(prologue)
    turns = [(initiator, responder), (responder, initiator), (initiator, responder)]
    for (writer, reader), payload, expected in zip(turns, payloads, messages, strict=True):
        message = writer.write(payload)
        assert message.hex() == expected
        assert reader.read(message) == payload
    assert initiator.hash == responder.hash
    assert initiator.remote_static == responder.static_public
    assert responder.remote_static == initiator.static_public

    sending, receiving = initiator.split()
    their_sending, their_receiving = responder.split()
    first = sending.encrypt(b"yellowsubmarine")
    assert first.hex() == "a52ef02ba60e12696d1d6b9ef4245c88fca757b6134ad6e76b56e310a6adf6"
    assert their_receiving.decrypt(first) == b"yellowsubmarine"
    second = their_sending.encrypt(b"submarineyellow")
    assert second.hex() == "2445aa438ebd649281c636cc7269ca82f1d9023d72520943aeabf909cdf521"
    assert receiving.decrypt(second) == b"submarineyellow"


def test_a_record_can_be_read_once_and_in_order_only() -> None:
    key = bytes(32)
    sender, receiver = CipherState(key), CipherState(key)
    first, second = sender.encrypt(b"one"), sender.encrypt(b"two")
    with pytest.raises(BadMessage):
        CipherState(key).decrypt(second)
    assert receiver.decrypt(first) == b"one"
    with pytest.raises(BadMessage):
        receiver.decrypt(first)


def test_a_point_of_small_order_is_refused() -> None:
    _, responder = sides()
    responder.read(bytes(32))
    with pytest.raises(BadMessage) as refused:
        responder.write()
    assert refused.value.code == "bad_message.weak_key"


def test_turns_are_kept() -> None:
    initiator, responder = sides()
    with pytest.raises(AssertionError):
        responder.write()
    initiator.write()
    with pytest.raises(AssertionError):
        initiator.write()
    with pytest.raises(AssertionError):
        initiator.split()


@given(st.data())
def test_any_changed_byte_of_the_second_or_third_message_is_noticed(data: st.DataObject) -> None:
    initiator, responder = sides()
    responder.read(initiator.write())
    second = bytearray(responder.write(b"payload"))
    changed = data.draw(st.booleans(), label="change the second message")
    if not changed:
        initiator.read(bytes(second))
        third = bytearray(initiator.write(b"payload"))
        place = data.draw(st.integers(0, len(third) - 1))
        third[place] ^= data.draw(st.integers(1, 255))
        with pytest.raises(BadMessage):
            responder.read(bytes(third))
        return
    place = data.draw(st.integers(0, len(second) - 1))
    flip = data.draw(st.integers(1, 255))
    second[place] ^= flip
    if place == 31 and flip == 128:
        return  # X25519 ignores the top bit, and the transcript is checked by the next message
    with pytest.raises(BadMessage):
        initiator.read(bytes(second))


@given(st.binary(max_size=300))
def test_garbage_is_a_bad_message_and_nothing_else(garbage: bytes) -> None:
    initiator, responder = sides()
    initiator.write()
    with pytest.raises(BadMessage):
        initiator.read(garbage)
    try:
        responder.read(garbage)
        responder.write()
    except BadMessage:
        pass


def test_a_message_never_exceeds_the_limit_of_the_protocol() -> None:
    initiator, _ = sides()
    with pytest.raises(AssertionError):
        initiator.write(bytes(MESSAGE_BYTES_MAX))
