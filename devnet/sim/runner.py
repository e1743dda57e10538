"""Many worlds, one after another or in several processes; what they come to is added in order of the seeds."""

from __future__ import annotations

import functools
import gc
import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from devnet.sim.outcome import Outcome, depth
from devnet.sim.report import Report

SAVE_EVERY_S = 10.0
"""An interrupted run loses at most so much."""
CHUNK = 8
"""Worlds that a process is given at a time."""

GARBAGE_THRESHOLD = 200_000
"""Objects made before Python looks for circular garbage: a world is many small ones, and goes as a whole."""

Progress = Callable[[Report], None]


def run(report: Report, *, jobs: int, state: Path | None, progress: Progress) -> None:
    """The worlds that *report* lacks have ended, or enough of them failed; *state* holds the report meanwhile.

    Interrupted (KeyboardInterrupt), the report is whole up to its ``next``, and saved.
    """
    before = report.seconds
    started = saved = time.monotonic()
    try:
        with _outcomes(report, jobs) as outcomes:
            for outcome in outcomes:
                report.add(outcome)
                now = time.monotonic()
                report.seconds = before + now - started
                progress(report)
                if state is not None and now - saved > SAVE_EVERY_S:
                    report.save(state)
                    saved = now
                if report.over_and_done:
                    break
    finally:
        if state is not None:
            report.save(state)


@contextmanager
def _outcomes(report: Report, jobs: int) -> Iterator[Iterator[Outcome]]:
    seeds = range(report.next, report.stop)
    world = functools.partial(one, report.depth)
    if jobs == 1:
        yield map(world, seeds)
        return
    # Spawned, not forked: each process has its own end of the pipes, so that none outlives this one.
    with multiprocessing.get_context("spawn").Pool(jobs, _ignore_interrupts) as pool:
        yield pool.imap(world, seeds, CHUNK)


def _ignore_interrupts() -> None:
    """Ctrl-C reaches all processes of a terminal; the first one ends the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def one(name: str, seed: int) -> Outcome:
    """The world of *seed* at the depth called *name*."""
    gc.set_threshold(GARBAGE_THRESHOLD)
    return depth(name).run(seed)
