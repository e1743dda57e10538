"""What may not stand in a module: whatever could come out differently on two machines, or hide a refusal.

``python -m city.sdk.lint FILE…`` prints each finding as ``file:line: sentence`` and ends with status 1 if there is one.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

IMPORTS = (
    "__future__",
    "typing",
    "enum",
    "dataclasses",
    "itertools",
    "city.sdk",
    "city.modules",
    "city.engines",
    "city.register",
)
"""What a module may import, with what is below."""
CALLS = {
    "float": "floats differ between machines",
    "complex": "floats differ between machines",
    "hash": "hash() differs between processes; use sha256",
    "id": "id() differs between processes",
    "open": "a module reads and writes only its own state",
    "print": "a module speaks through events",
    "input": "a module hears only messages",
    "eval": "code is not data",
    "exec": "code is not data",
    "globals": "code is not data",
    "vars": "order and content are not the module's to know",
    "set": "a set has no order; use a tuple or dict.fromkeys",
    "frozenset": "a set has no order; use a tuple or dict.fromkeys",
    "pow": "pow() with a negative exponent gives a float; use ** with care",
}
TEXT_METHODS = {
    "lower": "Unicode tables differ between versions of Python",
    "upper": "Unicode tables differ between versions of Python",
    "casefold": "Unicode tables differ between versions of Python",
    "title": "Unicode tables differ between versions of Python",
    "isalpha": "Unicode tables differ between versions of Python",
    "isalnum": "Unicode tables differ between versions of Python",
    "isdigit": "Unicode tables differ between versions of Python",
}
ALL_ROWS = "all() has no bound; only an invariant may use it"


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """Something that may not stand in a module."""

    line: int
    text: str


def check(source: str) -> list[Finding]:
    """What may not stand in the module whose text is *source*, by line. SyntaxError if it is no Python."""
    tree = ast.parse(source)
    refusals = _refusals(tree)
    raised = {id(node.exc) for node in ast.walk(tree) if isinstance(node, ast.Raise)}
    invariants = {id(part) for function in _invariants(tree) for part in ast.walk(function)}
    found = [Finding(getattr(node, "lineno", 1), text) for node in ast.walk(tree) for text in _plain(node)]
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        if _is_self(node.func.value) and node.func.attr in refusals and id(node) not in raised:
            found.append(Finding(node.lineno, f"the refusal {node.func.attr} is made but not raised"))
        if node.func.attr == "all" and not node.args and id(node) not in invariants:
            found.append(Finding(node.lineno, ALL_ROWS))
    return sorted(set(found))


def _plain(node: ast.AST) -> Iterator[str]:
    """What is wrong with *node* wherever it stands."""
    match node:
        case ast.Constant(value=float() | complex()):
            yield "floats differ between machines"
        case ast.BinOp(op=ast.Div()) | ast.AugAssign(op=ast.Div()):
            yield "true division gives a float; use //"
        case ast.Try() | ast.TryStar():
            yield "a module may not catch: a refusal or a defect ends the whole transaction"
        case ast.Set() | ast.SetComp():
            yield "a set has no order; use a tuple or dict.fromkeys"
        case ast.Global() | ast.Nonlocal():
            yield "a module keeps nothing between calls but its state"
        case ast.Await() | ast.AsyncFunctionDef() | ast.AsyncFor() | ast.AsyncWith():
            yield "a handler does not wait"
        case ast.Import(names=names):
            yield from (_import(alias.name) for alias in names if not _allowed(alias.name))
        case ast.ImportFrom(module=module, level=level) if level or not _allowed(module or ""):
            yield _import("." * level + (module or ""))
        case ast.Call(func=ast.Name(id=name)) if name in CALLS:
            yield CALLS[name]
        case ast.Call(func=ast.Attribute(attr=name)) if name in TEXT_METHODS:
            yield TEXT_METHODS[name]


def _import(name: str) -> str:
    return f"{name} may not be imported; a module takes what it needs from city.sdk"


def _allowed(name: str) -> bool:
    return any(name == allowed or name.startswith(f"{allowed}.") for allowed in IMPORTS)


def _is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "self"


def _refusals(tree: ast.AST) -> frozenset[str]:
    """Names declared as ``name = Refusal(…)``."""
    return frozenset(
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
        if isinstance(node.value.func, ast.Name) and node.value.func.id == "Refusal"
        for target in node.targets
        if isinstance(target, ast.Name)
    )


def _invariants(tree: ast.AST) -> list[ast.FunctionDef]:
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        if any(isinstance(mark, ast.Name) and mark.id == "invariant" for mark in node.decorator_list)
    ]


def main(paths: Sequence[str]) -> int:
    """Prints the findings in the files *paths*; 1 if there is one, else 0."""
    status = 0
    for path in paths:
        for finding in check(Path(path).read_text(encoding="utf-8")):
            sys.stdout.write(f"{path}:{finding.line}: {finding.text}\n")
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
