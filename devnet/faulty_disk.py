"""A node on a faulty disk: ``python -m devnet.faulty_disk PLAN start --home …`` runs ``allting start`` as usual, until:

    list FILE                     when it stops, FILE gets the steps that it did on the disk (JSON: step → times)
    kill before|after STEP N      it gets SIGKILL right before or after the Nth time of STEP ("consensus.wal sync")
    refuse ERROR STEP N           from its Nth time on, STEP fails with the system's ERROR (ENOSPC, EROFS, EACCES, EIO)

The node itself knows nothing of this: no setting and no variable of an operator's node can do it.
"""

from __future__ import annotations

import atexit
import errno
import json
import os
import signal
import sys
from pathlib import Path

from devnet.simulated_disk import Moment, Watching, refuse_at
from node.disk import DISK, Act, Step


def kill_at(wanted: Moment, number: int) -> Watching:
    """A watch that ends this process with SIGKILL when *wanted* comes for the time *number* (from 1)."""

    def act(moment: Moment, count: int) -> None:
        if moment == wanted and count == number:
            os.kill(os.getpid(), signal.SIGKILL)

    return Watching(act)


def list_to(file: Path) -> Watching:
    """A watch that writes what it saw to *file* when the process ends."""
    watch = Watching()

    def write() -> None:
        counts = {str(moment.step): count for moment, count in sorted(watch.counts.items()) if moment.after}
        file.write_text(json.dumps(counts))

    atexit.register(write)
    return watch


def step_of(text: str) -> Step:
    """The step that `Step.__str__` wrote as *text*. Raises ValueError."""
    for act in sorted(Act, key=len, reverse=True):
        if text.endswith(f" {act}"):
            return Step(text.removesuffix(f" {act}"), act)
    raise ValueError(f"{text!r} is no step on a disk")


def watch_of(plan: list[str]) -> Watching:
    """The watch for the words of *plan*. Raises ValueError."""
    match plan:
        case ["list", file]:
            return list_to(Path(file))
        case ["kill", ("before" | "after") as when, step, number]:
            return kill_at(Moment(step_of(step), after=when == "after"), int(number))
        case ["refuse", error, step, number]:
            return refuse_at(step_of(step), getattr(errno, error), int(number))
        case _:
            raise ValueError(f"{plan} is no plan: {__doc__}")


def main() -> None:
    """The command line behind the plan (a JSON list) runs on a disk that follows it."""
    from node.cli.main import main as allting

    plan, *arguments = sys.argv[1:]
    DISK.watch = watch_of(json.loads(plan))
    allting(arguments)


if __name__ == "__main__":
    main()
