"""Kills at random moments under load: ``python -m devnet.kills --kills 1000`` (``make kills``).

A fresh devnet of four, a load that never stops, and SIGKILL for one node, two, or all four, at moments that dice choose
(from when it starts again too). Each node must be back on the chain by itself. In the end the books say what became of
each transaction, and the audit what every validator signed.
"""

from __future__ import annotations

import functools
import json
import random
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import trio

from devnet import fleet, homes, load, record
from devnet.audit import Audit
from devnet.follow import heights_of
from devnet.http import Connection, Unreachable
from devnet.ledger import latency
from devnet.record import Devnet

SIZE = 4
LOAD_SECONDS = 30.0
"""Of one load; the next begins when its books are closed."""
QUIET_SECONDS_MAX = 2.0
"""Between a recovery and the next kill."""
DOWN_SECONDS_MAX = 1.0
RECOVERY_SECONDS_MAX = 180.0
"""A node that takes longer to come back has not come back."""
STARTING_KILLED_SHARE = 0.15
"""Of kills that hit a node again while it starts."""
POLL_SECONDS = 0.05
BARS_MAX = 40
BUCKETS_MS = (500, 1_000, 1_500, 2_000, 3_000, 4_000, 6_000, 8_000, 12_000, 20_000, 40_000, 80_000, 180_000)
BOOKS = ("sent", "accepted", "committed", "refused", "expired", "rejected", "resent", "lost", "repeated")


class NotBack(RuntimeError):
    """A node did not come back after a kill; the text has the end of its log."""


@dataclass
class Outcome:
    """What came of a run."""

    kills: int = 0
    """Times that a process got SIGKILL."""
    at_once: Counter[int] = field(default_factory=Counter)
    """By how many nodes at a time."""
    recoveries_ms: list[float] = field(default_factory=list)
    """From the start of the process until it had decided a height above all that were decided when it started."""
    books: Counter[str] = field(default_factory=Counter)
    """Of all loads together."""
    audit: Audit = field(default_factory=Audit)


class Run:
    """One run on a devnet that stands and is up."""

    def __init__(self, net: Devnet, dice: random.Random, kills: int, rate: float) -> None:
        self.outcome = Outcome()
        self._net = net
        self._dice = dice
        self._kills = kills
        self._rate = rate
        self._is_over = False

    async def run(self) -> None:
        """All kills are done, every node is back, all books are closed. Raises NotBack, SignedTwice, Disagreement."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._load)
            while self.outcome.kills < self._kills:
                await trio.sleep(self._dice.uniform(0, QUIET_SECONDS_MAX))  # the moment of a kill is random
                await self._kill()
                click.echo(f"{self.outcome.kills} kills, {self.outcome.audit.signatures} signatures read", err=True)
            self._is_over = True
        for number in range(SIZE):
            self.outcome.audit.read(self._log(number))

    async def _load(self) -> None:
        while not self._is_over:
            try:
                plan = load.Plan(rate=self._rate, seconds=LOAD_SECONDS, active=200)
                books = await load.run(self._net, plan)
            except Unreachable:
                await trio.sleep(POLL_SECONDS)  # all nodes were down when it asked for the nonces
                continue
            self.outcome.books.update({name: int(str(books[name])) for name in BOOKS})

    async def _kill(self) -> None:
        count = min(self._dice.choices((1, 2, SIZE), (8, 1, 1))[0], self._kills - self.outcome.kills)
        victims = sorted(self._dice.sample(range(SIZE), count))
        before = max((await heights_of([node.rpc for node in self._net.nodes])).values(), default=0)
        await self._killed(victims)
        self.outcome.at_once[count] += 1
        await trio.sleep(self._dice.uniform(0, DOWN_SECONDS_MAX))  # how long they are down is random
        if self._dice.random() < STARTING_KILLED_SHARE and self.outcome.kills + count <= self._kills:
            await self._start(victims)
            await trio.sleep(self._dice.uniform(0, DOWN_SECONDS_MAX))  # anywhere within their start
            await self._killed(victims)
        await self._start(victims)
        async with trio.open_nursery() as nursery:
            for number in victims:
                nursery.start_soon(self._await_back, number, before + 1)

    async def _killed(self, victims: list[int]) -> None:
        self._net = await trio.to_thread.run_sync(fleet.kill_nodes, self._net, victims)
        self.outcome.kills += len(victims)
        for number in victims:
            self.outcome.audit.read(self._log(number))

    async def _start(self, victims: list[int]) -> None:
        for number in victims:
            self._net = await trio.to_thread.run_sync(fleet.start_node, self._net, number)

    async def _await_back(self, number: int, height: int) -> None:
        started = trio.current_time()
        node = self._net.node(number)
        async with Connection(node.rpc, timeout_seconds=3.0) as connection:
            while True:
                try:
                    status = await connection.call("status")
                    if status["sync_info"]["latest_block_height"] >= height:
                        break
                except Unreachable:
                    pass  # it starts
                if not node.running() or trio.current_time() - started > RECOVERY_SECONDS_MAX:
                    raise NotBack(f"{node.name} is not back at height {height}:\n{fleet.tail(node.log)}")
                await trio.sleep(POLL_SECONDS)  # another process: it can only be asked
        self.outcome.recoveries_ms.append((trio.current_time() - started) * 1000)

    def _log(self, number: int) -> Path:
        return Path(self._net.node(number).home) / "data" / "consensus.wal"


def events_in(net: Devnet) -> Counter[str]:
    """How often each event of level warning or error stands in the nodes' logs; what is no JSON counts as such."""
    found: Counter[str] = Counter()
    for node in net.nodes:
        for line in node.log.read_text().splitlines():
            try:
                entry: dict[str, Any] = json.loads(line)
            except ValueError:
                entry = {"level": "error", "event": f"no JSON: {line[:80]}"}
            if entry["level"] in ("warning", "error"):
                found[entry["event"]] += 1
    return found


