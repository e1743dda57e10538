"""Values as JSON, and the JSON Schema of their types: one compiler for RPC, forms, command line and genesis file.

Addresses are ``ting1…``, other bytes lower-case hex, integers JSON integers, records objects, tuples arrays,
enumerations their names in lower case. Messages are ``{"coin.send": {"to": "ting1…", "amount": 5}}``, which only a town
can read: it lends the two functions.
"""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from city.sdk.signature import REQUIRED, Signature
from city.sdk.table import Page
from consensus.address import BadAddress, from_text, to_text
from consensus.shape import INTEGER_MAX, Count, Length, Range, Size, Unread
from consensus.transaction import Message

ADDRESS_BYTES = 20
Schema = dict[str, Any]


class BadJson(ValueError):
    """The JSON does not fit the type; `where` is the path to it, such as ``accounts[0].amount``."""

    def __init__(self, where: str, text: str) -> None:
        super().__init__(f"{where}: {text}" if where else text)
        self.where = where


@dataclass(frozen=True, slots=True)
class Form:
    """One annotated type as JSON."""

    read: Callable[[Any, str], Any]
    """From JSON; the second argument is where it stands, for the error. Raises BadJson."""
    write: Callable[[Any], Any]
    schema: Schema


@dataclass(frozen=True, slots=True)
class MessageForms:
    """How a town reads and writes the messages that stand inside of others."""

    read: Callable[[Any, str], Message]
    write: Callable[[Message], Any]


