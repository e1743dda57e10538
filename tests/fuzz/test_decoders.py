"""Whatever bytes come: a value, or a refusal that the caller expects; never anything else, and always the same."""

import tracemalloc
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.decoder import Decoder
from tests.fuzz.decoders import DECODERS
from tests.fuzz.grammar import damaged

EXAMPLES = 60
PER_BYTE, SPARE_BYTES = 600, 400_000
"""Memory that reading may take for each byte of input, and besides."""
BOMBS = (
    b"\xdd\xff\xff\xff\xff",
    b"\xdc\xff\xff" * 300,
    b"\x91" * 5_000,
    b"\xc6\xff\xff\xff\xff" + bytes(50),
    b"\x92\x00\xdd\x00\x10\x00\x00" + b"\xc0" * 64,
    b"[" * 20_000,
    b"9" * 20_000,
    b"\x00\x01\xff\xff" + bytes(64),
)


def outcome(decoder: Decoder, data: bytes) -> Any:
    """What *decoder* makes of *data*: the value, or the refusal's kind."""
    try:
        return decoder.read(data)
    except decoder.refusals as refusal:
        return type(refusal)


@pytest.mark.parametrize("decoder", DECODERS, ids=lambda decoder: decoder.name)
def test_a_message_or_what_became_of_it_is_read_or_refused(decoder: Decoder) -> None:
    @settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def check(data: st.DataObject) -> None:
        sample = data.draw(decoder.samples)
        for message in (sample, data.draw(damaged(sample)), data.draw(st.binary(max_size=60))):
            value = outcome(decoder, message)
            if decoder.write is not None and not isinstance(value, type):
                assert decoder.write(value) == message, "one value has one encoding"

    check()


@pytest.mark.parametrize("decoder", DECODERS, ids=lambda decoder: decoder.name)
def test_bytes_that_announce_more_than_they_hold_take_no_memory(decoder: Decoder) -> None:
    for bomb in BOMBS:
        tracemalloc.start()
        try:
            outcome(decoder, bomb)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < PER_BYTE * len(bomb) + SPARE_BYTES, (bomb[:10], peak)
