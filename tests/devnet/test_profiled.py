"""The profile counts where the CPU was found."""

from __future__ import annotations

import sys

from devnet.profiled import Samples


def outer(samples: Samples) -> None:
    """Calls `inner`."""
    inner(samples)


def inner(samples: Samples) -> None:
    """Is found on top of the stack."""
    samples.note(0, sys._getframe())


def test_a_function_counts_by_itself_and_for_its_callers() -> None:
    samples = Samples()
    outer(samples)
    outer(samples)
    here = "tests/devnet/test_profiled.py"
    assert samples.own == {f"{here}:inner": 2}
    assert samples.total[f"{here}:outer"] == 2
    assert f" 100.0   100.0  {here}:inner" in samples.report()
