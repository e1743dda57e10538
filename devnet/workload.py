"""What a load consists of: transfers among some of the funded accounts, signed before the clock runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from consensus.address import to_text
from devnet.accounts import Account, Transfer, account, sign_transfer
from devnet.batches import BATCH_MAX, Signed
from devnet.http import Connection, Refusal, Unreachable
from devnet.record import Devnet, NoDevnet

FEE = 100
"""Pays for more weight than a transfer uses; charged whole."""


@dataclass(frozen=True, slots=True)
class Workload:
    """Who sends to whom."""

    chain_id: str
    accounts: Sequence[Account]
    """Those that take part, as senders in turn and as receivers."""

    @classmethod
    def of(cls, devnet: Devnet, *, active: int) -> Workload:
        """*active* accounts, spread evenly over all that the genesis funds (all of them if there are fewer).

        Raises NoDevnet where it funds none.
        """
        count = min(active, devnet.load_accounts)
        if not count:
            raise NoDevnet("this devnet has no funded accounts to send from; make one: allting devnet up --fresh")
        step = devnet.load_accounts // count
        return cls(devnet.chain_id, [account(devnet.chain_id, index * step) for index in range(count)])

    def signed(self, count: int, *, nonces: Sequence[int], valid_until_ms: int) -> Iterator[Signed]:
        """*count* signed transfers: each sender in turn, with nonces from *nonces* on, to a receiver that changes."""
        size = len(self.accounts)
        for number in range(count):
            sender, turn = number % size, number // size
            receiver = self.accounts[(sender + 1 + turn * 7) % size]
            nonce = nonces[sender] + turn
            transfer = Transfer(sender=self.accounts[sender], to=receiver.address, nonce=nonce, amount=1)
            raw = sign_transfer(transfer, chain_id=self.chain_id, valid_until_ms=valid_until_ms, fee=FEE)
            yield Signed.of(raw, sender=sender, nonce=nonce, valid_until_ms=valid_until_ms)

    async def nonces(self, connection: Connection) -> list[int]:
        """The next nonce of each account, as the node at *connection* knows it. Raises Refusal, Unreachable."""
        found: list[int] = []
        for start in range(0, len(self.accounts), BATCH_MAX):
            part = self.accounts[start : start + BATCH_MAX]
            calls = [
                ("query", {"path": "town/account", "args": {"address": to_text(member.address)}}) for member in part
            ]
            for answer in await connection.batch(calls):
                if isinstance(answer, Refusal):
                    raise answer
                found.append(int(answer["answer"]["next_nonce"]))
        return found


async def first_answer(devnet: Devnet, workload: Workload) -> list[int]:
    """The next nonces, from the first node that answers. Raises Unreachable if none does."""
    why = "none runs; start them: allting devnet up"
    for node in devnet.nodes:
        if not node.running() or node.paused:
            continue
        async with Connection(node.rpc) as connection:
            try:
                return await workload.nonces(connection)
            except Unreachable as error:
                why = str(error)
    raise Unreachable(f"no node answers: {why}")
