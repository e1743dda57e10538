"""Processes of a devnet: each a session of its own, known by pid and birth, so that a reused pid is never signalled.

Reads Linux's /proc (proc(5)). A zombie counts as gone: where nobody reaps orphans, it would otherwise seem to live for
ever.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

POLL_SECONDS = 0.02
KILL_WAIT_SECONDS = 5.0
TERM_WAIT_SECONDS = 15.0


class StillRunning(RuntimeError):
    """A process outlived even SIGKILL for `KILL_WAIT_SECONDS`; the text names it."""


@dataclass(frozen=True, slots=True)
class Process:
    """One process that we started, leader of its own session and group."""

    pid: int
    born: int
    """Start time in clock ticks since boot: with the pid, it names the process for as long as the machine is up."""

    def alive(self) -> bool:
        """Whether it runs (or is stopped by SIGSTOP); False for a zombie."""
        _reap(self.pid)
        stat = _stat(self.pid)
        return stat is not None and stat.born == self.born

    def send_signal(self, number: int) -> None:
        """It has been sent signal *number*, if it lives."""
        if self.alive():
            _send(self.pid, number)

    def signal_group(self, number: int) -> None:
        """Every living process of its session has been sent signal *number*."""
        for pid in self.session():
            _send(pid, number)

    def session(self) -> list[int]:
        """Pids of its session (itself and what it started), ascending, without zombies."""
        if (stat := _stat(self.pid)) is not None and stat.born != self.born:
            return []  # the pid belongs to a stranger by now
        _reap(self.pid)
        return sorted(pid for pid in _pids() if (stat := _stat(pid)) is not None and stat.session == self.pid)

    def kill(self) -> None:
        """It and all that it started are gone, without a chance to say goodbye (SIGKILL)."""
        self.signal_group(signal.SIGKILL)
        if not self._wait(KILL_WAIT_SECONDS):
            raise StillRunning(f"process {self.pid} outlived SIGKILL for {KILL_WAIT_SECONDS} s")

    def stop(self, *, wait_seconds: float = TERM_WAIT_SECONDS) -> bool:
        """It is gone after SIGTERM; after *wait_seconds* it and its children are killed. Whether it went by itself."""
        self.ask_to_stop()
        return self.await_end(wait_seconds=wait_seconds)

    def ask_to_stop(self) -> None:
        """It has been sent SIGTERM, to be sent once: a second one would end it while it is tidying up."""
        if self.alive():
            _send(self.pid, signal.SIGTERM)
            _send(self.pid, signal.SIGCONT)  # a paused process cannot hear the other

    def await_end(self, *, wait_seconds: float = TERM_WAIT_SECONDS) -> bool:
        """It is gone with its children, which after *wait_seconds* means killed. Whether it went by itself."""
        went = self._wait(wait_seconds) if self.alive() else True
        self.kill()  # children may have outlived it
        return went

    def cpu_seconds(self) -> float:
        """CPU that its session has used: user and system, with children that it has already waited for."""
        ticks = sum(stat.ticks for pid in self.session() if (stat := _stat(pid)) is not None)
        return ticks / os.sysconf("SC_CLK_TCK")

    def rss_bytes(self) -> int:
        """Resident memory of its session; pages shared with children count for each."""
        pages = sum(stat.rss_pages for pid in self.session() if (stat := _stat(pid)) is not None)
        return pages * os.sysconf("SC_PAGE_SIZE")

    def _wait(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self.session():
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_SECONDS)
        return True


def own() -> Process:
    """The process that asks."""
    stat = _stat(os.getpid())
    assert stat is not None, "it runs"
    return Process(os.getpid(), stat.born)


def start(argv: Sequence[str], *, environment: Mapping[str, str], log: Path) -> Process:
    """The process *argv*, started in a session of its own; its output is appended to *log*, its input is empty."""
    log.parent.mkdir(parents=True, exist_ok=True)
    pid = os.posix_spawn(
        argv[0],
        list(argv),
        dict(environment),
        setsid=True,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
    )
    stat = _stat(pid, zombies=True)
    assert stat is not None, "a child stays in /proc until it is reaped"
    return Process(pid, stat.born)


@dataclass(frozen=True, slots=True)
class _Stat:
    session: int
    born: int
    ticks: int
    rss_pages: int


def _stat(pid: int, *, zombies: bool = False) -> _Stat | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text[text.rindex(")") + 2 :].split()  # the name before it may hold anything
    if fields[0] in "ZX" and not zombies:
        return None
    ticks = sum(int(fields[number - 3]) for number in (14, 15, 16, 17))  # utime, stime, cutime, cstime
    return _Stat(session=int(fields[3]), born=int(fields[19]), ticks=ticks, rss_pages=int(fields[21]))


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return  # it went meanwhile, which is what every sender here is content with


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return  # not ours to reap: another command started it
