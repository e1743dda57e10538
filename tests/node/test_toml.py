"""Promises of the TOML reader and writer: places are right, and what is written reads back."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.toml import BadToml, Document, dotted, line_of, to_toml, undotted

TEXT = """\
top = 1
"odd key" = 2

[a]          # a table
b.c = 3
list = [
  1,
  2,
]
inline = { x = 1 }
[[a.rows]]
v = 1
[[a.rows]]
v = 2
[a.rows.deep]
w = 3
words = '''
[not.a.table]
'''
after = 1
"""


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("top",), 1),
        (("odd key",), 2),
        (("a",), 4),
        (("a", "b", "c"), 5),
        (("a", "list"), 6),
        (("a", "list", 1), 6),
        (("a", "inline", "x"), 10),
        (("a", "rows", 0, "v"), 12),
        (("a", "rows", 1), 13),
        (("a", "rows", 1, "v"), 14),
        (("a", "rows", 1, "deep", "w"), 16),
        (("a", "rows", 1, "deep", "after"), 20),
        (("a", "missing"), 4),
        (("missing",), None),
        ((), None),
    ],
)
def test_a_key_is_found_where_it_stands(path: tuple[str | int, ...], line: int | None) -> None:
    assert line_of(TEXT, path) == line


def test_a_fault_names_all_that_is_known() -> None:
    document = Document(TEXT, name="x.toml")
    assert str(document.fault(("a", "rows", 1, "v"), "no")) == "x.toml, line 14: a.rows[1].v: no"
    assert str(document.fault(("b", "odd key"), "no")) == 'x.toml: b."odd key": no'
    assert str(document.fault((), "no")) == "x.toml: no"


def test_a_deeply_nested_text_is_refused() -> None:
    with pytest.raises(BadToml):
        Document("a = " + "[" * 50_000, name="x")


def test_dotted_paths_read_as_people_write_them() -> None:
    assert dotted(("a", "b-c", "d e", 3)) == 'a.b-c."d e"[3]'


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
SCALARS = st.integers(-(2**63), 2**63 - 1) | st.booleans() | TEXTS
TABLES = st.recursive(
    st.dictionaries(TEXTS, SCALARS | st.lists(SCALARS, max_size=3), max_size=3),
    lambda inner: st.dictionaries(TEXTS, inner | st.lists(inner, min_size=1, max_size=2), max_size=3),
    max_leaves=8,
)


@given(TABLES)
def test_whatever_is_written_reads_back(table: dict[str, Any]) -> None:
    assert tomllib.loads(to_toml(table)) == table


def test_what_toml_lacks_is_not_written() -> None:
    with pytest.raises(TypeError, match="NoneType"):
        to_toml({"a": None})


@given(
    st.lists(st.text(max_size=5) | st.integers(0, 99), max_size=5).filter(
        lambda path: bool(path) and isinstance(path[0], str)
    )
)
def test_a_path_that_people_write_reads_back(path: list[str | int]) -> None:
    assert undotted(f"{dotted(tuple(path))}: wrong: really") == (tuple(path), "wrong: really")


def test_a_text_without_a_path_is_left_alone() -> None:
    assert undotted("the set is empty: add one") == ((), "the set is empty: add one")
