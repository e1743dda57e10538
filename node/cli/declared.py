"""Command-line options out of what an application declares: a name, a JSON Schema, and how a text becomes the value."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from consensus.address import to_text
from consensus.signing import sha256
from node.cli.place import Place
from node.cli.screen import Mistake

FILE_BYTES_MAX = 2**20
RESERVED = frozenset(
    {"home", "node", "json", "from", "fee", "voucher", "wait", "nonce", "prove", "height", "help", "as"}
)
"""Options of the command itself; an argument of the same name is written --arg-NAME."""


class Declared:
    """The arguments of one message or query as click options."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._properties: Mapping[str, Mapping[str, Any]] = schema["properties"]
        self._required = frozenset(schema["required"])

    def options(self) -> list[click.Option]:
        """One option for each argument."""
        return [self._option(name, each) for name, each in self._properties.items()]

    def _option(self, name: str, schema: Mapping[str, Any]) -> click.Option:
        needed = name in self._required
        return click.Option(
            [_flag(name), _variable(name)],
            required=needed,
            metavar=_metavar(schema),
            help=_help(schema),
        )

    def values(self, given: Mapping[str, Any], place: Place) -> dict[str, Any]:
        """The JSON values of the arguments among the options *given*. Raises Mistake naming the option."""
        found: dict[str, Any] = {}
        for name, schema in self._properties.items():
            text = given.get(_variable(name))
            if text is not None:
                found[name] = _value(_flag(name), text, schema, place)
        return found


def _flag(name: str) -> str:
    dashed = name.replace("_", "-")
    return f"--arg-{dashed}" if dashed in RESERVED else f"--{dashed}"


def _variable(name: str) -> str:
    return f"argument_{name}"


def _bare(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema without its “or null”."""
    for each in schema.get("anyOf", ()):
        if each.get("type") != "null":
            return {**each, **{key: value for key, value in schema.items() if key != "anyOf"}}
    return schema


def _is_address(schema: Mapping[str, Any]) -> bool:
    return schema.get("title") == "address"


def _metavar(schema: Mapping[str, Any]) -> str:
    bare = _bare(schema)
    if "enum" in bare:
        return "|".join(str(each) for each in bare["enum"])
    if _is_address(bare):
        return "ADDRESS|NAME"
    if _is_hash_or_key(bare):
        return "HEX|NAME|@FILE"
    if bare.get("type") == "string" and "pattern" in bare:
        return "HEX"
    return {"integer": "NUMBER", "boolean": "true|false", "string": "TEXT"}.get(str(bare.get("type")), "JSON|@FILE")


def _help(schema: Mapping[str, Any]) -> str:
    bare = _bare(schema)
    parts = []
    if bare.get("type") == "integer":
        low, high = bare.get("minimum"), bare.get("maximum")
        if high is not None and high < 2**53 - 1:
            parts.append(f"{low} to {high}")
        elif low:
            parts.append(f"at least {low}")
    if bare.get("type") == "array":
        parts.append("a JSON array")
    if bare.get("type") == "object":
        parts.append("a JSON object")
    if schema.get("default") is not None:
        parts.append(f"default {json.dumps(schema['default'])}")
    return "; ".join(parts)


def _value(flag: str, text: str, schema: Mapping[str, Any], place: Place) -> Any:
    bare = _bare(schema)
    if _is_address(bare):
        return _address(flag, text, place)
    kind = bare.get("type")
    if kind == "string":
        return _hex(flag, text, place) if _is_hash_or_key(bare) else text
    if kind == "integer":
        if not text.removeprefix("-").isdecimal() or not text.isascii():
            raise Mistake(f"{flag} must be a whole number, not {text[:40]!r}")
        return int(text)
    if kind == "boolean":
        if text not in ("true", "false"):
            raise Mistake(f"{flag} must be true or false, not {text[:40]!r}")
        return text == "true"
    return _json(flag, text)


def _is_hash_or_key(schema: Mapping[str, Any]) -> bool:
    """Whether 32 bytes are wanted."""
    return schema.get("type") == "string" and schema.get("minLength") == schema.get("maxLength") == 64


def _hex(flag: str, text: str, place: Place) -> str:
    """32 bytes in hex: as given, the hash of @FILE, or the public key of ``validator``, ``node`` or an account."""
    if text.startswith("@"):
        return sha256(_file(flag, Path(text[1:]))).hex()
    key = place.public_key(text)
    return text if key is None else key.hex()


def _address(flag: str, text: str, place: Place) -> str:
    try:
        return to_text(place.address(text))
    except Mistake as error:
        raise Mistake(f"{flag}: {error}") from None


def _json(flag: str, text: str) -> Any:
    if text.startswith("@"):
        return _json_in(flag, _file(flag, Path(text[1:])))
    return _json_in(flag, text)


def _json_in(flag: str, text: str | bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Mistake(f"{flag} must be JSON: {str(error)[:120]}") from None


def _file(flag: str, path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise Mistake(f"{flag}: {path} can't be read ({error.strerror})") from None
    if len(data) > FILE_BYTES_MAX:
        raise Mistake(f"{flag}: {path} is larger than {FILE_BYTES_MAX} bytes")
    return data
