"""The load generator: sends signed transfers at a rate, whatever the nodes do, and keeps books of each of them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import trio

from devnet import record
from devnet.batches import BATCH_MAX, Signed, broadcast
from devnet.follow import Disagreement, Follower, heights_of
from devnet.http import Connection, Unreachable
from devnet.ledger import Entry, Ledger, report
from devnet.record import Devnet
from devnet.workload import Workload, first_answer

ANSWER_SECONDS = 3.0
REQUESTS_PER_NODE_MAX = 8
"""Batches under way to one node; a node that stands still fills its share, and no more."""
AWAY_SECONDS = 1.0
"""How long a node that gave no answer is passed over."""
TICK_SECONDS = 0.05
GRACE_SECONDS = 60
"""How long after the last sending a transaction stays valid."""
SETTLE_SECONDS = 30
"""How long after that the books may take to close."""


@dataclass(slots=True)
class Target:
    """One node to send to, with its kept connections."""

    number: int
    url: str
    idle: list[Connection] = field(default_factory=list)
    under_way: int = 0
    away_until: float = 0.0


class Sender:
    """Brings transactions to the nodes in turn, and their answers to the ledger."""

    def __init__(self, ledger: Ledger, urls: Sequence[str]) -> None:
        self.ledger = ledger
        self._targets = [Target(number, url) for number, url in enumerate(urls)]
        self._turn = 0
        self._freed = trio.Event()

    async def free_target(self, *, but: int | None = None) -> Target:
        """The next node in turn that can take a batch (not number *but*, if there is another); waits for one."""
        while True:
            now = trio.current_time()
            able = [it for it in self._targets if it.under_way < REQUESTS_PER_NODE_MAX and it.away_until <= now]
            others = [it for it in able if it.number != but] or able
            if others:
                self._turn += 1
                return min(others, key=lambda it: (it.number - self._turn) % len(self._targets))
            self._freed = trio.Event()
            with trio.move_on_after(TICK_SECONDS):
                await self._freed.wait()

    def launch(self, nursery: trio.Nursery, target: Target, transactions: Sequence[Signed]) -> None:
        """*transactions* (at most `BATCH_MAX`, already in the ledger) are on their way to *target*."""
        target.under_way += 1
        nursery.start_soon(self._deliver, target, transactions)

    async def _deliver(self, target: Target, transactions: Sequence[Signed]) -> None:
        connection = target.idle.pop() if target.idle else Connection(target.url, timeout_seconds=ANSWER_SECONDS)
        try:
            answers = await broadcast(connection, transactions)
        except Unreachable:
            # Whether they arrived is not known: the ledger will ask for them again, and another node will get them.
            target.away_until = trio.current_time() + AWAY_SECONDS
            await connection.close()
        else:
            now = trio.current_time()
            for transaction, answer in zip(transactions, answers, strict=True):
                self.ledger.answered(transaction, answer, now=now)
            target.idle.append(connection)
        finally:
            target.under_way -= 1
            self._freed.set()

    async def resend(self, nursery: trio.Nursery) -> None:
        """Sends overdue transactions to another node than the last, until cancelled."""
        while True:
            overdue = self.ledger.overdue(trio.current_time(), limit=BATCH_MAX)
            by_node: dict[int, list[Entry]] = {}
            for entry in overdue:
                by_node.setdefault(entry.last_node, []).append(entry)
            for last, entries in sorted(by_node.items()):
                target = await self.free_target(but=last)
                for entry in entries:
                    self.ledger.again(entry.transaction, now=trio.current_time(), node=target.number)
                self.launch(nursery, target, [entry.transaction for entry in entries])
            if len(overdue) < BATCH_MAX:
                await trio.sleep(TICK_SECONDS)  # time alone makes a transaction overdue

    async def close(self) -> None:
        """All idle connections are closed, also while we are being cancelled; nothing may be under way."""
        with trio.CancelScope(shield=True):
            for target in self._targets:
                for connection in target.idle:
                    await connection.close()


async def at_rate(sender: Sender, nursery: trio.Nursery, transactions: Iterator[Signed], rate: float) -> None:
    """Sends *transactions* at *rate* per second, open-loop: each has its due moment, however late the nodes are."""
    started = trio.current_time()
    sent = 0
    while True:
        now = trio.current_time()
        count = min(math.floor((now - started) * rate) + 1 - sent, BATCH_MAX)
        part = list(islice(transactions, max(0, count)))
        if count > 0 and not part:
            return
        if part:
            target = await sender.free_target()
            for transaction in part:
                sender.ledger.send(transaction, due=started + sent / rate, now=now, node=target.number)
                sent += 1
            sender.launch(nursery, target, part)
        if count < BATCH_MAX:
            await trio.sleep(max(TICK_SECONDS, 1 / rate))  # the rate that was asked for


async def up_to(sender: Sender, nursery: trio.Nursery, transactions: Iterator[Signed], window: int) -> None:
    """Sends *transactions* as fast as they are decided: at most *window* are open at any moment (closed loop)."""
    batch = min(BATCH_MAX, window)
    while True:
        if sender.ledger.open + batch > window:
            await trio.sleep(TICK_SECONDS / 10)  # the ledger is pure and tells nobody
            continue
        part = list(islice(transactions, batch))
        if not part:
            return
        target = await sender.free_target()
        now = trio.current_time()
        for transaction in part:
            sender.ledger.send(transaction, due=now, now=now, node=target.number)
        sender.launch(nursery, target, part)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One load."""

    rate: float
    """Transactions per second."""
    seconds: float
    active: int = 1_000
    """Accounts that take part."""
    with_results: bool = True
    """Whether each block's results are asked for; without, all that is in a block counts as committed."""


