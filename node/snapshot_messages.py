"""What nodes say to each other about the past that a newcomer need not execute: headers, and the state at a height.

A snapshot is the state tree of a height, read from above: whoever knows a hash asks for what lies below it, and gets
either all entries there (`StateEntries`) or the node that stands there (`StateNode`), with hashes to go on from. So
every answer is verified by itself, by whom it concerns at once, and nobody has to believe how much there is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, TypeAlias

from consensus.application import STATE_KEY_BYTES_MAX
from consensus.block import Commit, Header, ModuleRoot
from consensus.shape import Count, Hash, Range, Size
from consensus.transaction import Name
from consensus.validators import ValidatorSet
from consensus.vote import Height

SNAPSHOTS_MAX = 2
"""Heights whose state is kept for newcomers."""
MODULES_MAX = 256
HEADERS_MAX = 512
"""In one answer: about 200 kB."""
PIECE_ENTRIES_MAX = 1_024
"""Entries in one answer: 10 to 20 ms of work on each side."""
PIECE_BYTES_MAX = 512 * 2**10
"""Of keys and values in one answer, unless a single entry is larger."""
VALUE_BYTES_MAX = 16 * 2**20
PLACES = 16
DEPTH_MAX = 64

Path = Annotated[bytes, Size(0, DEPTH_MAX)]
"""From the root of a module's tree downward, one byte, 0…15, for each level of 16."""


@dataclass(frozen=True, slots=True)
class WantSnapshots:
    """Which heights' state can be fetched from you?"""


@dataclass(frozen=True, slots=True)
class Snapshots:
    """These heights' state can be fetched from the sender, newest first."""

    heights: Annotated[tuple[Height, ...], Count(SNAPSHOTS_MAX)]


@dataclass(frozen=True, slots=True)
class WantLightBlock:
    """Please send header and commit of this height, with the sets that they name."""

    height: Height


@dataclass(frozen=True, slots=True)
class LightBlockHere:
    """A header, a commit of more than 2/3 for it, the set of its height, and that of the next if it is another one."""

    header: Header
    commit: Commit
    validators: ValidatorSet
    next_validators: ValidatorSet | None


@dataclass(frozen=True, slots=True)
class WantHeaders:
    """Please send the headers from this height down, that many."""

    height: Height
    count: Annotated[int, Range(1, HEADERS_MAX)]


@dataclass(frozen=True, slots=True)
class Headers:
    """Headers, descending, from the height that was asked for."""

    headers: Annotated[tuple[Header, ...], Count(HEADERS_MAX, 1)]


@dataclass(frozen=True, slots=True)
class WantModuleRoots:
    """Please send the leaves of this height's application hash."""

    height: Height


@dataclass(frozen=True, slots=True)
class ModuleRoots:
    """The leaves of the application hash after a height, sorted by name."""

    height: Height
    roots: Annotated[tuple[ModuleRoot, ...], Count(MODULES_MAX)]


@dataclass(frozen=True, slots=True)
class WantState:
    """Please send what lies at this path of the module's tree after this height."""

    height: Height
    module: Name
    path: Path


Entry = tuple[Annotated[bytes, Size(0, STATE_KEY_BYTES_MAX)], Annotated[bytes, Size(0, VALUE_BYTES_MAX)]]
"""Key and value."""


@dataclass(frozen=True, slots=True)
class StateEntries:
    """All entries whose key hash begins with the path that was asked for, ascending by key hash."""

    entries: Annotated[tuple[Entry, ...], Count(PIECE_ENTRIES_MAX)]


@dataclass(frozen=True, slots=True)
class Place:
    """What stands in one place of a node, as what its hash is made of.

    So nobody can show a leaf for a node or the other way round: the hash of one begins with 00, of the other with 01.
    """

    is_node: bool
    first: Hash
    """A leaf's key hash; a node's left half."""
    second: Hash
    """A leaf's value hash; a node's right half."""


@dataclass(frozen=True, slots=True)
class StateNode:
    """The node at the path that was asked for: there is too much below for one answer."""

    places: Annotated[tuple[Place | None, ...], Count(PLACES, PLACES)]


SnapshotQuestion: TypeAlias = WantSnapshots | WantLightBlock | WantHeaders | WantModuleRoots | WantState
SnapshotAnswer: TypeAlias = Snapshots | LightBlockHere | Headers | ModuleRoots | StateEntries | StateNode

QUESTIONS = (WantSnapshots, WantLightBlock, WantHeaders, WantModuleRoots, WantState)
KINDS = (
    WantSnapshots,
    Snapshots,
    WantLightBlock,
    LightBlockHere,
    WantHeaders,
    Headers,
    WantModuleRoots,
    ModuleRoots,
    WantState,
    StateEntries,
    StateNode,
)
"""For the table of channel `sync`."""