class Forms:
    """The forms of a town's types."""

    def __init__(self, messages: MessageForms) -> None:
        self._messages = messages
        self._known: dict[Any, Form] = {}

    def of(self, annotation: Any) -> Form:
        """The form of *annotation*; TypeError if it has none."""
        form = self._known.get(annotation)
        if form is None:
            form = self._known[annotation] = self._compiled(annotation)
        return form

    def read_arguments(self, signature: Signature, given: object, where: str = "") -> dict[str, Any]:
        """The arguments of *signature* from a JSON object. Raises BadJson, naming what is missing, unknown or wrong."""
        if not isinstance(given, Mapping):
            raise BadJson(where, "expected an object of named arguments")
        unknown = [name for name in given if name not in signature.names]
        if unknown:
            raise BadJson(_at(where, str(unknown[0])), f"unknown; known are {', '.join(signature.names) or 'none'}")
        values: dict[str, Any] = {}
        for argument in signature.arguments:
            if argument.name in given:
                values[argument.name] = self.of(argument.type).read(given[argument.name], _at(where, argument.name))
            elif argument.default is REQUIRED:
                raise BadJson(_at(where, argument.name), "is missing")
        return values

    def read_no_arguments(self, given: object, where: str = "") -> None:
        """Raises BadJson unless *given* is an object with nothing in it."""
        if given != {}:
            raise BadJson(where, "expected no arguments")

    def write_arguments(self, signature: Signature, values: Mapping[str, Any]) -> dict[str, Any]:
        """The reverse of `read_arguments`."""
        return {a.name: self.of(a.type).write(values[a.name]) for a in signature.arguments if a.name in values}

    def schema_of_arguments(self, signature: Signature) -> Schema:
        """JSON Schema of the object of named arguments."""
        properties = {a.name: dict(self.of(a.type).schema) for a in signature.arguments}
        for argument in signature.arguments:
            if argument.default is not REQUIRED:
                properties[argument.name]["default"] = self.of(argument.type).write(argument.default)
        required = [a.name for a in signature.arguments if a.default is REQUIRED]
        return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}

    def _compiled(self, annotation: Any) -> Form:
        origin = typing.get_origin(annotation)
        if origin is Annotated:
            base, *marks = typing.get_args(annotation)
            return self._marked(base, marks)
        if origin in (typing.Union, types.UnionType):
            (inner,) = [arg for arg in typing.get_args(annotation) if arg is not type(None)]
            return _optional(self.of(inner))
        if origin is tuple:
            return self._tuple(typing.get_args(annotation), None)
        if origin is Page:
            return self._page(*typing.get_args(annotation))
        if annotation is Message:
            return Form(self._messages.read, self._messages.write, {"type": "object", "title": "message"})
        if annotation in _PLAIN:
            return _PLAIN[annotation]
        if isinstance(annotation, type) and issubclass(annotation, enum.IntEnum):
            return _enumeration(annotation)
        if dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
            return self._record(annotation)
        raise TypeError(f"no JSON form for {annotation!r}")

    def _marked(self, base: Any, marks: list[Any]) -> Form:
        for mark in marks:
            match mark:
                case Unread():
                    return Form(_unreadable, raw_to_json, {})
                case Range(low=low, high=high):
                    return _integer(low, high)
                case Size(low=low, high=high):
                    return _ADDRESS if (low, high) == (ADDRESS_BYTES, -1) else _bytes(low, low if high < 0 else high)
                case Length(high=high):
                    return _text(high)
                case Count():
                    return self._tuple(typing.get_args(base), mark)
        return self.of(base)

    def _tuple(self, args: tuple[Any, ...], count: Count | None) -> Form:
        if len(args) == 2 and args[1] is Ellipsis:
            return _array(self.of(args[0]), count or Count(INTEGER_MAX))
        forms = [self.of(arg) for arg in args]

        def read(given: Any, where: str) -> Any:
            if not isinstance(given, (list, tuple)) or len(given) != len(forms):
                raise BadJson(where, f"expected an array of {len(forms)}")
            return tuple(
                form.read(item, f"{where}[{i}]") for i, (form, item) in enumerate(zip(forms, given, strict=True))
            )

        return Form(
            read,
            lambda value: [form.write(item) for form, item in zip(forms, value, strict=True)],
            {"type": "array", "prefixItems": [form.schema for form in forms], "items": False, "minItems": len(forms)},
        )

    def _page(self, key: Any, value: Any) -> Form:
        key_form, value_form = self.of(key), self.of(value)

        def write(page: Page[Any, Any]) -> Any:
            rows = [{"key": key_form.write(k), "value": value_form.write(v)} for k, v in page.rows]
            return {"rows": rows, "next": None if page.next is None else key_form.write(page.next)}

        row = {"type": "object", "properties": {"key": key_form.schema, "value": value_form.schema}}
        properties = {"rows": {"type": "array", "items": row}, "next": _optional(key_form).schema}
        return Form(_unreadable, write, {"type": "object", "properties": properties})

    def _record(self, kind: type) -> Form:
        hints = typing.get_type_hints(kind, include_extras=True)
        fields = {field.name: self.of(hints[field.name]) for field in dataclasses.fields(kind)}
        required = [
            field.name
            for field in dataclasses.fields(kind)
            if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        ]

        def read(given: Any, where: str) -> Any:
            if not isinstance(given, Mapping):
                raise BadJson(where, f"expected an object with {', '.join(fields)}")
            for name in given:
                if name not in fields:
                    raise BadJson(_at(where, str(name)), f"unknown; known are {', '.join(fields)}")
            for name in required:
                if name not in given:
                    raise BadJson(_at(where, name), "is missing")
            return kind(**{name: fields[name].read(given[name], _at(where, name)) for name in given})

        return Form(
            read,
            lambda value: {name: form.write(getattr(value, name)) for name, form in fields.items()},
            {
                "type": "object",
                "title": kind.__name__,
                "properties": {name: form.schema for name, form in fields.items()},
                "required": required,
                "additionalProperties": False,
            },
        )


