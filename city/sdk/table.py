"""State as a module declares it: tables, indexes over them, single cells.

Declared on the class; each execution binds its own copy to the rows that it sees, so that nothing holds a reference
between calls.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from city.sdk.keys import after_prefix, decoder_of, encode_parts, encoder_of, table_prefix
from city.sdk.refusal import Refused
from city.sdk.space import Space
from city.sdk.types import PAGE_ROWS_MAX
from city.sdk.values import reader_of, writer_of
from consensus.codec import encode

if TYPE_CHECKING:
    from typing import Self

    from typing_extensions import TypeForm

K = TypeVar("K")
V = TypeVar("V")
P = TypeVar("P")
D = TypeVar("D")
NOTHING = encode(None)
"""The value of an index's row: its key says all."""


@dataclass(frozen=True, slots=True)
class Page(Generic[K, V]):
    """Some rows in key order. `next` is the key to go on after, None at the end; a short page may not be the last."""

    rows: tuple[tuple[K, V], ...]
    next: K | None


class Stored:
    """What a module declares in its state: it has a name, and a copy of it is bound to an execution's rows."""

    name = ""
    module = ""
    _space: Space

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name
        self.module = getattr(owner, "name", "")
        self._prefix = table_prefix(name)

    def bound(self, space: Space) -> Self:
        """A copy that reads and writes *space*."""
        twin = copy.copy(self)
        twin._space = space
        return twin


class Table(Stored, Generic[K, V]):
    """Rows of one type by key: ``tools = Table(int, Tool)``; a key may be a tuple. Iteration is in key order."""

    def __init__(self, key: TypeForm[K], value: TypeForm[V]) -> None:
        self.key_type: Any = key
        self.value_type: Any = value
        self.indexes: list[Index[Any, K, V]] = []
        self._decode_key = decoder_of(key)
        self._encode_key = encoder_of(b"", key)
        self._write_value = writer_of(self.value_type)
        self._read_value = reader_of(self.value_type)

    def __set_name__(self, owner: type, name: str) -> None:
        super().__set_name__(owner, name)
        self._encode_key = encoder_of(self._prefix, self.key_type)

    def index(self, part: TypeForm[P], by: Callable[[V], P | None]) -> Index[P, K, V]:
        """Declares an index: rows by what *by* says of them (None: not listed)."""
        index = Index(self, part, by)
        self.indexes.append(index)
        return index

    def row_key(self, key: K) -> bytes:
        """The state key of the row *key*."""
        return self._encode_key(key)

    @overload
    def get(self, key: K) -> V | None: ...
    @overload
    def get(self, key: K, default: D) -> V | D: ...
    def get(self, key: K, default: Any = None) -> Any:
        """The row of *key*, *default* if absent."""
        value = self._space.read(self._encode_key(key), self._read_value)
        return default if value is None else value

    def __getitem__(self, key: K) -> V:
        """The row of *key*; refused as ``<module>.<table>_absent`` if there is none."""
        value: V | None = self._space.read(self._encode_key(key), self._read_value)
        if value is None:
            raise self._refused("absent")
        return value

    def __contains__(self, key: K) -> bool:
        """Whether there is a row of *key*."""
        return self._space.read(self._encode_key(key), self._read_value) is not None

    def __setitem__(self, key: K, value: V) -> None:
        """The row of *key* is *value*, whether there was one or not."""
        raw_key = self._encode_key(key)
        raw = self._write_value(value)
        if self.indexes:
            self._reindex(key, self._space.read(raw_key, self._read_value), value)
        self._space.write(raw_key, raw, value)

    def insert(self, key: K, value: V) -> None:
        """A new row; refused as ``<module>.<table>_present`` if there is one."""
        if key in self:
            raise self._refused("present")
        self[key] = value

    def remove(self, key: K) -> V:
        """The row of *key* is gone; it is returned. Refused as ``<module>.<table>_absent`` if there is none."""
        old = self[key]
        self._reindex(key, old, None)
        self._space.write(self.row_key(key), None, None)
        return old

    def page(
        self,
        after: K | None = None,
        limit: int = PAGE_ROWS_MAX,
        *,
        under: object = (),
        where: Callable[[V], bool] | None = None,
        reverse: bool = False,
    ) -> Page[K, V]:
        """Up to *limit* rows after the key *after*; looks at no more than 1,000.

        Only rows whose key begins with the part or parts *under*, and that *where* accepts.
        """
        start = self._prefix + encode_parts(under)
        stop = after_prefix(start)
        if after is not None and reverse:
            stop = self.row_key(after)
        elif after is not None:
            start = self.row_key(after) + b"\x00"
        rows: list[tuple[K, V]] = []
        offset = len(self._prefix)
        scan = self._space.scan(start, stop, self._read_value, reverse=reverse)
        for seen, (raw_key, value) in enumerate(scan, 1):
            key = self._decode_key(raw_key, offset)[0]
            if where is None or where(value):
                rows.append((key, value))
            if len(rows) >= limit or seen >= PAGE_ROWS_MAX:
                return Page(tuple(rows), key)
        return Page(tuple(rows), None)

    def first(self, *, under: object = ()) -> tuple[K, V] | None:
        """The first row whose key begins with *under*."""
        rows = self.page(limit=1, under=under).rows
        return rows[0] if rows else None

    def last(self, *, under: object = ()) -> tuple[K, V] | None:
        """The last row whose key begins with *under*."""
        rows = self.page(limit=1, under=under, reverse=True).rows
        return rows[0] if rows else None

    def all(self) -> Iterator[tuple[K, V]]:
        """Every row. For invariants only, which run outside of blocks: it has no bound."""
        offset = len(self._prefix)
        for raw_key, value in self._space.scan(self._prefix, after_prefix(self._prefix), self._read_value):
            yield self._decode_key(raw_key, offset)[0], value

    def _reindex(self, key: K, old: V | None, new: V | None) -> None:
        for index in self.indexes:
            index.move(self._space, key, old, new)

    def _refused(self, what: str) -> Refused:
        text = "there is no such row in {table}" if what == "absent" else "there is such a row in {table} already"
        return Refused(f"{self.module}.{self.name}_{what}", text, {"table": self.name})


