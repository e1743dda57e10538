"""The durable log of events, and the indexes that find them by module, name and address.

The events themselves stand in the results of each height. Table ``places`` says where: ``kind ‖ length ‖ key ‖
height`` → ``transaction ‖ number`` of each place in that block, 4 bytes each: one row for a key and a height.
"""

from __future__ import annotations

import enum
import struct
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import lmdb

from consensus.application import Event, Result
from consensus.shape import INTEGER_MAX
from node.store_environment import Environment

PLACES = "places"
LIMIT_MAX = 1_000
"""Most events or places in one answer."""
_ADDRESS_BYTES = 20
_PLACE = struct.Struct(">II")
_KEY_BYTES_MAX = 200


class Cursor(NamedTuple):
    """A place in the log. Ordered; a reader that remembers its last one loses nothing."""

    height: int
    transaction: int
    """0 is ``begin``, 1 the first transaction, the last ``end``."""
    number: int
    """Of the event within it, from 0; for a sender's transaction without an event, 0."""


BEGINNING = Cursor(0, 0, -1)
"""Before every event."""


class Kind(enum.Enum):
    """What places can be searched by."""

    ANY = b"*"
    """Every event; the key is empty."""
    MODULE = b"m"
    EVENT = b"e"
    """``module.name``."""
    ADDRESS = b"a"
    """20 bytes: a field of the event, or the sender of the transaction."""


EVENT_KINDS = frozenset({Kind.ANY.value, Kind.MODULE.value})
"""What the log is read by, in order; the other kinds are the index."""
INDEX_KINDS = frozenset({Kind.EVENT.value, Kind.ADDRESS.value})


def write_places(
    transaction: lmdb.Transaction[bytes],
    table: lmdb._Database,
    height: int,
    results: Sequence[Result],
    senders: Sequence[bytes | None],
) -> int:
    """The events of block *height* are indexed, and the *senders* of its transactions. Returns the number of puts."""
    rows = place_rows(results, senders)
    suffix = height.to_bytes(8, "big")
    for space, places in sorted(rows.items()):
        transaction.put(space + suffix, b"".join(places), db=table)
    return len(rows)


def place_rows(results: Sequence[Result], senders: Sequence[bytes | None]) -> dict[bytes, list[bytes]]:
    """Under which beginnings of keys a block with these *results* and *senders* is found, and at which places."""
    rows: defaultdict[bytes, list[bytes]] = defaultdict(list)
    pack = _PLACE.pack
    for index, result in enumerate(results):
        sender = senders[index - 1] if 0 < index <= len(senders) else None
        if sender is not None:
            rows[_OF_ADDRESS + sender].append(pack(index, 0))
        for number, event in enumerate(result.events):
            place = pack(index, number)
            for space in _spaces(event.module, event.name):
                rows[space].append(place)
            fields = event.fields
            if type(fields) is tuple:
                for field in fields:
                    if type(field) is bytes and len(field) == _ADDRESS_BYTES:
                        places = rows[_OF_ADDRESS + field]
                        if not places or places[-1] != place:  # a sender is in its own events, too
                            places.append(place)
    return rows


def search(
    environment: Environment,
    kind: Kind,
    key: bytes,
    *,
    after: Cursor | None,
    limit: int,
    newest_first: bool = False,
) -> list[Cursor]:
    """At most *limit* places of *key*, those beyond *after* in the order asked for (None: from its beginning)."""
    assert 0 < limit <= LIMIT_MAX, limit
    found: list[Cursor] = []
    if len(key) > _KEY_BYTES_MAX:
        return found
    for place in _walk(environment, _space(kind, key), after, newest_first=newest_first):
        if after is None or (place < after if newest_first else place > after):
            found.append(place)
            if len(found) == limit:
                break
    return found


def events_after(
    environment: Environment,
    results_of: Callable[[int], Sequence[Result]],
    cursor: Cursor,
    *,
    limit: int,
    module: str | None,
) -> list[tuple[Cursor, Event]]:
    """At most *limit* events after *cursor*, ascending; only those of *module*, if given."""
    kind, key = (Kind.ANY, b"") if module is None else (Kind.MODULE, module.encode("utf-8"))
    places = search(environment, kind, key, after=cursor, limit=limit)
    return [(place, results_of(place.height)[place.transaction].events[place.number]) for place in places]


@lru_cache(maxsize=1_024)
def _spaces(module: str, name: str) -> tuple[bytes, bytes, bytes]:
    """The beginnings of the rows under which an event is found, whatever its fields."""
    space, word = module.encode("utf-8"), name.encode("utf-8")
    return _space(Kind.ANY, b""), _space(Kind.MODULE, space), _space(Kind.EVENT, space + b"." + word)


def _space(kind: Kind, key: bytes) -> bytes:
    """The beginning of a key's rows. Its length stands first, so that no key's rows lie among another's."""
    return kind.value + len(key).to_bytes(2, "big") + key


def _walk(environment: Environment, space: bytes, after: Cursor | None, *, newest_first: bool) -> Iterator[Cursor]:
    """Every place in *space*, ascending from *after*'s height, or descending from it."""
    end = len(space)
    if newest_first:
        height = INTEGER_MAX if after is None else min(after.height, INTEGER_MAX)
        if height < 0:
            return
        row = environment.last_at_or_before(PLACES, space + height.to_bytes(8, "big"))
    else:
        height = 0 if after is None else min(max(after.height, 0), INTEGER_MAX)
        row = environment.first_at_or_after(PLACES, space + height.to_bytes(8, "big"))
    while row is not None and row[0].startswith(space) and len(row[0]) == end + 8:
        height = int.from_bytes(row[0][end:], "big")
        places = [Cursor(height, *place) for place in _PLACE.iter_unpack(row[1])]
        yield from reversed(places) if newest_first else places
        if newest_first:
            if height == 0:
                return
            row = environment.last_at_or_before(PLACES, space + (height - 1).to_bytes(8, "big"))
        else:
            row = environment.first_at_or_after(PLACES, space + (height + 1).to_bytes(8, "big"))


_OF_ADDRESS = _space(Kind.ADDRESS, bytes(_ADDRESS_BYTES))[:-_ADDRESS_BYTES]
