"""TOML with places: every complaint names the key and its line; and a writer."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Path = tuple["str | int", ...]
"""Keys from the top; an integer is the place in an array of tables, from 0."""

STATEMENT_LINES_MAX = 500
"""A value that spans more lines is not looked into when a line is searched."""

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_PART = re.compile(r'(?:\.|^)(?:([A-Za-z0-9_-]+)|("(?:[^"\\]|\\.)*"))|\[(\d+)\]')


class BadToml(ValueError):
    """The text can't be used; says name, line, key and what to do."""


class Document:
    """A parsed TOML text that can say where its keys stand. `data` is what it holds."""

    def __init__(self, text: str, *, name: str, error: type[BadToml] = BadToml) -> None:
        self._text = text
        self._name = name
        self._error = error
        try:
            self.data: dict[str, Any] = tomllib.loads(text)
        except (tomllib.TOMLDecodeError, RecursionError) as fault:
            raise error(f"{name}: not TOML: {fault}") from None

    def fault(self, path: Path, text: str) -> BadToml:
        """The error to raise about the value at *path*: names the key, and its line or that of the table around it."""
        line = line_of(self._text, path)
        place = f"{self._name}, line {line}" if line else self._name
        key = dotted(path)
        return self._error(f"{place}: {key}: {text}" if key else f"{place}: {text}")


def dotted(path: Path) -> str:
    """*path* as people write it: ``town.coin.accounts[2].amount``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if _BARE_KEY.fullmatch(part) else json.dumps(part))
    return text


def undotted(text: str) -> tuple[Path, str]:
    """The path that *text* begins with, as `dotted` writes it before a colon, and what follows; () if none does."""
    path: Path = ()
    at = 0
    while (part := _PART.match(text, at)) is not None:
        bare, quoted, index = part.groups()
        path = (*path, int(index) if index else json.loads(quoted) if quoted else bare)
        at = part.end()
    return (path, text[at + 2 :]) if path and text.startswith(": ", at) else ((), text)


def line_of(text: str, path: Path) -> int | None:
    """The line (from 1) where the key at *path* stands in the valid TOML *text*, else the nearest table around it."""
    while path:
        for line, prefix, value in _statements(text):
            if path[: len(prefix)] == prefix and _holds(value, path[len(prefix) :]):
                return line
        path = path[:-1]
    return None


def _holds(value: Any, path: Path) -> bool:
    for part in path:
        if isinstance(part, int):
            if not isinstance(value, list) or part >= len(value):
                return False
        elif not isinstance(value, dict) or part not in value:
            return False
        value = value[part]
    return True


def _statements(text: str) -> Iterator[tuple[int, Path, Any]]:
    """Line, path and value of every table header and every assignment. A header's path leads to {}."""
    lines = text.split("\n")
    table: Path = ()
    counts: dict[Path, int] = {}
    at = 0
    while at < len(lines):
        size, parsed = _statement(lines, at)
        line, at = at + 1, at + size
        if not parsed:
            continue
        if lines[line - 1].lstrip().startswith("["):
            table = _table_path(parsed, counts)
            yield line, table, {}
        else:
            yield line, table, parsed


def _statement(lines: Sequence[str], at: int) -> tuple[int, dict[str, Any]]:
    """The number of lines of the statement that begins at line index *at*, and what it says alone."""
    for size in range(1, min(STATEMENT_LINES_MAX, len(lines) - at) + 1):
        try:
            return size, tomllib.loads("\n".join(lines[at : at + size]))
        except tomllib.TOMLDecodeError:
            continue
    return 1, {}


def _table_path(header: dict[str, Any], counts: dict[Path, int]) -> Path:
    """The path of a header such as ``[[a.b]]``, parsed alone; *counts* holds the arrays of tables met so far."""
    path: Path = ()
    value: Any = header
    while value and isinstance(value, dict):
        ((key, value),) = value.items()
        path = (*path, key)
        if isinstance(value, list):
            counts[path] = counts.get(path, -1) + 1
            return (*path, counts[path])
        if value and path in counts:  # [a.b] after [[a]] stands in the last a
            path = (*path, counts[path])
    return path


def to_toml(data: Mapping[str, Any]) -> str:
    """TOML text that reads as *data*: text, integers, booleans, lists of these, tables, and lists of tables."""
    lines: list[str] = []
    _write_table(lines, (), data)
    return "\n".join(lines).strip("\n") + "\n"


def _write_table(lines: list[str], path: tuple[str, ...], table: Mapping[str, Any]) -> None:
    inner = {key: value for key, value in table.items() if isinstance(value, Mapping) or _is_table_list(value)}
    for key, value in table.items():
        if key not in inner:
            lines.append(f"{_key(key)} = {value_toml(value)}")
    for key, value in inner.items():
        below = (*path, key)
        name = ".".join(_key(part) for part in below)
        if isinstance(value, Mapping):
            lines.extend(("", f"[{name}]"))
            _write_table(lines, below, value)
        else:
            for item in value:
                lines.extend(("", f"[[{name}]]"))
                _write_table(lines, below, item)


def _is_table_list(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(item, Mapping) for item in value)


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _text(key)


def value_toml(value: Any) -> str:
    """One value as TOML: text, integer, boolean, or a list of these."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(value_toml(item) for item in value) + "]"
    raise TypeError(f"{type(value).__name__} is not written to TOML")


def _text(value: str) -> str:
    """A basic string. JSON's escapes are TOML's, but for DEL; lone surrogates are in neither."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
