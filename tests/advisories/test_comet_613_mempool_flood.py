"""cometbft#613, #1058, #3263: peers sent each other the same transactions again and again, a quarter of all bytes.

ENGINE §2 item 5. Here the origin pushes, others announce ids and are asked; what comes twice all the same is counted.
"""

from __future__ import annotations

import trio
import trio.testing

from node.transaction_gossip import RELAY_AFTER_S
from tests.node.fake_town import signed
from tests.node.test_transaction_gossip import Node, town


async def test_in_a_full_mesh_each_body_travels_once_to_each_node(autojump_clock: trio.testing.MockClock) -> None:
    nodes = [Node(number) for number in range(1, 7)]
    transactions = [signed(number, 0) for number in range(1, 101)]
    async with town(*nodes) as wires:
        for turn, transaction in enumerate(transactions):
            await nodes[turn % len(nodes)].submit(transaction)
        await trio.sleep(20 * RELAY_AFTER_S)
        assert all(node.has(*transactions) for node in nodes)
        assert sum(wire.bodies() for wire in wires.values()) == len(transactions) * (len(nodes) - 1)
    assert [node.pool.counters.duplicates for node in nodes] == [0] * len(nodes)


async def test_what_comes_twice_is_counted_with_its_bytes() -> None:
    node, transaction = Node(1), signed(1, 0)
    await node.submit(transaction)
    await node.pool.submit([transaction.raw] * 3, source=bytes(32))
    assert (node.pool.counters.duplicates, node.pool.counters.duplicate_bytes) == (3, 3 * len(transaction.raw))
