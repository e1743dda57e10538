"""A node whose clock is wrong: ``python -m devnet.skewed MILLISECONDS start --home …`` runs ``allting start`` as usual.

Only this process sees the other time: what it reads as the machine's clock is that many milliseconds ahead.
"""

from __future__ import annotations

import sys
import time

from node.cli.main import main as allting


def main() -> None:
    """Runs the command behind the first argument."""
    offset_ns = int(sys.argv.pop(1)) * 1_000_000
    clock = time.time_ns
    time.time_ns = lambda: clock() + offset_ns
    allting()


if __name__ == "__main__":
    main()
