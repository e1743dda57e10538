"""What an invite link vouches for is kept on disk, and no other block of that height is taken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from node.stopped import NodeStopped
from node.trust_root import BadTrustRoot, TrustRoot, read_trust_root

ROOT = TrustRoot(7, b"\x01" * 32)


def test_a_written_root_is_read_back(tmp_path: Path) -> None:
    ROOT.write(tmp_path / "root")
    assert read_trust_root(tmp_path / "root") == ROOT


def test_without_a_file_there_is_no_root(tmp_path: Path) -> None:
    assert read_trust_root(tmp_path / "root") is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "{}",
        '{"height": 7}',
        '{"height": "x", "block_id": ""}',
        json.dumps({"height": 7, "block_id": "zz"}),
        json.dumps({"height": 7, "block_id": "00"}),
        json.dumps({"height": -1, "block_id": "00" * 32}),
    ],
)
def test_a_damaged_file_is_refused_with_what_to_do(text: str, tmp_path: Path) -> None:
    (tmp_path / "root").write_text(text)
    with pytest.raises(BadTrustRoot, match="join again"):
        read_trust_root(tmp_path / "root")


def test_only_its_own_height_is_vouched_for() -> None:
    ROOT.require(7, b"\x01" * 32)
    ROOT.require(8, bytes(32))
    with pytest.raises(NodeStopped, match="another chain"):
        ROOT.require(7, bytes(32))
