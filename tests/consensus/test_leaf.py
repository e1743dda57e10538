"""Keys of the engine's own leaf."""

from __future__ import annotations

from consensus.leaf import leaf_key


def test_a_key_is_its_table_and_its_parts() -> None:
    """Integers in 8 bytes sort as numbers; no other part begins as a part of bytes goes on."""
    assert leaf_key("set") == b"set\x00"
    assert leaf_key("hour", 258) == b"hour\x00" + bytes(6) + b"\x01\x02"
    assert leaf_key("two", b"abc", 1) == b"two\x00" + b"\x00\x03abc" + bytes(7) + b"\x01"
