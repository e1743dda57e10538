"""``python -m tests.mutants [PART OF A NAME …]``: each defect in turn, in a copy of the project; what killed which.

Exit code 1 if one survives, or if a check can't be run: a defect counts as killed only by a test that fails.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.mutants import consensus_defects, light_defects, node_defects
from tests.mutants.defect import ROOT, WORLD_SEEDS, WORLDS, Defect

CHECK_SECONDS_MAX = 300
"""A check that takes longer is stopped: a defect that makes the code hang was noticed, too."""
PACKAGES = ("consensus", "city", "p2p", "node", "devnet", "tests", "docs")
FAILED = re.compile(r"^(?:FAILED|ERROR) \S*/(\S+)", re.MULTILINE)


def main(words: list[str]) -> int:
    """Runs the defects whose names contain one of *words* (all, if there are none); 0 if all are killed."""
    defects = [
        defect
        for defect in (*consensus_defects.DEFECTS, *node_defects.DEFECTS, *light_defects.DEFECTS)
        if not words or any(word in defect.name for word in words)
    ]
    survivors = []
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="allting-mutants-") as folder:
        root = Path(folder)
        _copy_project(root)
        for number, defect in enumerate(defects, 1):
            killer = _killer(root, defect)
            if killer is None:
                survivors.append(defect.name)
            _say(f"{number:3d}/{len(defects)}  {defect.name:64s} {killer or 'SURVIVES'}")
    _say(f"{len(defects) - len(survivors)} of {len(defects)} killed in {time.monotonic() - started:.0f} s")
    return 1 if survivors or not defects else 0


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _copy_project(root: Path) -> None:
    for package in PACKAGES:
        shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "ARCHITECTURE.md", "Makefile"):
        shutil.copy(ROOT / name, root / name)


def _killer(root: Path, defect: Defect) -> str | None:
    """What notices *defect*, None if nothing does. The copy is whole again afterwards."""
    file = root / defect.path
    whole = file.read_bytes()
    defect.put_into(root)
    try:
        for check in defect.checks:
            killer = _violation(root) if check == WORLDS else _failing_test(root, check)
            if killer is not None:
                return killer
        return None
    finally:
        file.write_bytes(whole)


def _failing_test(root: Path, check: str) -> str | None:
    """The first test of the file *check* that fails, None if all pass. Raises RuntimeError if they can't be run."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-m", "not story", check]
    try:
        done = _run(root, command)
    except subprocess.TimeoutExpired:
        return f"{check} (hangs)"
    if done.returncode == 0:
        return None
    found = FAILED.search(done.stdout)
    if done.returncode != 1 or found is None:
        raise RuntimeError(f"{check} can't be run:\n{done.stdout[-2_000:]}{done.stderr[-2_000:]}")
    return found[1]


def _violation(root: Path) -> str | None:
    """The first seed of the core worlds with a violation, None if there is none."""
    command = [sys.executable, "-m", "node.cli.main", "devnet", "sim", "--depth", "core", "--seeds", WORLD_SEEDS]
    done = _run(root, command)
    if done.returncode == 0:
        return None
    seed = re.search(r"seed (\d+)", done.stdout + done.stderr)
    return f"core world {seed[1] if seed else '?'}"


def _run(root: Path, command: list[str]) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": str(root),
        "PYTHONDONTWRITEBYTECODE": "1",
        "ALLTING_UNSHRUNK": "1",
        "CI": "true",  # the same examples each time
    }
    return subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, timeout=CHECK_SECONDS_MAX, check=False
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
