"""People of a node world: they send, send again what they see nothing of, and in the end everything must be decided."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from consensus.address import to_text
from consensus.application import Result
from consensus.signing import sha256
from consensus.transaction import Message
from devnet.sim.node_clock import START_MS
from devnet.sim.node_town import ACCOUNTS, PERSONS, VALID_MS, address_of, message, transaction
from node.retention import RESULTS

if TYPE_CHECKING:
    from devnet.sim.node_world import NodeWorld

PENDING_MAX = 40
"""Of one account, that no block has taken yet; a pool parks no more than 64 nonces ahead."""
LOOK_S = 0.1


@dataclass(frozen=True, slots=True)
class Sent:
    """A transaction and what it was sent for."""

    id: bytes
    raw: bytes
    account: int


class Load:
    """All accounts with their nonces and what is not decided yet."""

    def __init__(self, world: NodeWorld, dice: random.Random) -> None:
        self._world = world
        self._dice = dice
        self._nonces = [0] * ACCOUNTS
        self._pending: dict[bytes, Sent] = {}

    @property
    def sent(self) -> int:
        """Transactions so far."""
        return sum(self._nonces)

    async def run(self, mean_s: float) -> None:
        """Transfers at random moments, to random nodes, some of them twice; until cancelled."""
        while True:
            await trio.sleep(self._dice.expovariate(1 / mean_s))
            account, to = self._dice.randrange(PERSONS, ACCOUNTS), self._dice.randrange(ACCOUNTS)
            if self._count(account) < PENDING_MAX:
                transfer = message("coin.send", to=to_text(address_of(to)), amount=self._dice.randint(1, 1_000))
                await self.send(account, transfer)
            if self._dice.random() < 0.2:
                await self._repeat()

    async def send(self, account: int, *messages: Message) -> bytes:
        """The id of a transaction of *account* that one node, or none, has taken; it will be sent until decided."""
        nonce = self._nonces[account]
        self._nonces[account] = nonce + 1
        raw = transaction(account, nonce, messages, valid_until_ms=START_MS + VALID_MS)
        sent = Sent(sha256(raw), raw, account)
        self._pending[sent.id] = sent
        self._world.checker.submitted[sent.id] = None
        await self._give(sent)
        return sent.id

    async def decided(self, id_: bytes) -> Result:
        """The result of a transaction, once a block holds it."""
        while True:
            height = self._world.checker.committed.get(id_)
            for node in self._world.running():
                store = node.engine.store if node.engine is not None else None
                if height is not None and store is not None and store.kept.earliest[RESULTS] <= height <= store.height:
                    index = store.block(height).transaction_ids.index(id_)
                    return store.results(height)[index + 1]
            await trio.sleep(LOOK_S)

    async def finish(self) -> None:
        """Everything that was ever sent is decided; it is sent again to every node meanwhile."""
        while True:
            self._forget_decided()
            if not self._pending:
                return
            for sent in list(self._pending.values()):
                for node in self._world.running():
                    if node.honest and node.engine is not None:
                        await node.engine.mempool.submit([sent.raw], source=None)
            await trio.sleep(1.0)

    async def _repeat(self) -> None:
        """Somebody got no answer, and asks another node."""
        self._forget_decided()
        if self._pending:
            await self._give(self._dice.choice(list(self._pending.values())))

    async def _give(self, sent: Sent) -> None:
        nodes = self._world.running()
        if nodes:
            node = self._dice.choice(nodes)
            assert node.engine is not None
            await node.engine.mempool.submit([sent.raw], source=None)

    def _count(self, account: int) -> int:
        self._forget_decided()
        return sum(sent.account == account for sent in self._pending.values())

    def _forget_decided(self) -> None:
        committed = self._world.checker.committed
        self._pending = {id_: sent for id_, sent in self._pending.items() if id_ not in committed}
