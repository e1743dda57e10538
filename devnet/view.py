"""The live view: one line per node, for as long as somebody looks. Plain lines where the output is no terminal."""

from __future__ import annotations

from collections.abc import Sequence

import trio
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from devnet.facts import NodeFacts, Observer, reread
from devnet.record import Devnet, NoDevnet

REFRESH_SECONDS = 0.5
PLAIN_SECONDS = 5.0
"""Between plain lines."""

WAITING = -1
"""The round of a node that waits for something to decide."""

HINT = "Ctrl-C stops all nodes; from another shell: allting devnet kill 2, start 2"

COLOURS = {"running": "green", "paused": "yellow", "silent": "red", "stopped": "dim"}


async def watch(devnet: Devnet, console: Console) -> None:
    """Shows the nodes until cancelled, or until *devnet* is no longer its watcher's: somebody took it down."""
    watcher = devnet.watcher
    observers = {node.name: Observer(node.rpc) for node in devnet.nodes}
    with Live(console=console, auto_refresh=False, transient=False) as live:
        while True:
            try:
                devnet = reread(devnet)
            except NoDevnet:
                return
            if devnet.watcher != watcher:
                return
            rows = await _observed(devnet, observers)
            if console.is_terminal:
                live.update(Group(table(rows), Text(HINT, style="dim italic")), refresh=True)
                await trio.sleep(REFRESH_SECONDS)
            else:
                console.print(plain(rows), highlight=False, soft_wrap=True)
                await trio.sleep(PLAIN_SECONDS)


async def _observed(devnet: Devnet, observers: dict[str, Observer]) -> list[NodeFacts]:
    found: dict[str, NodeFacts] = {}

    async def ask(number: int) -> None:
        node = devnet.node(number)
        found[node.name] = await observers[node.name].facts(node)

    async with trio.open_nursery() as nursery:
        for node in devnet.nodes:
            nursery.start_soon(ask, node.number)
    return [found[node.name] for node in devnet.nodes]


def table(rows: Sequence[NodeFacts]) -> Table:
    """*rows* as a table for a terminal."""
    shown = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for title in ("node", "state", "height", "round", "peers", "waiting", "block\ntime", "tx/s", "RPC"):
        shown.add_column(title, justify="left" if title in ("node", "state", "RPC") else "right", no_wrap=True)
    for row in rows:
        state = f"[{COLOURS[row.state]}]{row.state}[/]"
        shown.add_row(row.name, state, *_numbers(row), row.rpc)
    return shown


def plain(rows: Sequence[NodeFacts]) -> str:
    """*rows* as one line for a log."""
    parts = []
    for row in rows:
        if row.height is None:
            parts.append(f"{row.name} {row.state}")
            continue
        height, round_, peers, waiting, block_time, rate = _numbers(row)
        parts.append(
            f"{row.name} height {height} round {round_} peers {peers} waiting {waiting}"
            f" block time {block_time} {rate} tx/s"
        )
    return " | ".join(parts)


def _numbers(row: NodeFacts) -> list[str]:
    """Height, round, peers, waiting, block time, rate."""
    return [
        _text(row.height),
        _text(row.round if row.round != WAITING else None),
        _text(row.peers),
        _text(row.waiting),
        "–" if row.block_time_ms is None else f"{row.block_time_ms / 1000:.2f} s",
        "–" if row.transactions_per_second is None else f"{row.transactions_per_second:.0f}",
    ]


def _text(value: int | None) -> str:
    return "–" if value is None else str(value)
