"""The sum of many worlds: what happened how often, what never did, and what failed. Kept in a file, a run can go on."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from devnet.sim.outcome import Depth, Outcome

SEEDS_ENOUGH = 500
"""A run of so many worlds in which a fault or a line never occurred was no test of it, and fails."""
FAILURES_MAX = 20
"""A run ends after so many failing worlds: they will have one cause."""


class BadState(ValueError):
    """The file holds no run that can go on with this; the text says what to do."""


@dataclass(slots=True)
class Report:
    """What the worlds from *first* up to *next* came to."""

    depth: str
    first: int
    stop: int
    """The seed after the last that was asked for."""
    next: int
    """The seed that comes next."""
    heights: int = 0
    rounds_above_0: int = 0
    virtual_ms: int = 0
    seconds: float = 0.0
    """By the clock on the wall, over all parts of the run."""
    faults: Counter[str] = field(default_factory=Counter)
    fault_worlds: Counter[str] = field(default_factory=Counter)
    """In how many worlds each fault occurred."""
    lines: Counter[str] = field(default_factory=Counter)
    line_worlds: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[int, str]] = field(default_factory=list)
    """Seed and violation."""
    hash: str = ""
    """Over the outcomes' hashes, in order of the seeds."""

    @classmethod
    def over(cls, depth: str, seeds: range) -> Report:
        """Nothing yet, of *seeds*."""
        return cls(depth, seeds.start, seeds.stop, seeds.start)

    def add(self, outcome: Outcome) -> None:
        """The world of seed `next` has ended."""
        assert outcome.seed == self.next, (outcome.seed, self.next)
        self.next += 1
        self.heights += outcome.heights
        self.rounds_above_0 += outcome.rounds_above_0
        self.virtual_ms += outcome.virtual_ms
        self.faults.update(outcome.faults)
        self.fault_worlds.update(name for name, count in outcome.faults.items() if count)
        self.lines.update(outcome.lines)
        self.line_worlds.update(name for name, count in outcome.lines.items() if count)
        self.hash = sha256(f"{self.hash}{outcome.hash}".encode()).hexdigest()
        if outcome.violation is not None:
            self.failures.append((outcome.seed, outcome.violation))

    @property
    def worlds(self) -> int:
        """How many worlds have ended."""
        return self.next - self.first

    @property
    def over_and_done(self) -> bool:
        """Whether nothing is left to run."""
        return self.next >= self.stop or len(self.failures) >= FAILURES_MAX

    def never(self, depth: Depth) -> list[str]:
        """What never occurred though the run is long enough to demand it; sorted."""
        if self.worlds < SEEDS_ENOUGH:
            return []
        missing = {f"fault {name}" for name in depth.FAULTS if not self.faults[name]}
        missing |= {f"line {name}" for name in depth.LINES if not self.lines[name]}
        return sorted(missing)

    def as_json(self, depth: Depth) -> dict[str, Any]:
        """Everything, for programs."""
        return {
            "depth": self.depth,
            "seeds": f"{self.first}..{self.stop}",
            "next": self.next,
            "worlds": self.worlds,
            "heights": self.heights,
            "rounds_above_0": self.rounds_above_0,
            "virtual_s": round(self.virtual_ms / 1000, 1),
            "seconds": round(self.seconds, 1),
            "faults": {name: self.faults[name] for name in sorted(depth.FAULTS | set(self.faults))},
            "lines": {name: self.lines[name] for name in sorted(depth.LINES | set(self.lines), key=line_order)},
            "never": self.never(depth),
            "failures": [
                {"seed": seed, "violation": violation, "replay": replay_command(self.depth, seed)}
                for seed, violation in self.failures
            ],
            "hash": self.hash,
        }

    def table(self, depth: Depth) -> list[str]:
        """The same as lines for people."""
        speed = f", {self.heights / self.seconds:.0f} heights a second" if self.seconds else ""
        lines = [
            f"{self.worlds} worlds ({self.depth}, seeds {self.first}..{self.next}), {self.heights} heights, "
            f"{self.rounds_above_0} rounds above 0, {self.virtual_ms / 3_600_000:.1f} virtual hours "
            f"in {self.seconds:.0f} s{speed}",
            f"hash {self.hash}",
            "",
            *_columns("fault", sorted(depth.FAULTS | set(self.faults)), self.faults, self.fault_worlds),
        ]
        if depth.LINES:
            names = sorted(depth.LINES | set(self.lines), key=line_order)
            lines += ["", *_columns("line of Algorithm 1", names, self.lines, self.line_worlds)]
        lines += [f"never occurred: {name}" for name in self.never(depth)]
        for seed, violation in self.failures:
            lines += ["", f"seed {seed} failed: {violation}", f"  {replay_command(self.depth, seed)}"]
        return lines

    # Kept between parts of a run

    def save(self, file: Path) -> None:
        """*file* holds this report, whole or not at all."""
        content = {
            **{name: getattr(self, name) for name in _PLAIN},
            **{name: dict(getattr(self, name)) for name in _COUNTERS},
            "failures": self.failures,
        }
        fresh = file.with_name(file.name + ".new")
        fresh.write_text(json.dumps(content), "utf-8")
        fresh.replace(file)

    @classmethod
    def load(cls, file: Path, depth: str) -> Report:
        """The run in *file*. Raises BadState for what is none of *depth*."""
        try:
            content = json.loads(file.read_text("utf-8"))
            report = cls(**{name: content[name] for name in _PLAIN})
            for name in _COUNTERS:
                setattr(report, name, Counter(content[name]))
            report.failures = [(seed, violation) for seed, violation in content["failures"]]
        except (ValueError, KeyError, TypeError) as error:
            raise BadState(f"{file} holds no run of the simulator; name another file, or delete it") from error
        if report.depth != depth:
            raise BadState(f"{file} holds a run with --depth {report.depth}; name another file, or delete it")
        return report


_PLAIN = ("depth", "first", "stop", "next", "heights", "rounds_above_0", "virtual_ms", "seconds", "hash")
_COUNTERS = ("faults", "fault_worlds", "lines", "line_worlds")


def replay_command(depth: str, seed: int) -> str:
    """What shows the world of *seed* again, step by step."""
    return f"allting devnet sim --depth {depth} --seeds {seed} --trace"


def line_order(name: str) -> tuple[int, str]:
    """``L9`` before ``L10``."""
    digits = name.lstrip("L").partition(" ")[0].partition("–")[0]
    return (int(digits) if digits.isdecimal() else 0, name)


def _columns(title: str, names: Iterable[str], counts: Counter[str], worlds: Counter[str]) -> list[str]:
    names = list(names)
    width = max([len(title), *(len(name) for name in names)])
    rows = [f"  {name:<{width}} {counts[name]:>12,} {worlds[name]:>10,}" for name in names]
    return [f"  {title:<{width}} {'times':>12} {'in worlds':>10}", *rows]
