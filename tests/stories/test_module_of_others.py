"""Issue line 8, a handler that raises: a module that somebody else wrote is installed, and fails without harm."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.stories.network import Network, act

pytestmark = pytest.mark.story

MODULE = '''"""A counter that breaks when it is asked to."""

from city.sdk import Context, Module, Table, message, query


class Counter(Module):
    """Counts for each account."""

    name, version = "counter", 1

    counts = Table(int, int)

    @message
    def add(self, ctx: Context, *, number: int) -> None:
        """Add one to a number's count."""
        self.counts[number] = (self.counts.get(number) or 0) + 1

    @message
    def add_and_break(self, ctx: Context, *, number: int) -> None:
        """Add one, then fail as a defect does."""
        self.counts[number] = (self.counts.get(number) or 0) + 1
        {}[number]

    @query
    def count(self, *, number: int) -> int:
        """How often a number was counted."""
        return self.counts.get(number) or 0
'''
METADATA = "Metadata-Version: 2.1\nName: counter-of-others\nVersion: 1.0\n"
ENTRY_POINTS = "[allting.modules]\ncounter = counter_of_others:Counter\n"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The module is installed for every process that this story starts, as a package of its own would be."""
    (tmp_path / "counter_of_others.py").write_text(MODULE)
    facts = tmp_path / "counter_of_others-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(METADATA)
    (facts / "entry_points.txt").write_text(ENTRY_POINTS)
    paths = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))


@pytest.mark.usefixtures("installed")
def test_a_handler_that_raises_is_a_result_alike_on_all_nodes_and_changes_nothing(network: Network) -> None:
    network.up()
    anna = network.key("anna")
    act(network.urls[0], anna, {"counter.add": {"number": 7}})
    broken = act(network.urls[1], anna, {"counter.add": {"number": 7}}, {"counter.add_and_break": {"number": 7}})
    assert broken["result"]["code"] == "module.fault"
    answer = act(network.urls[2], anna, {"counter.add": {"number": 8}})

    network.until_height(answer["height"])
    assert len(network.app_hashes(answer["height"])) == 1
    assert [network.query("counter/count", number=number) for number in (7, 8)] == [1, 1]
    assert {line["event"] for line in network.log_lines("error")} == {"module_fault"}
