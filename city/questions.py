"""Queries: asked of a state, or answered from proved entries alone.

Beside those that a module declares there are ``module/params`` (its parameters as they are now), and
``module/table/name`` (the row of a key in any table).

A query that can be proved needs no declaration: it is run once over nothing, to see which entries it looks at, and once
over the proved values of exactly those. One that scans, or whose entries depend on what others hold, says that it can't
be proved.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from city.sdk.declare import PARAMS_QUERY, Role
from city.sdk.forms import BadJson, Forms
from city.sdk.keys import part_types
from city.sdk.refusal import Refused
from city.sdk.runtime import Moment, Registry, Runtime
from city.sdk.table import Table
from city.sdk.weights import QUERY_MAX, Meter
from consensus.application import ProofTarget, QueryRefused, State
from consensus.params import CITY

UNKNOWN = "query.unknown"
BAD_ARGUMENTS = "query.bad_arguments"
NOT_PROVABLE = "query.not_provable"
TABLE = "table"

Question = Callable[[Runtime], Any]


class Traced:
    """A state where nothing is, that notes which entries were asked for."""

    def __init__(self) -> None:
        self.asked: list[ProofTarget] = []

    def get(self, module: str, key: bytes) -> bytes | None:
        """None, and the entry is noted."""
        self.asked.append(ProofTarget(module=module, key=key))
        return None

    def scan(
        self, module: str, start: bytes, stop: bytes | None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """A scan can't be proved."""
        raise QueryRefused(NOT_PROVABLE, "a list can't be proved; ask for its entries one by one (module/table/name)")


class Proved:
    """A state of proved entries; to look elsewhere is refused."""

    def __init__(self, values: Mapping[tuple[str, bytes], bytes | None]) -> None:
        self._values = values

    def get(self, module: str, key: bytes) -> bytes | None:
        """The proved value."""
        try:
            return self._values[module, key]
        except KeyError:
            raise QueryRefused(NOT_PROVABLE, "which entries the answer rests on depends on what they hold") from None

    def scan(
        self, module: str, start: bytes, stop: bytes | None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """A scan can't be proved."""
        raise QueryRefused(NOT_PROVABLE, "a list can't be proved; ask for its entries one by one (module/table/name)")


class Questions:
    """The queries of a town's modules."""

    def __init__(self, registry: Registry, forms: Forms) -> None:
        self._forms = forms
        self._modules = {kind.name: kind.declaration for kind in registry.modules}
        self._runtime = Runtime(registry, Traced(), NOWHEN, Meter(QUERY_MAX))

    def ask(self, path: str, args: Mapping[str, Any], state: State, *, height: int, time_ms: int) -> Any:
        """The answer as JSON-ready data. Raises QueryRefused."""
        return self._answer(self._question(path, args), state, Moment("", height, time_ms, CITY))

    def targets(self, path: str, args: Mapping[str, Any]) -> Sequence[ProofTarget]:
        """The entries on which the answer rests. Raises QueryRefused where it can't be proved."""
        state = Traced()
        question = self._question(path, args)
        try:
            self._answer(question, state, NOWHEN)
        except QueryRefused as refused:
            if refused.code == NOT_PROVABLE or not state.asked:
                raise
        if not state.asked:
            raise QueryRefused(NOT_PROVABLE, "the answer rests on no entry of the state")
        return state.asked

    def from_proof(self, path: str, args: Mapping[str, Any], values: Sequence[bytes | None]) -> Any:
        """The answer, from the proved *values* of `targets` alone."""
        targets = self.targets(path, args)
        if len(values) != len(targets):
            raise QueryRefused(NOT_PROVABLE, f"{len(values)} values for {len(targets)} entries")
        proved = {(target.module, target.key): value for target, value in zip(targets, values, strict=True)}
        return self._answer(self._question(path, args), Proved(proved), NOWHEN)

    def _answer(self, question: Question, state: State, moment: Moment) -> Any:
        self._runtime.renew(state, moment)
        try:
            return question(self._runtime)
        except Refused as refused:
            raise QueryRefused(refused.code, str(refused)) from None

    def _question(self, path: str, args: Mapping[str, Any]) -> Question:
        """What is to be asked, with its arguments read."""
        module, _, name = path.partition("/")
        declared = self._modules.get(module)
        if declared is None:
            known = ", ".join(sorted(self._modules))
            raise QueryRefused(UNKNOWN, f"there is no module {module[:80]}; there are {known}")
        if name.startswith(f"{TABLE}/"):
            return self._entry(module, declared.tables, name.removeprefix(f"{TABLE}/"), args)
        if name == PARAMS_QUERY and declared.params:
            self._read(lambda: self._forms.read_no_arguments(args))
            return lambda runtime: {param: getattr(runtime.modules[module], param) for param in declared.params}
        handler = declared.queries.get(name)
        if handler is None:
            raise QueryRefused(UNKNOWN, f"{module} has no query {name[:80]}; there are {', '.join(declared.queries)}")
        assert handler.mark.role is Role.QUERY
        arguments = self._read(lambda: self._forms.read_arguments(handler.signature, args))
        write = self._forms.of(handler.signature.returns).write
        return lambda runtime: write(handler.function(runtime.modules[module], **arguments))

    def _entry(
        self, module: str, tables: Mapping[str, Table[Any, Any]], name: str, args: Mapping[str, Any]
    ) -> Question:
        table = tables.get(name)
        if table is None:
            raise QueryRefused(UNKNOWN, f"{module} has no table {name[:80]}; there are {', '.join(tables)}")
        if set(args) != {"key"}:
            raise QueryRefused(BAD_ARGUMENTS, "expected one argument, key (an array where it has several parts)")
        key_type = table.key_type if len(part_types(table.key_type)) > 1 else part_types(table.key_type)[0]
        key = self._read(lambda: self._forms.of(key_type).read(args["key"], "key"))
        write = self._forms.of(table.value_type).write

        def entry(runtime: Runtime) -> Any:
            value = runtime.modules[module].declared_table(name).get(key)
            return None if value is None else write(value)

        return entry

    def _read(self, read: Callable[[], Any]) -> Any:
        try:
            return read()
        except BadJson as error:
            raise QueryRefused(BAD_ARGUMENTS, str(error)) from None


NOWHEN = Moment("", 0, 0, CITY)
"""For questions that are answered without a state of their own: no query reads the time."""
