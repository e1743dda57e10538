"""``python -m tests.mutants.generated``: each small change that mutmut can make to ``consensus/`` (``make mutation``).

The tests of ``consensus/`` must notice nine in ten; each that they don't is explained in `tests.mutants.survivors`.
A run that was broken off goes on where it was.
"""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.mutants.defect import ROOT
from tests.mutants.survivors import SURVIVORS, WORDS

FOLDER = ROOT / ".mutation"
"""A copy of the project, and what mutmut knows so far."""
PACKAGES = ("consensus", "city", "p2p", "node", "devnet", "tests", "docs")
FILES = ("pyproject.toml", "README.md", "ARCHITECTURE.md", "Makefile")
KILLED_PERCENT_MIN = 90
ALONE_SECONDS_MAX = 120
"""A change with which all tests take longer made something hang, and was noticed."""
CORES = len(os.sched_getaffinity(0))
ENVIRONMENT = {**os.environ, "CI": "true", "ALLTING_UNSHRUNK": "1"}
"""The same examples each time, and no smaller ones."""
SETTINGS = """
[tool.mutmut]
source_paths = ["consensus"]
pytest_add_cli_args_test_selection = ["tests/consensus"]
pytest_add_cli_args = ["-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
also_copy = ["city", "node", "p2p", "devnet", "docs", "README.md", "ARCHITECTURE.md", "Makefile"]
timeout_constant = 4.0
timeout_multiplier = 10.0
process_isolation = "forkserver"
"""
UNNOTICED = (0, 5, 33)
"""The tests that reach it pass, or no test reaches it."""
KILLED = 1
HUNG = (24, -24, 152)
"""How mutmut ends what uses more processor time than any test of it should."""
LITERAL = re.compile(r'f?"[^"]*"')
REFUSALS = ("_require(", "raise ", "assert ", "BadMessage(", "InvalidBlock(", "(self.")


def main() -> int:
    """Runs them all; 0 if enough are killed and each survivor is explained."""
    _copy_project()
    # Fast: the tests are imported once, and of each change those run that reached its place from then on.
    _mutmut()
    # Slow: what matters while modules are imported, and so seemed to survive, is looked at by all tests in turn.
    unnoticed = [name for name, code in _outcomes().items() if code in UNNOTICED]
    with ThreadPoolExecutor(CORES) as pool:
        reasons = list(pool.map(_why, unnoticed))
    return _report(_noticed_alone([name for name, why in zip(unnoticed, reasons, strict=True) if why is None]))


def _copy_project() -> None:
    FOLDER.mkdir(exist_ok=True)
    for package in PACKAGES:
        shutil.rmtree(FOLDER / package, ignore_errors=True)
        shutil.copytree(ROOT / package, FOLDER / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(ROOT / name, FOLDER / name)


def _mutmut() -> None:
    (FOLDER / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text() + SETTINGS)
    subprocess.run([_command(), "run", "--max-children", str(CORES)], cwd=FOLDER, env=ENVIRONMENT, check=True)


def _noticed_alone(names: list[str]) -> set[str]:
    """Those of *names* that a test notices in a process of its own; kept in a file, a run can go on."""
    path = FOLDER / "alone.json"
    known: dict[str, bool] = json.loads(path.read_text()) if path.exists() else {}
    with ThreadPoolExecutor(CORES) as pool:
        left = [name for name in names if name not in known]
        for name, noticed in zip(left, pool.map(_is_noticed, left), strict=True):
            known[name] = noticed
            path.write_text(json.dumps(known))
    return {name for name in names if known[name]}


def _is_noticed(name: str) -> bool:
    folder = FOLDER / "mutants"
    own = f"test_{name.split('.')[1]}"
    # The tests of its own module first: they are the most likely to notice.
    tests = sorted((folder / "tests" / "consensus").glob("test_*.py"), key=lambda file: not file.stem.startswith(own))
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *map(str, tests)]
    environment = {**ENVIRONMENT, "MUTANT_UNDER_TEST": name}
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, timeout=ALONE_SECONDS_MAX, check=False
        )
    except subprocess.TimeoutExpired:
        return True
    return done.returncode != 0


def _command() -> str:
    return str(Path(sys.executable).with_name("mutmut"))


def _outcomes() -> dict[str, int | None]:
    """The exit code of the tests by mutant; None where they did not run."""
    found: dict[str, int | None] = {}
    for path in sorted((FOLDER / "mutants" / "consensus").glob("*.meta")):
        found.update(json.loads(path.read_text())["exit_code_by_key"])
    return found


@functools.cache
def _change(name: str) -> tuple[str, str]:
    """The lines that the mutant *name* takes away, and those that it brings, without their margins."""
    shown = subprocess.run([_command(), "show", name], cwd=FOLDER, capture_output=True, text=True, check=True).stdout
    lines = [line for line in shown.splitlines() if not line.startswith(("---", "+++"))]
    removed, added = ([line[1:].strip() for line in lines if line.startswith(sign)] for sign in "-+")
    return " ".join(removed), " ".join(added)


def _differ_in_words(removed: str, added: str) -> bool:
    """Whether the two are one refusal with another sentence, or none (codes have no spaces)."""
    is_refusal = any(word in removed for word in REFUSALS)
    return is_refusal and (_said(removed, "None") == added or _said(removed, "") == _said(added, ""))


def _said(line: str, instead: str) -> str:
    """*line* with *instead* in place of its sentences."""
    return LITERAL.sub(lambda found: instead if " " in found[0] else found[0], line)


def _why(name: str) -> str | None:
    """Why no test has to notice the mutant *name*; None if nobody has said so."""
    removed, added = _change(name)
    return WORDS if _differ_in_words(removed, added) else SURVIVORS.get((_function(name), added))


def _function(name: str) -> str:
    return name.partition("__mutmut_")[0].replace("xǁ", "").replace("ǁ", ".").replace(".x_", ".")


def _report(noticed_alone: set[str]) -> int:
    outcomes = _outcomes()
    left = {name: code for name, code in outcomes.items() if code not in (KILLED, *HUNG) and name not in noticed_alone}
    unexplained = 0
    for name, code in left.items():
        why = _why(name) if code in UNNOTICED else None
        unexplained += why is None
        removed, added = _change(name)
        _say(f"{_function(name)}\n  - {removed}\n  + {added}\n  {why or f'NOT EXPLAINED ({code})'}")
    killed = len(outcomes) - len(left)
    percent = 100 * killed / max(1, len(outcomes))
    _say(f"{killed} of {len(outcomes)} killed, {percent:.1f} %; {unexplained} without an explanation")
    return 1 if unexplained or percent < KILLED_PERCENT_MIN else 0


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())
