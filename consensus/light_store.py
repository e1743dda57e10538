"""The blocks that a light client believes: a bounded memory from which any height can be reached.

Kept in memory only; whoever wants to go on after a restart writes `TrustedBlocks.all` somewhere and reads it back.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable

from consensus.block import Header
from consensus.light import BadLightBlock, Trusted, TrustedBlock

TRUSTED_MAX = 1_000
"""Believed blocks that are kept, each with its next set; beyond, the oldest goes."""

HEADERS_MAX = 10_000
"""Headers that were believed on the way back and are kept for the next way, about 1 KiB each."""


class TrustedBlocks:
    """A root of trust and the blocks believed since, at most *most*; never two of one height."""

    def __init__(self, root: Trusted, blocks: Iterable[TrustedBlock] = (), *, most: int = TRUSTED_MAX) -> None:
        """*blocks* were believed before. Raises BadLightBlock if two of them contradict each other."""
        assert most >= 1, most
        self._most = most
        self._root = root
        self._blocks: dict[int, TrustedBlock] = {}
        self._heights: list[int] = []
        """Those of `_blocks`, ascending."""
        self._headers: dict[int, Header] = {}
        """Believed for their hash alone, in the order in which they came."""
        if isinstance(root, TrustedBlock):
            self.add(root)
        for block in blocks:
            self.add(block)

    @property
    def latest(self) -> Trusted:
        """The highest block that is believed; the root before any."""
        return self._blocks[self._heights[-1]] if self._heights else self._root

    @property
    def all(self) -> tuple[TrustedBlock, ...]:
        """Every block with its next set, lowest first."""
        return tuple(self._blocks[height] for height in self._heights)

    def add(self, block: TrustedBlock) -> None:
        """*block* is believed; the oldest is forgotten where there are too many. Raises BadLightBlock for a second one.

        The latest is never forgotten.
        """
        known = self._blocks.get(block.height)
        if known is not None:
            _require_same(known.header, block.header)
            return
        if block.height in self._headers:
            _require_same(self._headers[block.height], block.header)
        self._blocks[block.height] = block
        insort(self._heights, block.height)
        if len(self._heights) > self._most:
            del self._blocks[self._heights.pop(0)]

    def remember(self, header: Header) -> None:
        """*header* is believed because a later block's hashes lead to it. Raises BadLightBlock for a second one."""
        known = self.header(header.height)
        if known is not None:
            _require_same(known, header)
            return
        self._headers[header.height] = header
        if len(self._headers) > HEADERS_MAX:
            del self._headers[next(iter(self._headers))]

    def header(self, height: int) -> Header | None:
        """The believed header of *height*, None if it is not known (yet, or any more)."""
        block = self._blocks.get(height)
        return self._headers.get(height) if block is None else block.header

    def above(self, height: int) -> Header | None:
        """The lowest believed header at or above *height*, from which a way leads back; None if there is none."""
        place = bisect_left(self._heights, height)
        found = [self._blocks[self._heights[place]].header] if place < len(self._heights) else []
        walked = min((each for each in self._headers if each >= height), default=None)
        found += [] if walked is None else [self._headers[walked]]
        return min(found, key=lambda header: header.height, default=None)


def _require_same(known: Header, other: Header) -> None:
    if known.id != other.id:
        raise BadLightBlock(
            "light.two_blocks",
            f"two blocks of height {known.height} are proved: {known.id.hex()} and {other.id.hex()}",
        )
