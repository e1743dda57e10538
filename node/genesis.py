"""The genesis file: what a chain begins with. Its hash is the chain's root; every node compares it with its peers'."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from consensus.application import Founder
from consensus.params import CITY, TINY, VALIDATORS_MAX, BadParams, Params
from consensus.signing import sha256
from consensus.transaction import CHAIN_ID_LENGTH_MAX
from consensus.validators import POWER_TOTAL_MAX
from node.toml import BadToml, Document, to_toml, undotted

GENESIS_BYTES_MAX = 16 * 2**20
MODULES_MAX = 128
VERSION_MAX = 2**31 - 1
TIME_MS_MAX = 2**53 - 1
PRESETS: Mapping[str, Params] = {"CITY": CITY, "TINY": TINY}

_CHAIN_ID = re.compile(rf"[a-z0-9][a-z0-9-]{{0,{CHAIN_ID_LENGTH_MAX - 1}}}")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_TOP = ("chain_id", "time_ms", "application", "application_version", "modules", "params", "town", "state", "validators")
_STATE = ("chain_id", "height", "app_hash", "chunks")
_VALIDATOR = ("public_key", "power", "name")
STATE_CHUNKS_MAX = 1_024
"""Of about a mebibyte: all of it is read at once when the chain begins."""


class BadGenesis(BadToml):
    """The genesis can't be used; names line and key, and says what is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FormerState:
    """The state that a chain goes on from: that of a former chain, in a file of its own beside the genesis."""

    chain_id: str
    """Of the former chain."""
    height: int
    app_hash: bytes
    """32 bytes: the former chain's header of that height commits to it."""
    chunks: tuple[bytes, ...]
    """SHA-256 of each chunk of the file, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenesisFile:
    """A genesis file that was read and checked, but for ``town``, which the application reads."""

    chain_id: str
    time_ms: int
    """Unix time, ms; the first block is not earlier."""
    application: str
    """Entry-point name in the group ``allting.applications``."""
    application_version: int
    modules: Mapping[str, int]
    """Module name (entry point in ``allting.modules``) → version."""
    params: Params
    town: Mapping[str, Any]
    """The application's own table, as TOML gave it."""
    state: FormerState | None = None
    """What the chain goes on from; None: it begins with `town`."""
    founders: tuple[Founder, ...] = ()
    """The first validators of a chain that goes on from a state, which don't come from `town`."""
    raw: bytes = field(repr=False)
    """The file, byte for byte."""
    hash: bytes
    """32 bytes, SHA-256 of `raw`; the last block id of header 1."""

    @classmethod
    def load(cls, path: Path) -> GenesisFile:
        """The genesis in *path*. Raises BadGenesis."""
        try:
            with path.open("rb") as file:
                data = file.read(GENESIS_BYTES_MAX + 1)
        except FileNotFoundError:
            raise BadGenesis(f"{path}: there is no genesis here; run allting init or allting join LINK") from None
        return cls.parse(data, name=str(path))

    @classmethod
    def parse(cls, raw: bytes, *, name: str = "genesis.toml") -> GenesisFile:
        """The genesis in *raw*. Raises BadGenesis naming key and line."""
        document = _document(raw, name)
        reader = _Reader(document)
        reader.known((), document.data, _TOP)
        chain_id = reader.text("chain_id")
        if not _CHAIN_ID.fullmatch(chain_id):
            raise document.fault(
                ("chain_id",), f"1…{CHAIN_ID_LENGTH_MAX} lower-case letters, digits and dashes, no dash first"
            )
        state = _former_state(document, reader.table("state")) if "state" in document.data else None
        for key in ("town",) if state is not None else ("validators",):
            if key in document.data:
                raise document.fault((key,), "does not go with a state" if state else "goes only with a state")
        return cls(
            chain_id=chain_id,
            time_ms=reader.integer("time_ms", TIME_MS_MAX),
            application=reader.name("application"),
            application_version=reader.integer("application_version", VERSION_MAX),
            modules=_modules(document, reader.table("modules")),
            params=_params(document, reader.table("params")),
            town=reader.table("town", required=False),
            state=state,
            founders=() if state is None else _founders(document, document.data.get("validators")),
            raw=raw,
            hash=sha256(raw),
        )

    def located(self, error: ValueError) -> ValueError:
        """*error* of the application, which begins with the key under ``town`` that it is about, with its line."""
        path, text = undotted(str(error))
        return self.fault(path, text) if path[:1] == ("town",) else error

    def fault(self, path: tuple[str | int, ...], text: str) -> BadToml:
        """The error about the value at *path* (``("town", "coin", "treasury")``), with its line."""
        return _document(self.raw, "genesis.toml").fault(path, text)


