"""cometbft#2925: after each block the whole pool was checked again; 5,000 transactions took 1.2 s of every block.

ENGINE §2 item 6. Here a block moves on the queues of those who are in it, and nobody else is looked at.
"""

from __future__ import annotations

from tests.node.fake_town import Balances, account, signed
from tests.node.test_mempool import Pool


async def test_a_full_pool_is_not_gone_through_when_a_block_is_decided() -> None:
    pool = Pool()
    waiting = [signed(number, nonce) for number in range(1, 251) for nonce in range(4)]
    assert set(await pool.take(*waiting)) == {""}
    asked = pool.app.admissions
    decided = waiting[0]
    pool.next_state(Balances({account(1): 1}), decided)
    assert pool.count == len(waiting) - 1
    await pool.wait_for_work()
    assert pool.app.admissions - asked <= 1, "whether there is work is known from one of them"
    assert len(pool.block()) == 100
