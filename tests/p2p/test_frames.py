"""Records and frames: what goes in comes out, and garbage is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.codec import BadMessage
from p2p import frames
from p2p.noise import CipherState
from p2p.records import RECORD_PLAINTEXT_MAX, RecordReader, RecordWriter

KEY = bytes(range(32))


@given(st.lists(st.binary(min_size=1, max_size=400), max_size=20), st.data())
def test_records_survive_any_cutting_of_the_stream(plaintexts: list[bytes], data: st.DataObject) -> None:
    writer, reader = RecordWriter(CipherState(KEY)), RecordReader(CipherState(KEY))
    stream = b"".join(writer.seal(plaintext) for plaintext in plaintexts)
    out: list[bytes] = []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        out += reader.feed(stream[:size])
        stream = stream[size:]
    assert out == plaintexts


def test_the_largest_record_fits_its_length_field() -> None:
    writer, reader = RecordWriter(CipherState(KEY)), RecordReader(CipherState(KEY))
    plaintext = bytes(RECORD_PLAINTEXT_MAX)
    assert reader.feed(writer.seal(plaintext)) == [plaintext]
    with pytest.raises(AssertionError):
        writer.seal(plaintext + b"x")


@pytest.mark.parametrize("record", [b"\0\0", b"\0\x0f" + bytes(15), b"\0\x10" + bytes(16)])
def test_a_forged_or_stunted_record_is_refused(record: bytes) -> None:
    with pytest.raises(BadMessage):
        RecordReader(CipherState(KEY)).feed(record)


@given(
    st.lists(st.tuples(st.integers(0, 255), st.lists(st.binary(max_size=50), min_size=1, max_size=9)), min_size=1),
)
def test_whole_sections_read_back(batches: list[tuple[int, list[bytes]]]) -> None:
    plaintext = b"".join(frames.whole_section(channel_id, messages) for channel_id, messages in batches)
    expected = [(frames.WHOLE, channel_id, 0, messages) for channel_id, messages in batches]
    assert frames.read_sections(plaintext) == expected


def test_pieces_read_back() -> None:
    plaintext = frames.begin_section(3, 1_000_000, b"abc") + frames.more_section(3, b"def")
    assert frames.read_sections(plaintext) == [(frames.BEGIN, 3, 1_000_000, [b"abc"]), (frames.MORE, 3, 0, [b"def"])]


@pytest.mark.parametrize(
    "plaintext",
    [
        b"",
        b"\0\1",
        b"\0\1\0\0",
        b"\0\1\0\2\0\1",
        b"\0\1\0\1\0\5abcd",
        b"\1\1\0\1\0\0",
        b"\1\1\0\4\0\0\0\x08abc",
        b"\2\1\0\4abc",
        b"\3\1\0\1a",
    ],
)
def test_a_malformed_section_is_a_bad_message(plaintext: bytes) -> None:
    with pytest.raises(BadMessage) as refused:
        frames.read_sections(plaintext)
    assert refused.value.code == "bad_message.frame"


@given(st.binary(max_size=200))
def test_any_bytes_read_as_sections_or_as_a_bad_message(plaintext: bytes) -> None:
    try:
        sections = frames.read_sections(plaintext)
    except BadMessage:
        return
    assert sum(len(message) for section in sections for message in section[3]) <= len(plaintext)
