"""Seeds as people write them, and files of seeds."""

from __future__ import annotations

from pathlib import Path

import pytest

from devnet.sim.seeds import SEED_MAX, SEEDS_MAX, BadSeeds, kept, parse


def test_one_seed_a_range_and_a_fresh_range() -> None:
    assert parse("7") == range(7, 8)
    assert parse("0..1000") == range(1000)
    one, other = parse("random:500"), parse("random:500")
    assert len(one) == len(other) == 500
    assert one != other
    assert max(one.stop, other.stop) <= SEED_MAX


@pytest.mark.parametrize("text", ["", "x", "5..", "..5", "5..5", "6..5", "-1", "random:", "random:0", "1..2..3", "1,2"])
def test_what_names_no_seeds_is_refused_with_what_would(text: str) -> None:
    with pytest.raises(BadSeeds, match=r"0\.\.1000|must name"):
        parse(text)


def test_a_slip_of_the_hand_is_no_range() -> None:
    with pytest.raises(BadSeeds, match="must name 1 to"):
        parse(f"0..{SEEDS_MAX + 1}")
    with pytest.raises(BadSeeds):
        parse(str(SEED_MAX + 1))


def test_a_file_keeps_seeds_with_what_they_found(tmp_path: Path) -> None:
    file = tmp_path / "seeds.txt"
    file.write_text("# found by chance\n12  # a fork\n\n 7\n")
    assert kept(file) == [12, 7]
    file.write_text("12\nseven\n")
    with pytest.raises(BadSeeds, match=r"seeds\.txt:2: 'seven' is no seed"):
        kept(file)
