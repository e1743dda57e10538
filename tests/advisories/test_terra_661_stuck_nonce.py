"""classic-terra#661, cosmos-sdk#18708, celestia-core#1552: one transaction that could not go stranded all later ones.

ENGINE §2 item 7. There it stood in a cache, could not be replaced, and even «unjail» waited behind it. Here a queue has
places by nonce: who waits behind a bad one replaces it, is told why, and everything behind goes on.
"""

from __future__ import annotations

from tests.node.fake_town import Balances, account, signed
from tests.node.test_mempool import Pool


async def test_what_can_no_longer_be_paid_is_replaced_and_the_rest_goes_on() -> None:
    pool = Pool()
    stuck, later = signed(1, 0, fee=500), [signed(1, nonce, fee=5) for nonce in (1, 2)]
    await pool.take(stuck, *later)
    pool.next_state(Balances(balances={account(1): 100}))
    pool.drop(stuck.id, "tx.unpayable", "what a proposal's execution found")
    assert pool.block() == [], "nothing goes before its turn"
    assert pool.why(stuck.id).code == "tx.unpayable"
    assert pool.why(later[0].id).text == "waits for an earlier nonce"
    assert await pool.take(signed(1, 0, fee=1)) == [""], "its place is free, for less too"
    assert [item.body.nonce for item in pool.block()] == [0, 1, 2]


async def test_a_cheap_one_is_replaced_by_a_dearer_one_though_it_was_seen_before() -> None:
    pool = Pool()
    cheap, dear = signed(1, 0, fee=10), signed(1, 0, fee=20)
    await pool.take(cheap, signed(1, 1))
    assert await pool.take(dear) == [""]
    assert await pool.take(cheap) == ["tx.underpriced_replacement"], "and it does not come back"
    assert [item.id for item in pool.block()][:1] == [dear.id]
    assert pool.count == 2
