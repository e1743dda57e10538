"""Processes are known by pid and birth, and nothing of them is left."""

import os
import signal
import sys
from pathlib import Path

from devnet.processes import Process, start

SLEEPER = "import time; print('up', flush=True); time.sleep(60)"
PARENT = (
    "import subprocess, sys, time; child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
    "print(child.pid, flush=True); time.sleep(60)"
)
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"


def started(code: str, log: Path) -> Process:
    """A Python process that has printed its first line."""
    process = start([sys.executable, "-c", code], environment=dict(os.environ), log=log)
    while process.alive() and b"\n" not in log.read_bytes():
        os.sched_yield()
    return process


def test_a_process_lives_until_it_is_killed(tmp_path: Path) -> None:
    process = started(SLEEPER, tmp_path / "log")
    assert process.alive()
    process.kill()
    assert not process.alive()
    assert process.session() == []


def test_a_killed_process_takes_its_children_along(tmp_path: Path) -> None:
    process = started(PARENT, tmp_path / "log")
    child = int((tmp_path / "log").read_text())
    assert process.session() == [process.pid, child]
    process.kill()
    assert process.session() == []


def test_a_process_that_obeys_sigterm_went_by_itself(tmp_path: Path) -> None:
    assert started(SLEEPER, tmp_path / "log").stop()


def test_a_paused_process_can_be_stopped(tmp_path: Path) -> None:
    process = started(SLEEPER, tmp_path / "log")
    process.signal_group(signal.SIGSTOP)
    assert process.alive()
    assert process.stop()


def test_a_process_that_is_deaf_to_sigterm_is_killed_and_named_as_such(tmp_path: Path) -> None:
    process = started(DEAF, tmp_path / "log")
    assert not process.stop(wait_seconds=0.1)
    assert not process.alive()


def test_a_stranger_with_the_same_pid_is_left_alone(tmp_path: Path) -> None:
    process = started(SLEEPER, tmp_path / "log")
    earlier = Process(process.pid, process.born - 1)
    assert not earlier.alive()
    earlier.kill()
    assert process.alive()
    process.kill()


def test_cpu_and_memory_are_those_of_the_whole_session(tmp_path: Path) -> None:
    process = started(PARENT, tmp_path / "log")
    assert process.cpu_seconds() >= 0
    assert process.rss_bytes() > 2**20
    process.kill()
    assert process.cpu_seconds() == 0
