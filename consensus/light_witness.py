"""Holds what one node proved against what another shows: an attack by more than a third of the power is seen here.

Skipping convinces a client that more than a third of the power stands behind a block. If that third lies, only a node
with another block of the height can show it. So every block that a client believes on a *primary*'s word is compared
with what *witnesses* show, one run of `examine` for each of them.
"""

from __future__ import annotations

import enum
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from consensus.block import Header
from consensus.light import BadLightBlock, Offer, Step, TrustedBlock, trace
from consensus.light_attack import LightClientAttack, contradicts_time
from consensus.params import Params


class Side(enum.StrEnum):
    """Whom to ask."""

    PRIMARY = "primary"
    WITNESS = "witness"


@dataclass(frozen=True, slots=True)
class Ask:
    """A light block that is needed: from which side, of which height (None: the latest that it has)."""

    side: Side
    height: int | None


@dataclass(frozen=True, slots=True)
class Agrees:
    """The witness shows the block that the primary proved."""


@dataclass(frozen=True, slots=True)
class Silent:
    """The witness does not show that height, and nothing that contradicts it: it is behind, or does not answer."""


@dataclass(frozen=True, slots=True)
class Lies:
    """The witness shows a block that nothing proves: it is to be dropped. The text says where it breaks."""

    why: str


@dataclass(frozen=True, slots=True)
class Diverged:
    """Two blocks are proved that can't both be of one chain: more than a third of the power lies. Believe neither."""

    common_height: int
    """The last height at which both sides agree."""
    primary: Header
    witness: Header
    """The first blocks on their ways that contradict each other, as far as the ways show it."""
    against_primary: LightClientAttack
    """For the witness, and whoever follows the same chain."""
    against_witness: LightClientAttack | None
    """For the primary; None where the primary did not show enough of its own chain to make one."""


Verdict = Agrees | Silent | Lies | Diverged
Examination = Generator[Ask, Offer | None, Verdict]


def examine(way: Sequence[Step], now_ms: int, params: Params) -> Examination:
    """What a witness says to the *way* by which a primary's block was proved (`consensus.light.trace`).

    A generator: it yields what it needs next, is sent the `Offer` (None where that side has none), and returns the
    verdict. It asks for the latest block at most once, and for no height of a side twice. What a witness shows and
    can't prove is a verdict, never an exception.
    """
    target = way[-1].trusted
    assert isinstance(target, TrustedBlock), "the way leads somewhere"
    top = yield Ask(Side.WITNESS, target.height)
    if top is None:
        top = yield Ask(Side.WITNESS, None)
        if top is None or not contradicts_time(target.header, top.light_block.header):
            return Silent()
    elif top.light_block.header == target.header:
        return Agrees()
    elif top.light_block.header.height != target.height:
        return Lies(f"height {target.height} was asked for, height {top.light_block.header.height} was shown")
    try:
        return (yield from _compared(way, top, now_ms, params))
    except _NotShown:
        return Silent()
    except BadLightBlock as error:
        return Lies(str(error))


class _NotShown(Exception):
    """A side has no block of a height that decides the question."""


def _compared(way: Sequence[Step], top: Offer, now_ms: int, params: Params) -> Examination:
    """The verdict on a witness whose highest block, *top*, contradicts the end of *way*.

    Raises BadLightBlock if the witness can't prove its own, _NotShown if it does not show enough.
    """
    place, theirs = yield from _first_conflict(way, top)
    common, ours = way[place - 1].trusted, way[place]
    shown = {theirs.light_block.header.height: theirs}
    steps = trace(common, theirs.light_block.header.height, now_ms, params)
    other_way = yield from _driven(steps, shown)
    return Diverged(
        common_height=common.height,
        primary=_header(ours),
        witness=theirs.light_block.header,
        against_primary=_attack(common.height, ours),
        against_witness=(yield from _against_witness(other_way, _header(ours))),
    )


def _first_conflict(way: Sequence[Step], top: Offer) -> Generator[Ask, Offer | None, tuple[int, Offer]]:
    """The place of the first step of *way* that contradicts the witness, and the block of the witness against it."""
    top_height = top.light_block.header.height
    place = 0
    while True:
        place += 1
        height = way[place].trusted.height
        if height > top_height:
            return place, top
        theirs = top if height == top_height else (yield Ask(Side.WITNESS, height))
        if theirs is None:
            raise _NotShown
        shown = theirs.light_block.header
        if shown.height != height:
            raise BadLightBlock("light.height", f"height {height} was asked for, height {shown.height} was shown")
        if shown != _header(way[place]):
            return place, theirs


def _driven(
    steps: Generator[int, Offer, tuple[Step, ...]], shown: dict[int, Offer]
) -> Generator[Ask, Offer | None, tuple[Step, ...]]:
    """The way that *steps* finds through the witness's blocks; those in *shown* are not asked for again."""
    wanted = next(steps)
    while True:
        offer = shown.get(wanted) or (yield Ask(Side.WITNESS, wanted))
        if offer is None:
            raise _NotShown
        try:
            wanted = steps.send(offer)
        except StopIteration as stop:
            way: tuple[Step, ...] = stop.value
            return way


def _against_witness(way: Sequence[Step], primary: Header) -> Generator[Ask, Offer | None, LightClientAttack | None]:
    """The proof for the primary: the first step of the witness's *way* that contradicts the primary's chain."""
    for before, step in pairwise(way):
        height = step.trusted.height
        if height == primary.height:
            return _attack(before.trusted.height, step)
        own = yield Ask(Side.PRIMARY, height)
        if own is None:
            return None
        if own.light_block.header != _header(step):
            return _attack(before.trusted.height, step)
    return None


def _attack(common_height: int, step: Step) -> LightClientAttack:
    assert step.offer is not None, "only the first step of a way was not offered"
    return LightClientAttack.of(common_height, step.offer.light_block, step.offer.validators)


def _header(step: Step) -> Header:
    assert isinstance(step.trusted, TrustedBlock), "only the first step of a way may be the genesis"
    return step.trusted.header