def _document(raw: bytes, name: str) -> Document:
    if len(raw) > GENESIS_BYTES_MAX:
        raise BadGenesis(f"{name}: larger than {GENESIS_BYTES_MAX} bytes")
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise BadGenesis(f"{name}, line {raw[: error.start].count(10) + 1}: not UTF-8") from None
    return Document(text, name=name, error=BadGenesis)


class _Reader:
    """Takes values of a known type from the top of a document; complains with key and line."""

    def __init__(self, document: Document) -> None:
        self._document = document

    def known(self, path: tuple[str, ...], table: Mapping[str, Any], keys: tuple[str, ...]) -> None:
        """Raises BadGenesis if *table* has a key that is not in *keys*."""
        for key in table:
            if key not in keys:
                raise self._document.fault((*path, key), f"unknown key; known here: {', '.join(keys)}")

    def _value(self, key: str) -> Any:
        if key not in self._document.data:
            raise self._document.fault((key,), "is missing")
        return self._document.data[key]

    def text(self, key: str) -> str:
        """The text at *key*."""
        value = self._value(key)
        if type(value) is not str:
            raise self._document.fault((key,), "must be a text in quotes")
        return value

    def name(self, key: str) -> str:
        """The entry-point name at *key*."""
        value = self.text(key)
        if not _NAME.fullmatch(value):
            raise self._document.fault((key,), "must be a name: lower-case letters, digits, underscores")
        return value

    def integer(self, key: str, high: int) -> int:
        """The number 0…*high* at *key*."""
        value = self._value(key)
        if type(value) is not int or not 0 <= value <= high:
            raise self._document.fault((key,), f"must be a whole number in 0…{high}")
        return value

    def table(self, key: str, *, required: bool = True) -> dict[str, Any]:
        """The table at *key*; empty if absent and not *required*."""
        value = self._value(key) if required or key in self._document.data else {}
        if not isinstance(value, dict):
            raise self._document.fault((key,), f"must be a table: [{key}]")
        return value


def _modules(document: Document, table: dict[str, Any]) -> dict[str, int]:
    if not 1 <= len(table) <= MODULES_MAX:
        raise document.fault(("modules",), f"names 1…{MODULES_MAX} modules, such as coin = 1")
    for name, version in table.items():
        if not _NAME.fullmatch(name):
            raise document.fault(("modules", name), "is no module name: lower-case letters, digits, underscores")
        if type(version) is not int or not 1 <= version <= VERSION_MAX:
            raise document.fault(("modules", name), "must be the module's version, a whole number from 1")
    return dict(sorted(table.items()))


def _former_state(document: Document, table: dict[str, Any]) -> FormerState:
    for key in (*table, *_STATE):
        if key not in _STATE:
            raise document.fault(("state", key), f"unknown key; known here: {', '.join(_STATE)}")
        if key not in table:
            raise document.fault(("state", key), "is missing")
    chunks = table["chunks"]
    if not isinstance(chunks, list) or not 1 <= len(chunks) <= STATE_CHUNKS_MAX:
        raise document.fault(("state", "chunks"), f"must be a list of 1…{STATE_CHUNKS_MAX} hashes")
    if type(table["height"]) is not int or table["height"] < 1:
        raise document.fault(("state", "height"), "must be a whole number from 1")
    if type(table["chain_id"]) is not str or not _CHAIN_ID.fullmatch(table["chain_id"]):
        raise document.fault(("state", "chain_id"), "must be the former chain's id")
    return FormerState(
        chain_id=table["chain_id"],
        height=table["height"],
        app_hash=_hash(document, ("state", "app_hash"), table["app_hash"]),
        chunks=tuple(_hash(document, ("state", "chunks", i), chunk) for i, chunk in enumerate(chunks)),
    )


