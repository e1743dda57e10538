"""Whether one order of all operations on a register explains what each of them saw (Wing and Gong 1993, Lowe 2017).

An operation takes effect at one instant between its invocation and its completion. The search goes through the orders
that time allows, and never twice to the same set of finished operations with the same value.
"""

from __future__ import annotations

from collections.abc import Sequence

from tests.jepsen.history import Operation


def is_linearizable(operations: Sequence[Operation], initial: int = 0) -> bool:
    """Whether the history of one register, which held *initial* at first, can be explained."""
    ordered = sorted(operations, key=lambda operation: operation.invoked)
    everything = (1 << len(ordered)) - 1
    seen: set[tuple[int, int]] = set()
    stack = [(0, initial)]
    while stack:
        done, value = stack.pop()
        if done == everything:
            return True
        for place in _possible(ordered, done):
            after = ordered[place].after(value)
            state = (done | 1 << place, after)
            if after is not None and state not in seen:
                seen.add((state[0], after))
                stack.append((state[0], after))
    return False


def _possible(ordered: Sequence[Operation], done: int) -> list[int]:
    """Operations that may come next: those that began before any other unfinished one had ended."""
    left = [place for place in range(len(ordered)) if not done >> place & 1]
    first_end = min(ordered[place].completed for place in left)
    return [place for place in left if ordered[place].invoked <= first_end]
