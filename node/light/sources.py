"""Who is asked: one primary, and witnesses to hold it against. Who lies is asked no more; who is gone waits in line."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from node.light.source import Source
from node.rpc.errors import NoSource

_log = structlog.get_logger("light")


class Sources:
    """Nodes in the order in which they are preferred; the first is the primary."""

    def __init__(self, sources: Sequence[Source]) -> None:
        assert len({source.name for source in sources}) == len(sources), "each node once"
        self._sources = list(sources)
        self.dropped: dict[str, str] = {}
        """Who lied, and how."""

    @property
    def primary(self) -> Source:
        """Whose word is verified and given. Raises NoSource if everybody lied."""
        if not self._sources:
            raise NoSource("every node that was named has lied; start again with others", dropped=self.dropped)
        return self._sources[0]

    @property
    def witnesses(self) -> tuple[Source, ...]:
        """All others."""
        return tuple(self._sources[1:])

    @property
    def all(self) -> tuple[Source, ...]:
        """The primary, then the witnesses."""
        return tuple(self._sources)

    def drop(self, source: Source, why: str) -> None:
        """*source* has lied: it is asked no more. The next one takes its place."""
        if source not in self._sources:
            return  # by two answers at once
        was_primary = source is self._sources[0]
        self._sources.remove(source)
        self.dropped[source.name] = why
        _log.warning("light_liar_dropped", node=source.name, primary=was_primary, why=why)
        if was_primary and self._sources:
            self._say_promoted()

    def step_back(self, source: Source, why: str) -> None:
        """*source* does not answer: if it is the primary, the next one takes its place, and it goes to the end."""
        if not self._sources or source is not self._sources[0] or len(self._sources) == 1:
            return
        self._sources.append(self._sources.pop(0))
        _log.warning("light_primary_gone", node=source.name, why=why)
        self._say_promoted()

    def _say_promoted(self) -> None:
        _log.warning("light_primary_promoted", node=self._sources[0].name, witnesses=len(self._sources) - 1)