class Index(Stored, Generic[P, K, V]):
    """Rows of a table by something in them: ``by_holder = tools.index(Address, lambda it: it.holder)``."""

    def __init__(self, table: Table[K, V], part: object, by: Callable[[V], P | None]) -> None:
        self.table = table
        self.part_type = part
        self._by = by
        self._decode_part = decoder_of(part)

    def bound_to(self, table: Table[K, V], space: Space) -> Self:
        """A copy that reads *space* and looks rows up in *table*."""
        twin = self.bound(space)
        twin.table = table
        return twin

    def move(self, space: Space, key: K, old: V | None, new: V | None) -> None:
        """The row *key* changes from *old* to *new*: it is listed where it now belongs."""
        before = None if old is None else self._by(old)
        after = None if new is None else self._by(new)
        if before == after:
            return
        if before is not None:
            space.write(self._row(before, key), None, None)
        if after is not None:
            space.write(self._row(after, key), NOTHING, True)

    def page(self, part: P, after: K | None = None, limit: int = PAGE_ROWS_MAX) -> Page[K, V]:
        """Up to *limit* (≤ 1,000) rows that *part* is said of, in key order, after the key *after*."""
        start = self._prefix + encode_parts(part)
        stop = after_prefix(start)
        if after is not None:
            start = self._row(part, after) + b"\x00"
        rows: list[tuple[K, V]] = []
        for raw_key, _ in self._space.scan(start, stop, _listed):
            _, offset = self._decode_part(raw_key, len(self._prefix))
            key = self.table._decode_key(raw_key, offset)[0]
            rows.append((key, self.table[key]))
            if len(rows) >= min(limit, PAGE_ROWS_MAX):
                return Page(tuple(rows), key)
        return Page(tuple(rows), None)

    def first(self, part: P) -> tuple[K, V] | None:
        """The first row that *part* is said of."""
        rows = self.page(part, limit=1).rows
        return rows[0] if rows else None

    def _row(self, part: P, key: K) -> bytes:
        return self._prefix + encode_parts(part) + encode_parts(key)


class Cell(Stored, Generic[V]):
    """One value of a module: ``supply = Cell(Amount, 0)``, read and set as ``self.supply.value``."""

    def __init__(self, value: TypeForm[V], default: V) -> None:
        self.value_type: Any = value
        self.default = default
        self._write_value = writer_of(self.value_type)
        self._read_value = reader_of(self.value_type)

    @property
    def value(self) -> V:
        """What the cell holds."""
        value: V | None = self._space.read(self._prefix, self._read_value)
        return self.default if value is None else value

    @value.setter
    def value(self, value: V) -> None:
        self._space.write(self._prefix, self._write_value(value), value)


def _listed(raw: bytes) -> bool:
    return raw == NOTHING


__all__ = ["Cell", "Index", "Page", "Stored", "Table"]