async def repeated_on_chain(net: Devnet) -> int:
    """How many transactions stand on the chain more than once, over all loads."""
    found: Counter[str] = Counter()
    async with Connection(net.nodes[0].rpc, timeout_seconds=10.0) as connection:
        latest = (await connection.call("status"))["sync_info"]["latest_block_height"]
        for height in range(1, latest + 1):
            found.update((await connection.call("block", height=height))["block"]["transaction_ids"])
    return sum(1 for count in found.values() if count > 1)


def histogram(values_ms: Sequence[float]) -> list[str]:
    """Lines that show how *values_ms* are spread."""
    lines, low = [], 0
    largest = 0
    rows = []
    for high in (*BUCKETS_MS, None):
        count = sum(1 for value in values_ms if low <= value and (high is None or value < high))
        rows.append((low, high, count))
        largest = max(largest, count)
        low = high or low
    for start, end, count in rows:
        if count:
            name = f"{start / 1000:5.1f} – {end / 1000:5.1f} s" if end else f"{start / 1000:5.1f} s or more"
            lines.append(f"  {name}  {'█' * max(1, count * BARS_MAX // largest)} {count}")
    return lines


def _start_all(directory: Path, plan: homes.Plan) -> Devnet:
    net = homes.create(directory, plan)
    record.save(net)
    for node in net.nodes:
        net = fleet.start_node(net, node.number)
    return net


async def _up(net: Devnet) -> None:
    with trio.fail_after(RECOVERY_SECONDS_MAX):
        while min((await heights_of([node.rpc for node in net.nodes])).values(), default=0) < 3:  # noqa: ASYNC110 (no event)
            await trio.sleep(POLL_SECONDS)  # other processes: they can only be asked; bounded by the deadline


@click.command()
@click.option("--kills", type=click.IntRange(1, 100_000), default=1_000, show_default=True)
@click.option("--rate", type=click.FloatRange(0.1, 10_000), default=20, show_default=True, help="Transfers a second.")
@click.option("--seed", type=int, help="Of the dice; a fresh one is printed.")
def main(kills: int, rate: float, seed: int | None) -> None:
    """Kill nodes of a fresh devnet under load, at random moments, and say what came of it. Exit code 1 if it failed."""
    seed = random.SystemRandom().randrange(2**32) if seed is None else seed
    click.echo(f"seed {seed}, {kills} kills, {rate} transfers a second")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="allting-kills-") as folder:
        net = _start_all(Path(folder) / "net", homes.Plan(validators=SIZE, load_accounts=200))
        try:
            trio.run(_up, net)
            run = Run(net, random.Random(seed), kills, rate)
            trio.run(run.run)
            net = record.load(net.directory)
            repeated = trio.run(functools.partial(repeated_on_chain, net))
            heights = trio.run(functools.partial(heights_of, [node.rpc for node in net.nodes]))
            events = events_in(net)
        finally:
            fleet.down(record.load(net.directory))
    outcome = run.outcome
    bad = outcome.books["lost"] + outcome.books["repeated"] + repeated
    bad += sum(count for event, count in events.items() if event in ("equivocation_found", "key_used_elsewhere"))
    seconds = time.monotonic() - began
    click.echo(f"{outcome.kills} kills in {seconds:.0f} s; nodes at once: {dict(sorted(outcome.at_once.items()))}")
    click.echo(f"books: {dict(outcome.books)}; on the chain more than once: {repeated}")
    click.echo(f"signed: {dict(outcome.audit.by_kind)}, nothing twice ({outcome.audit.signatures} signatures read)")
    click.echo(f"heights: {sorted(heights.values())}; warnings and errors: {dict(events)}")
    click.echo(f"recovery: {dict(latency(outcome.recoveries_ms))} ms")
    click.echo("\n".join(histogram(outcome.recoveries_ms)))
    if bad:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
