"""``python -m tests.branch_coverage REPORT PERCENT``: fails if coverage's JSON *REPORT* has fewer branches covered."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(report: str, percent_min: str) -> int:
    """0 if enough are covered (coverage's own limit counts statements, too)."""
    totals = json.loads(Path(report).read_text())["totals"]
    percent = 100 * totals["covered_branches"] / totals["num_branches"]
    sys.stdout.write(f"{percent:.1f} % of branches covered, {percent_min} % are required\n")
    return 0 if percent >= float(percent_min) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
