"""The reference pages ``docs/modules/*.md``, made from what the modules declare.

``python -m city.reference`` writes them; a test fails while they are not current.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from city.app import Town

FOLDER = Path(__file__).parent.parent / "docs" / "modules"
INTEGER_TEXTS = {2**63 - 1: "2⁶³−1", 2**53 - 1: "2⁵³−1"}


def pages(town: Town) -> dict[str, str]:
    """File name → text, for every module of *town* and an index of them."""
    described = town.describe()
    modules: Mapping[str, Mapping[str, Any]] = described["modules"]
    made = {f"{name}.md": _page(module) for name, module in modules.items()}
    made["README.md"] = _index(described)
    return made


def _index(described: Mapping[str, Any]) -> str:
    lines = [
        "# The town's modules",
        "",
        "Made by `python -m city.reference` from what the modules declare. How to write one: `city/README.md`.",
        "",
        *_table(
            ("module", "version", "what it is"),
            ((f"[{name}]({name}.md)", m["version"], m["text"]) for name, m in described["modules"].items()),
        ),
        "## Refusals of the town itself",
        "",
        *_table(("code", "sentence"), ((f"`{each['code']}`", each["text"]) for each in described["refusals"])),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _page(module: Mapping[str, Any]) -> str:
    name = module["name"]
    lines = [f"# {name}", "", f"Version {module['version']}. {module['text']}", ""]
    if module["uses"]:
        lines += [f"Uses {', '.join(f'[{used}]({used}.md)' for used in module['uses'])}.", ""]
    lines += _section("Messages", (_message(name, key, each) for key, each in module["messages"].items()))
    lines += _section("Queries", (_query(key, each) for key, each in module["queries"].items()))
    lines += _section("Events", (_event(name, key, each) for key, each in module["events"].items()))
    lines += _section("Parameters", _params(module))
    lines += _section("Refusals", _refusals(module))
    lines += _section("State", _tables(module))
    lines += _section("Invariants", ([f"- `{each}`"] for each in module["invariants"]))
    return "\n".join(lines).rstrip() + "\n"


def _params(module: Mapping[str, Any]) -> Iterator[list[str]]:
    rows = [
        (f"`{module['name']}.{name}`", param["text"], param["default"], f"{param['low']}…{param['high']}")
        for name, param in module["params"].items()
    ]
    if rows:
        yield _table(("name", "what it sets", "default", "bounds"), iter(rows))


def _refusals(module: Mapping[str, Any]) -> Iterator[list[str]]:
    rows = [(f"`{each['code']}`", each["text"]) for each in module["refusals"]]
    if rows:
        yield _table(("code", "sentence"), iter(rows))


def _tables(module: Mapping[str, Any]) -> Iterator[list[str]]:
    rows = [
        (f"`{name}`", ", ".join(type_text(part) for part in table["key"]), type_text(table["value"]))
        for name, table in module["tables"].items()
    ]
    if rows:
        yield _table(("table", "key", "row"), iter(rows))


def _section(title: str, parts: Iterator[list[str]]) -> list[str]:
    lines = [line for part in parts for line in part]
    return [f"## {title}", "", *lines] if lines else []


def _message(module: str, name: str, message: Mapping[str, Any]) -> list[str]:
    by = f" By authority of `{message['authority']}` only." if message["authority"] else ""
    return [f"### `{module}.{name}`", "", message["text"] + by, "", *_arguments(message["args"])]


def _query(name: str, query: Mapping[str, Any]) -> list[str]:
    answer = f"Answers {type_text(query['result'])}."
    return [f"### `{query['path']}`", "", query["text"], "", *_arguments(query["args"]), answer, ""]


def _event(module: str, name: str, event: Mapping[str, Any]) -> list[str]:
    rows = ((f"`{key}`", type_text(schema)) for key, schema in event["fields"].items())
    return [f"### `{module}.{name}`", "", event["text"], "", *_table(("field", "type"), rows)]


def _arguments(schema: Mapping[str, Any]) -> list[str]:
    rows = [
        (f"`{name}`", type_text(each), "" if name in schema["required"] else f"default {_default(each['default'])}")
        for name, each in schema["properties"].items()
    ]
    return _table(("argument", "type", ""), iter(rows)) if rows else []


def _default(value: Any) -> str:
    return (
        {None: "none", True: "true", False: "false"}.get(value, str(value)) if not isinstance(value, list) else "none"
    )


def type_text(schema: Mapping[str, Any]) -> str:
    """A JSON Schema in a few words."""
    if "anyOf" in schema:
        return f"{type_text(schema['anyOf'][0])} or null"
    if "enum" in schema:
        return "one of " + ", ".join(f"`{name}`" for name in schema["enum"])
    if "prefixItems" in schema:
        return f"[{', '.join(type_text(item) for item in schema['prefixItems'])}]"
    match schema.get("type"):
        case "integer":
            return f"integer {schema['minimum']}…{_integer(schema['maximum'])}"
        case "boolean":
            return "true or false"
        case "array":
            return f"array of {type_text(schema['items'])}{_count(schema)}"
        case "string":
            return _string(schema)
        case "object":
            return _object(schema)
    return "anything"


def _integer(value: int) -> str:
    return INTEGER_TEXTS.get(value, str(value))


def _count(schema: Mapping[str, Any]) -> str:
    return f" ({schema['minItems']}…{schema['maxItems']})" if "maxItems" in schema else ""


def _string(schema: Mapping[str, Any]) -> str:
    if schema.get("title") == "address":
        return "address"
    if "pattern" not in schema:
        return f"text, up to {schema['maxLength']} characters"
    low, high = schema["minLength"] // 2, schema["maxLength"] // 2
    return f"{high} bytes as hex" if low == high else "bytes as hex"


def _object(schema: Mapping[str, Any]) -> str:
    if "rows" in schema.get("properties", {}):
        row = schema["properties"]["rows"]["items"]["properties"]
        return f"a page of {type_text(row['key'])} → {type_text(row['value'])}"
    if "properties" not in schema:
        return str(schema["title"])
    return f"{schema['title']} {{{', '.join(schema['properties'])}}}"


def _table(head: tuple[str, ...], rows: Iterator[tuple[Any, ...]]) -> list[str]:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    lines += [f"| {' | '.join(str(cell) for cell in row)} |" for row in rows]
    return [*lines, ""]


def write(folder: Path) -> None:
    """The pages of the installed modules stand in *folder*, and no others."""
    folder.mkdir(parents=True, exist_ok=True)
    made = pages(Town())
    for old in folder.glob("*.md"):
        if old.name not in made:
            old.unlink()
    for name, text in made.items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
