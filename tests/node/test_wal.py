"""The write-ahead log loses nothing that was synced, cuts what was torn, and refuses what the disk changed."""

from __future__ import annotations

import errno
import os
import struct
import zlib
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node import wal as wal_module
from node.wal import Wal, WalDamaged

PAYLOADS = [b"first", b"second" * 9, b"\x00", b"fourth"]


def _filled(path: Path, payloads: list[bytes]) -> bytes:
    """The bytes of a log with *payloads*, all synced after the last one only."""
    wal = Wal.open(path)
    for payload in payloads:
        wal.append(payload)
    wal.close()
    return path.read_bytes()


def test_a_new_log_is_empty(tmp_path: Path) -> None:
    wal = Wal.open(tmp_path / "log")
    assert wal.entries() == []
    assert wal.cut_bytes == 0
    wal.close()


def test_what_was_synced_is_read_again_in_order(tmp_path: Path) -> None:
    _filled(tmp_path / "log", PAYLOADS)
    wal = Wal.open(tmp_path / "log")
    assert wal.entries() == PAYLOADS
    wal.append(b"fifth")
    wal.sync()
    wal.close()
    assert Wal.open(tmp_path / "log").entries() == [*PAYLOADS, b"fifth"]


def test_a_log_cut_at_any_byte_keeps_every_whole_record(tmp_path: Path) -> None:
    whole = _filled(tmp_path / "log", PAYLOADS)
    empty = len(_filled(tmp_path / "other", []))
    path = tmp_path / "cut"
    kept_before = 0
    for size in range(empty, len(whole) + 1):
        path.write_bytes(whole[:size])
        wal = Wal.open(path)
        kept = wal.entries()
        wal.close()
        assert kept == PAYLOADS[: len(kept)]
        assert len(kept) >= kept_before
        assert path.stat().st_size == size - wal.cut_bytes
        kept_before = len(kept)
    assert kept_before == len(PAYLOADS)


def test_after_a_cut_the_log_goes_on(tmp_path: Path) -> None:
    whole = _filled(tmp_path / "log", PAYLOADS)
    (tmp_path / "log").write_bytes(whole[:-1])
    wal = Wal.open(tmp_path / "log")
    assert wal.cut_bytes == wal_module._HEADER.size + len(PAYLOADS[-1])
    wal.append(b"again")
    wal.close()
    assert Wal.open(tmp_path / "log").entries() == [*PAYLOADS[:-1], b"again"]


def test_a_torn_batch_is_cut_even_where_its_later_pages_arrived(tmp_path: Path) -> None:
    path = tmp_path / "log"
    whole = bytearray(_filled(path, [b"one" * 10, b"two" * 10, b"three" * 10]))
    at = whole.index(b"two")
    whole[at : at + 30] = bytes(30)  # the page with the second record never reached the disk; nothing was synced before
    path.write_bytes(whole)
    wal = Wal.open(path)
    assert wal.entries() == [b"one" * 10]
    assert wal.cut_bytes > 0
    wal.close()


def test_a_tail_of_zeros_is_cut(tmp_path: Path) -> None:
    whole = _filled(tmp_path / "log", [b"one"])
    (tmp_path / "log").write_bytes(whole + bytes(4096))
    wal = Wal.open(tmp_path / "log")
    assert (wal.entries(), wal.cut_bytes) == ([b"one"], 4096)
    wal.close()


def test_a_changed_byte_in_what_was_synced_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "log"
    wal = Wal.open(path)
    wal.append(b"one")
    wal.sync()
    wal.append(b"two")
    wal.close()
    good = path.read_bytes()
    start = len(_filled(tmp_path / "empty", []))
    end_of_first = good.index(b"\xa1\x7eWR", start + 1)
    for at in range(start, end_of_first):
        path.write_bytes(good[:at] + bytes((good[at] ^ 1,)) + good[at + 1 :])
        with pytest.raises(WalDamaged, match="move it away"):
            Wal.open(path)


def test_a_file_that_is_no_log_is_damage(tmp_path: Path) -> None:
    for content in (b"", b"allting", b"something else entirely"):
        (tmp_path / "log").write_bytes(content)
        with pytest.raises(WalDamaged, match="does not begin"):
            Wal.open(tmp_path / "log")


def test_a_payload_that_contains_records_proves_nothing(tmp_path: Path) -> None:
    """A peer's bytes stand in the log; torn, they must not pass for records behind the tear."""
    path = tmp_path / "log"
    other = _filled(tmp_path / "other", [b"forged"])
    whole = _filled(path, [b"honest", b"x" * 10 + other[18:] + b"y"])
    path.write_bytes(whole[: whole.index(b"x" * 10)] + b"z" * 10 + whole[whole.index(b"x" * 10) + 10 :])
    wal = Wal.open(path)
    assert wal.entries() == [b"honest"]
    wal.close()


