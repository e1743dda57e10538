"""``python -m node.store_probe FOLDER``: reads all of an LMDB environment, and ends with 0 if that is possible.

A page that is missing or wrong can end the process that looks at it (SIGBUS, or an assertion of LMDB's): so somebody
else looks first.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import lmdb

TABLES_MAX = 64
SECONDS_MAX = 3_600


def is_readable(folder: Path) -> bool:
    """Whether every row of the environment in *folder* can be read; found out by another process."""
    command = [sys.executable, "-P", "-m", "node.store_probe", str(folder)]
    root = str(Path(__file__).resolve().parent.parent)
    done = subprocess.run(command, cwd=root, env={"PYTHONPATH": root}, capture_output=True, timeout=SECONDS_MAX)
    return done.returncode == 0


def read_all(folder: Path) -> None:
    """Every row of every table has been read."""
    with lmdb.open(str(folder), readonly=True, lock=False, max_dbs=TABLES_MAX) as env:
        with env.begin() as transaction:
            names = [bytes(name) for name in transaction.cursor().iternext(keys=True, values=False)]
        tables = [env.open_db(name, create=False) for name in names]
        with env.begin() as transaction:
            for table in tables:
                for _ in transaction.cursor(table):
                    pass


if __name__ == "__main__":
    read_all(Path(sys.argv[1]))
