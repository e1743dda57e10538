"""A node under a sampling profiler: ``python -m devnet.profiled FILE start --home …`` runs ``allting start`` as usual.

From SIGUSR1 to SIGUSR2 the stack is noted every few milliseconds of CPU, which costs little and distorts less than
tracing calls.
Work that C code does counts for the Python function that called it. Only the main thread is seen: not the signature
helper, nor the thread that waits for the disk.
"""

from __future__ import annotations

import atexit
import signal
import sys
from collections import Counter
from pathlib import Path
from types import FrameType

START, STOP = signal.SIGUSR1, signal.SIGUSR2
INTERVAL_SECONDS = 0.002
FUNCTIONS_SHOWN_MAX = 60
ROOT = Path(__file__).parents[1]


class Samples:
    """Where the CPU was found: on top of the stack, and anywhere in it."""

    def __init__(self) -> None:
        self.count = 0
        self.own: Counter[str] = Counter()
        self.total: Counter[str] = Counter()

    def note(self, number: int, frame: FrameType | None) -> None:
        """One more sample; a signal handler."""
        self.count += 1
        names: dict[str, None] = {}
        while frame is not None:
            names.setdefault(_name(frame))
            frame = frame.f_back
        self.own.update(list(names)[:1])
        self.total.update(list(names))

    def report(self) -> str:
        """Shares in percent: of a function itself, and with what it called."""
        lines = [f"{self.count} samples", "", "   own  with callees"]
        for name, own in self.own.most_common(FUNCTIONS_SHOWN_MAX):
            lines.append(f"{self._share(own)}  {self._share(self.total[name])}  {name}")
        lines += ["", "with callees"]
        lines += [f"{self._share(count)}  {name}" for name, count in self.total.most_common(FUNCTIONS_SHOWN_MAX)]
        return "\n".join(lines) + "\n"

    def _share(self, count: int) -> str:
        return f"{100 * count / max(1, self.count):6.1f}"


def _name(frame: FrameType) -> str:
    path = Path(frame.f_code.co_filename)
    shown = path.relative_to(ROOT) if path.is_relative_to(ROOT) else Path(path.parent.name, path.name)
    return f"{shown}:{frame.f_code.co_qualname}"


def main() -> None:
    """Runs the command in the arguments after the first, and writes the report to the file in the first."""
    from node.cli.main import main as allting  # only here: the benchmark needs but the names of our signals

    file, *arguments = sys.argv[1:]
    samples = Samples()
    atexit.register(lambda: Path(file).write_text(samples.report()))
    signal.signal(signal.SIGPROF, samples.note)
    signal.signal(START, lambda number, frame: signal.setitimer(signal.ITIMER_PROF, INTERVAL_SECONDS, INTERVAL_SECONDS))
    signal.signal(STOP, lambda number, frame: signal.setitimer(signal.ITIMER_PROF, 0))
    allting(arguments)


if __name__ == "__main__":
    main()
