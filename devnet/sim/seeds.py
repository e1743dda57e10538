"""Which seeds to run, as people write it: ``7``, ``0..1000``, ``random:500``; and files of seeds that once failed."""

from __future__ import annotations

import random
from pathlib import Path

SEED_MAX = 2**53 - 1
"""Seeds stay whole in JSON."""
SEEDS_MAX = 10_000_000
"""A range beyond this is a slip of the hand."""


class BadSeeds(ValueError):
    """The text names no seeds; the message says what would."""


def parse(text: str) -> range:
    """The seeds that *text* means: ``7`` one, ``A..B`` from A to before B, ``random:N`` N from a fresh start."""
    kind, _, count = text.partition(":")
    if kind == "random" and count.isdecimal():
        length = int(count)
        first = random.SystemRandom().randrange(SEED_MAX - SEEDS_MAX)
        return _checked(text, first, first + length)
    low, dots, high = text.partition("..")
    if low.isdecimal() and not dots:
        return _checked(text, int(low), int(low) + 1)
    if low.isdecimal() and high.isdecimal():
        return _checked(text, int(low), int(high))
    raise BadSeeds(f"{text!r} names no seeds; say 7, 0..1000 or random:500")


def _checked(text: str, first: int, stop: int) -> range:
    if not 0 < stop - first <= SEEDS_MAX or stop > SEED_MAX:
        raise BadSeeds(f"{text!r} must name 1 to {SEEDS_MAX:,} seeds, the last below 2^53")
    return range(first, stop)


def kept(file: Path) -> list[int]:
    """The seeds in *file*: one a line, and after a ``#`` what it once found. Raises BadSeeds naming the line."""
    seeds: list[int] = []
    for number, line in enumerate(file.read_text("utf-8").splitlines(), 1):
        text = line.partition("#")[0].strip()
        if text and not text.isdecimal():
            raise BadSeeds(f"{file}:{number}: {text!r} is no seed")
        if text:
            seeds.append(int(text))
    return seeds