def raw_to_json(value: Any) -> Any:
    """Whatever the codec allows, for display: bytes as hex, arrays as arrays."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, (tuple, list)):
        return [raw_to_json(item) for item in value]
    return value


def _at(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _same(value: Any) -> Any:
    return value


def _unreadable(given: Any, where: str) -> Any:
    raise BadJson(where, "can't be given as JSON")


def _read_bool(given: Any, where: str) -> bool:
    if not isinstance(given, bool):
        raise BadJson(where, "expected true or false")
    return given


def _read_address(given: Any, where: str) -> bytes:
    if not isinstance(given, str):
        raise BadJson(where, "expected an address, ting1…")
    try:
        return from_text(given)
    except BadAddress as error:
        raise BadJson(where, str(error)) from None


def _integer(low: int, high: int) -> Form:
    def read(given: Any, where: str) -> int:
        if isinstance(given, bool) or not isinstance(given, int):
            raise BadJson(where, "expected an integer")
        if not low <= given <= high:
            raise BadJson(where, f"{given} is not in {low}…{high}")
        return given

    return Form(read, _same, {"type": "integer", "minimum": low, "maximum": high})


def _bytes(low: int, high: int) -> Form:
    def read(given: Any, where: str) -> bytes:
        try:
            data = (
                bytes.fromhex(given) if isinstance(given, str) and given == given.lower() and given.isalnum() else None
            )
        except ValueError:
            data = None
        if given == "" and low == 0:
            data = b""
        if data is None:
            raise BadJson(where, "expected bytes as lower-case hex")
        if not low <= len(data) <= high:
            raise BadJson(
                where, f"{len(data)} bytes, expected {low}…{high}" if low != high else f"expected {low} bytes"
            )
        return data

    pattern = "^([0-9a-f]{2})*$"
    return Form(read, bytes.hex, {"type": "string", "pattern": pattern, "minLength": 2 * low, "maxLength": 2 * high})


def _text(high: int) -> Form:
    def read(given: Any, where: str) -> str:
        if not isinstance(given, str):
            raise BadJson(where, "expected text")
        if len(given) > high:
            raise BadJson(where, f"{len(given)} characters, at most {high}")
        if any("\ud800" <= character <= "\udfff" for character in given):
            raise BadJson(where, "half of a surrogate pair is no text")
        return given

    return Form(read, _same, {"type": "string", "maxLength": high})


def _optional(inner: Form) -> Form:
    return Form(
        lambda given, where: None if given is None else inner.read(given, where),
        lambda value: None if value is None else inner.write(value),
        {"anyOf": [inner.schema, {"type": "null"}]},
    )


def _array(inner: Form, count: Count) -> Form:
    def read(given: Any, where: str) -> Any:
        if not isinstance(given, (list, tuple)):
            raise BadJson(where, "expected an array")
        if not count.low <= len(given) <= count.high:
            raise BadJson(where, f"{len(given)} items, expected {count.low}…{count.high}")
        return tuple(inner.read(item, f"{where}[{i}]") for i, item in enumerate(given))

    schema: Schema = {"type": "array", "items": inner.schema, "minItems": count.low}
    if count.high < INTEGER_MAX:
        schema["maxItems"] = count.high
    return Form(read, lambda value: [inner.write(item) for item in value], schema)


def _enumeration(kind: type[enum.IntEnum]) -> Form:
    names = {member.name.lower(): member for member in kind}

    def read(given: Any, where: str) -> Any:
        if not isinstance(given, str) or given not in names:
            raise BadJson(where, f"expected one of {', '.join(names)}")
        return names[given]

    return Form(read, lambda value: value.name.lower(), {"type": "string", "enum": list(names)})


_ADDRESS = Form(
    _read_address, to_text, {"type": "string", "pattern": "^ting1[02-9ac-hj-np-z]{38}$", "title": "address"}
)
_PLAIN: dict[Any, Form] = {
    int: _integer(0, INTEGER_MAX),
    bool: Form(_read_bool, _same, {"type": "boolean"}),
    str: _text(INTEGER_MAX),
    bytes: _bytes(0, INTEGER_MAX),
    type(None): Form(_unreadable, _same, {"type": "null"}),
}
