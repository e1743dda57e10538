"""CPU time of a delivered transfer, with fee, nonce, rows and event: ``python -m tests.city.bench_deliver``."""

from __future__ import annotations

import sys
from time import process_time

from city.app import Town as Application
from city.testing import CHAIN_ID, START_MS, VALID_MS, MemoryState, Town
from consensus.params import CITY
from consensus.transaction import Body, Message, Transaction

ACCOUNTS = 200
ROUNDS = 5


def measure() -> tuple[float, float]:
    """Microseconds for delivering one transfer, and for admitting one."""
    made = Town()
    people = [made.stranger() for _ in range(ACCOUNTS)]
    document = {"coin": {"accounts": [{"address": each.text, "amount": 10**6} for each in people]}}
    town, state = Application(), MemoryState()
    state.apply(town.genesis(document, chain_id=CHAIN_ID, time_ms=START_MS, params=CITY).changes)
    transactions: list[Transaction] = []
    for nonce in range(ROUNDS):
        for i, sender in enumerate(people):
            body = Body(
                chain_id=CHAIN_ID,
                sender=sender.address,
                nonce=nonce,
                valid_until_ms=START_MS + VALID_MS,
                fee=1,
                fee_payer=None,
                messages=(Message("coin", "send", (people[(i + nonce + 1) % ACCOUNTS].address, 5)),),
                signers=(sender.key,),
            )
            transactions.append(body.signed(sender.seed))
    made.params = CITY
    execution = town.execute(state, made._next_block(None))
    execution.begin()
    started = process_time()
    for transaction in transactions:
        assert execution.deliver(transaction).code == ""
    delivered = process_time() - started
    started = process_time()
    for transaction in transactions:
        town.admit(transaction, state, time_ms=START_MS, params=CITY)
    admitted = process_time() - started
    return delivered / len(transactions) * 1e6, admitted / len(transactions) * 1e6


if __name__ == "__main__":
    best = [min(values) for values in zip(*(measure() for _ in range(5)), strict=True)]
    sys.stdout.write(f"deliver {best[0]:.1f} µs, admit {best[1]:.1f} µs a transfer (best of 5)\n")
