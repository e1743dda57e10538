"""What people see of the nodes."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from devnet import fleet, record, view
from devnet.facts import NodeFacts, all_facts, wait_until_ready
from devnet.fleet import StartFailed
from devnet.processes import Process
from tests.devnet.test_record import example

RUNNING = NodeFacts(
    name="node0",
    rpc="http://127.0.0.1:12000",
    state="running",
    height=17,
    round=0,
    peers=3,
    waiting=5,
    block_time_ms=1_040,
    transactions_per_second=99.6,
)
STOPPED = NodeFacts(name="node1", rpc="http://127.0.0.1:12001", state="stopped")


def test_a_line_for_a_log_has_every_figure() -> None:
    assert view.plain([RUNNING, STOPPED]) == (
        "node0 height 17 round 0 peers 3 waiting 5 block time 1.04 s 100 tx/s | node1 stopped"
    )


def test_a_table_fits_a_terminal_of_80_columns() -> None:
    out = io.StringIO()
    Console(file=out, width=80).print(view.table([RUNNING, STOPPED]))
    text = out.getvalue()
    for shown in ("node0", "running", "17", "1.04 s", "100", "http://127.0.0.1:12000", "stopped"):
        assert shown in text
    assert "…" not in text


def test_what_is_said_below_the_table_fits_one_line_of_80_columns() -> None:
    assert len(view.HINT) <= 80


async def test_a_node_without_a_process_is_stopped(tmp_path: Path) -> None:
    facts = await all_facts(example(tmp_path).nodes[1:])
    assert [each.state for each in facts] == ["stopped"]


@pytest.fixture
def home(tmp_path: Path) -> None:
    """The folder of node 1."""
    (tmp_path / "node1").mkdir()


@pytest.mark.usefixtures("home")
async def test_waiting_ends_with_the_log_of_a_node_that_is_gone(tmp_path: Path) -> None:
    net = example(tmp_path)
    net.nodes[1].log.write_text("port 12001 is in use")
    with pytest.raises(StartFailed, match="port 12001 is in use"):
        await wait_until_ready(net.nodes[1:])


@pytest.mark.usefixtures("home")
async def test_the_sentence_of_a_node_that_can_say_why_it_ended_is_enough(tmp_path: Path) -> None:
    net = example(tmp_path)
    net.nodes[1].log.write_text('{"event": "network_started"}\nError: can\'t listen on 127.0.0.1:12001\n')
    with pytest.raises(StartFailed) as failed:
        await wait_until_ready(net.nodes[1:])
    assert str(failed.value).startswith("node1 can't start: can't listen on 127.0.0.1:12001 (its home: ")


@pytest.mark.parametrize("next_up", [None, Process(2, 0)])
async def test_the_view_ends_when_the_devnet_was_taken_down(tmp_path: Path, next_up: Process | None) -> None:
    ours = dataclasses.replace(example(tmp_path), watcher=Process(1, 0))
    record.save(dataclasses.replace(ours, watcher=next_up))
    out = io.StringIO()
    await view.watch(ours, Console(file=out, width=200))
    assert "node0" not in out.getvalue()


async def test_the_view_goes_on_while_all_nodes_are_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view, "PLAIN_SECONDS", 0)
    net = dataclasses.replace(example(tmp_path), watcher=Process(1, 0))
    for node in net.nodes:
        net = net.with_node(dataclasses.replace(node, process=None))
    record.save(net)

    class Twice(Console):
        """Takes the devnet down once it was shown a second time."""

        shown = 0

        def print(self, *things: Any, **how: Any) -> None:
            self.shown += 1
            if self.shown == 2:
                fleet.down(net)
            super().print(*things, **how)

    out = io.StringIO()
    await view.watch(net, Twice(file=out, width=200))
    assert out.getvalue().count("node0 stopped | node1 stopped") == 2