def _founders(document: Document, found: Any) -> tuple[Founder, ...]:
    if not isinstance(found, list) or not 1 <= len(found) <= VALIDATORS_MAX:
        raise document.fault(("validators",), f"1…{VALIDATORS_MAX} of them are needed: [[validators]]")
    founders = []
    for i, each in enumerate(found):
        place = ("validators", i)
        if not isinstance(each, dict) or not {"public_key", "power"} <= set(each) <= set(_VALIDATOR):
            raise document.fault(place, "has public_key, power and perhaps name")
        if type(each["power"]) is not int or not 1 <= each["power"] <= POWER_TOTAL_MAX:
            raise document.fault((*place, "power"), f"must be a whole number in 1…{POWER_TOTAL_MAX}")
        if type(each.get("name", "")) is not str:
            raise document.fault((*place, "name"), "must be a text in quotes")
        key = _hash(document, (*place, "public_key"), each["public_key"])
        founders.append(Founder(public_key=key, power=each["power"], name=each.get("name", "")))
    return tuple(founders)


def _hash(document: Document, path: tuple[str | int, ...], value: Any) -> bytes:
    if type(value) is not str or not re.fullmatch("[0-9a-f]{64}", value):
        raise document.fault(path, "must be 64 lower-case hex digits")
    return bytes.fromhex(value)


def _params(document: Document, table: dict[str, Any]) -> Params:
    preset = table.get("preset", "CITY")
    if preset not in PRESETS:
        raise document.fault(("params", "preset"), f"must be one of {', '.join(PRESETS)}")
    known = [item.name for item in dataclasses.fields(Params)]
    changes = {key: value for key, value in table.items() if key != "preset"}
    for key, value in changes.items():
        if key not in known:
            raise document.fault(("params", key), f"unknown key; known here: preset, {', '.join(known)}")
        if type(value) is not int:
            raise document.fault(("params", key), "must be a whole number")
    try:
        return PRESETS[preset].replaced(**changes)
    except BadParams as error:
        named = str(error).split(" ", 1)[0]
        raise document.fault(("params", named), f"these parameters can't work: {error}") from None


def resumed_toml(
    former: GenesisFile,
    state: FormerState,
    founders: Sequence[Founder],
    *,
    chain_id: str,
    time_ms: int,
    params: Params,
) -> bytes:
    """The genesis file of a chain that goes on from *state* of *former*'s chain; the same arguments, the same bytes.

    Raises BadGenesis.
    """
    raw = to_toml(
        {
            "chain_id": chain_id,
            "time_ms": time_ms,
            "application": former.application,
            "application_version": former.application_version,
            "modules": dict(former.modules),
            "params": {"preset": "CITY", **dataclasses.asdict(params)},
            "state": {
                "chain_id": state.chain_id,
                "height": state.height,
                "app_hash": state.app_hash.hex(),
                "chunks": [chunk.hex() for chunk in state.chunks],
            },
            "validators": [
                {"public_key": founder.public_key.hex(), "power": founder.power, "name": founder.name}
                for founder in sorted(founders, key=lambda founder: founder.public_key)
            ],
        }
    ).encode()
    GenesisFile.parse(raw)
    return raw


def genesis_toml(
    *,
    chain_id: str,
    time_ms: int,
    modules: Mapping[str, int],
    town: Mapping[str, Any],
    application: str = "town",
    application_version: int = 1,
    preset: str = "CITY",
    params: Mapping[str, int] | None = None,
) -> bytes:
    """A genesis file with these contents, checked by reading it again. Raises BadGenesis."""
    raw = to_toml(
        {
            "chain_id": chain_id,
            "time_ms": time_ms,
            "application": application,
            "application_version": application_version,
            "modules": dict(modules),
            "params": {"preset": preset, **(params or {})},
            "town": dict(town),
        }
    ).encode()
    GenesisFile.parse(raw)
    return raw