def _forged(size: int) -> bytes:
    """Twenty bytes again and again: each copy begins what looks like a record of half of *size*."""
    piece = b"\xa1\x7eWR" + struct.pack(">IIQ", 0, size // 2, 400)
    return bytes(400) + piece * (size // 2 // len(piece)) + bytes(size // 2)


def test_a_payload_of_many_records_inside_each_other_costs_a_bounded_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log"
    whole = _filled(path, [b"honest", _forged(2**18)])
    path.write_bytes(whole[:-1])
    checked = 0

    def counted(content: memoryview, start: int) -> int:
        nonlocal checked
        checked += len(content)
        return zlib.crc32(content, start)

    monkeypatch.setattr(wal_module, "zlib", SimpleNamespace(crc32=counted))
    wal = Wal.open(path)
    assert wal.entries() == [b"honest"]
    assert checked < 40 * len(whole)
    wal.close()


def test_damage_is_found_behind_a_payload_of_many_records_inside_each_other(tmp_path: Path) -> None:
    path = tmp_path / "log"
    wal = Wal.open(path)
    wal.append(_forged(2**18))
    wal.sync()
    wal.append(b"vote" * 40)
    wal.close()
    good = path.read_bytes()
    for at in (30, 100, 2**17, 2**18):
        path.write_bytes(good[:at] + bytes((good[at] ^ 1,)) + good[at + 1 :])
        with pytest.raises(WalDamaged, match="move it away"):
            Wal.open(path)


def test_reset_forgets_what_was_before(tmp_path: Path) -> None:
    path = tmp_path / "log"
    wal = Wal.open(path)
    wal.append(b"height 1")
    wal.sync()
    wal.reset(1)
    wal.append(b"height 2")
    wal.close()
    assert Wal.open(path).entries() == [b"height 2"]


def test_a_reset_that_a_crash_undid_brings_the_former_records_back(tmp_path: Path) -> None:
    path = tmp_path / "log"
    wal = Wal.open(path)
    wal.append(b"height 1")
    wal.sync()
    wal.reset(1)  # not synced: the process dies here
    assert Wal.open(path).entries() == [b"height 1"]


def test_a_large_log_is_begun_anew_at_reset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wal_module, "REWRITE_BYTES", 1000)
    path = tmp_path / "log"
    wal = Wal.open(path)
    sizes = []
    for height in range(1, 30):
        wal.append(b"%d" % height + bytes(200))
        wal.sync()
        wal.reset(height)
        sizes.append(path.stat().st_size)
    wal.append(b"last")
    wal.close()
    assert max(sizes) < 1500
    assert Wal.open(path).entries() == [b"last"]


def test_a_log_that_would_fill_the_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wal_module, "FILE_BYTES_MAX", 1000)
    wal = Wal.open(tmp_path / "log")
    for _ in range(4):
        wal.append(bytes(200))
    with pytest.raises(OSError, match="would grow beyond"):
        wal.append(bytes(200))
    wal.close()


@pytest.mark.parametrize("name", ["pwrite", "fdatasync"])
def test_after_a_disk_error_the_log_takes_nothing_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def fail(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "log"
    wal = Wal.open(path)
    wal.append(b"kept")
    wal.sync()
    with monkeypatch.context() as patch:
        patch.setattr(os, name, fail)
        wal.append(b"lost")
        with pytest.raises(OSError, match="No space left"):
            wal.sync()
    with pytest.raises(OSError, match="earlier write failed"):
        wal.sync()
    with pytest.raises(OSError, match="earlier write failed"):
        wal.append(b"more")
    wal.close()
    assert Wal.open(path).entries()[0] == b"kept"


def test_much_that_is_appended_does_not_wait_in_memory(tmp_path: Path) -> None:
    wal = Wal.open(tmp_path / "log")
    for _ in range(20):
        wal.append(bytes(100_000))
    assert (tmp_path / "log").stat().st_size > 1_500_000
    wal.close()
    wal.close()


@settings(max_examples=40, deadline=None)
@given(
    steps=st.lists(st.one_of(st.binary(min_size=1, max_size=40), st.sampled_from(["sync", "reset", "reopen"]))),
    lost=st.integers(0, 200),
)
def test_a_crash_loses_only_what_was_not_synced(
    tmp_path_factory: pytest.TempPathFactory, steps: list[bytes | str], lost: int
) -> None:
    path = tmp_path_factory.mktemp("wal") / "log"
    wal = Wal.open(path)
    appended: list[bytes] = []  # since the last reset
    durable, durable_size = 0, path.stat().st_size  # how many of them are surely on the disk
    height = 0
    for step in steps:
        if isinstance(step, bytes):
            wal.append(step)
            appended.append(step)
            continue
        if step == "reset":
            wal.reset(height := height + 1)
            appended = []
        elif step == "reopen":
            wal.close()
            wal = Wal.open(path)
            assert wal.entries() == appended
        wal.sync()
        durable, durable_size = len(appended), path.stat().st_size
    wal.close()
    data = path.read_bytes()
    path.write_bytes(data[: max(durable_size, len(data) - lost)])
    found = Wal.open(path).entries()
    assert found == appended[: len(found)]
    assert len(found) >= durable