async def run(devnet: Devnet, plan: Plan, *, tell: Callable[[str], None] = lambda text: None) -> dict[str, object]:
    """What came of *plan* on *devnet*, as ``load --json`` prints it. Raises Unreachable, Disagreement, Refusal.

    Returns once every transaction is decided, or when the last one must have been, `SETTLE_SECONDS` after its validity.
    """
    workload = Workload.of(devnet, active=plan.active)
    if len(workload.accounts) < plan.active:
        tell(f"this devnet has {len(workload.accounts)} funded accounts, fewer than {plan.active}; all take part")
    nonces = await first_answer(devnet, workload)
    valid_until_ms = time.time_ns() // 1_000_000 + int((plan.seconds + GRACE_SECONDS) * 1000)
    count = math.ceil(plan.rate * plan.seconds)
    tell(f"signing {count} transfers between {len(workload.accounts)} accounts …")
    transactions = list(workload.signed(count, nonces=nonces, valid_until_ms=valid_until_ms))
    tell("sending …")
    return await run_signed(devnet, plan, transactions, tell=tell)


async def run_signed(
    devnet: Devnet, plan: Plan, transactions: Sequence[Signed], *, tell: Callable[[str], None]
) -> dict[str, object]:
    """`run`, for *transactions* that are signed already."""
    ledger = Ledger()
    urls = [node.rpc for node in devnet.nodes]
    follower = Follower(
        await _next_height(urls),
        lambda block: ledger.block(block, now=trio.current_time()),
        with_results=plan.with_results,
    )
    sender = Sender(ledger, urls)
    try:
        async with trio.open_nursery() as nursery:
            for url in urls:
                nursery.start_soon(follower.follow, url)
            nursery.start_soon(sender.resend, nursery)
            nursery.start_soon(_tell_progress, ledger, tell)
            await at_rate(sender, nursery, iter(transactions), plan.rate)
            with trio.move_on_after(GRACE_SECONDS + SETTLE_SECONDS):
                await all_decided(ledger)
                await _all_reach(devnet, follower)
            nursery.cancel_scope.cancel()
    except* Disagreement as group:
        raise group.exceptions[0] from None
    finally:
        await sender.close()
    return {**report(ledger), "heights": {node.name: follower.heights.get(node.rpc) for node in devnet.nodes}}


async def _next_height(urls: list[str]) -> int:
    heights = await heights_of(urls)
    if not heights:
        raise Unreachable("no node answers; see: allting devnet status")
    return max(heights.values()) + 1


async def all_decided(ledger: Ledger) -> None:
    """Returns once no transaction of *ledger* is open."""
    while ledger.open:  # noqa: ASYNC110 - the ledger is pure and tells nobody
        await trio.sleep(TICK_SECONDS)


async def _all_reach(devnet: Devnet, follower: Follower) -> None:
    """Every running node has decided all that the books rest on, so that each was compared with the others."""
    height = follower.next_height - 1
    while True:
        running = [node for node in record.load(devnet.directory).nodes if node.running() and not node.paused]
        if all(follower.heights.get(node.rpc, 0) >= height for node in running):
            return
        await trio.sleep(TICK_SECONDS)


async def _tell_progress(ledger: Ledger, tell: Callable[[str], None]) -> None:
    while True:
        await trio.sleep(5)
        committed = len(ledger.latencies_ms)
        tell(f"sent {len(ledger.entries)}, committed {committed}, open {ledger.open}, resent {ledger.resent}")
