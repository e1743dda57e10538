"""Channel 0: what is said reads back, and nothing else is understood."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.codec import BadMessage, encode
from p2p.address import PeerAddress
from p2p.control import (
    ADDRESSES_MAX,
    CONTROL_BYTES_MAX,
    Addresses,
    AskAddresses,
    ControlMessage,
    Credit,
    Leaving,
    Ping,
    Pong,
    decode_control,
    encode_control,
)

ADDRESS = PeerAddress(bytes(32), "10.0.0.1", 1)


@pytest.mark.parametrize(
    "message",
    [
        Ping(0),
        Pong(2**63 - 1, 5),
        Credit(255, 1),
        AskAddresses(),
        Addresses(()),
        Addresses((ADDRESS,) * ADDRESSES_MAX),
        Leaving("stopping"),
    ],
)
def test_a_message_reads_back(message: ControlMessage) -> None:
    data = encode_control(message)
    assert len(data) <= CONTROL_BYTES_MAX
    assert decode_control(data) == message


@pytest.mark.parametrize(
    "wire",
    [
        (),
        1,
        (0,),
        (1,),
        (1, -1),
        (1, True),
        (True, 1),
        (1, 2**63),
        (2, 1),
        (3, 0, 1),
        (3, 1, 0),
        (3, 1, 2**32),
        (3, True, 1),
        (4, 1),
        (5, ("x",)),
        (5, (1,)),
        (5, (str(ADDRESS),) * (ADDRESSES_MAX + 1)),
        (6, "x" * 65),
        (6, b"x"),
        (7,),
    ],
)
def test_anything_else_is_a_bad_message(wire: object) -> None:
    with pytest.raises(BadMessage):
        decode_control(encode(wire))


@given(st.binary(max_size=100))
def test_any_bytes_are_understood_or_a_bad_message(data: bytes) -> None:
    try:
        message = decode_control(data)
    except BadMessage:
        return
    assert encode_control(message) == data
