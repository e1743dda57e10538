"""How fast two nodes in one process move small messages over loopback TCP: ``python -m tests.p2p.throughput``.

Prints messages and megabytes a second, and the CPU time of both ends together per message.
"""

from __future__ import annotations

import sys
import time

import trio

from p2p.address import Endpoint, PeerAddress
from p2p.named import NamedPeers
from p2p.peer import Peer
from p2p.transport import TcpTransport
from tests.p2p.nodes import channel, make_node

MESSAGES = 600_000
MESSAGE = bytes(300)
BATCH = 128
BULK = channel(
    1,
    message_bytes_max=2**20,
    send_queue_messages_max=4_096,
    receive_window_bytes=4 * 2**20,
    bytes_per_second_max=10**10,
)


async def send_all(peer: Peer) -> None:
    """Offers batch after batch, waiting for room."""
    batch = [MESSAGE] * BATCH
    for _ in range(MESSAGES // BATCH + 1):
        accepted = peer.offer_batch(1, batch)
        for message in batch[accepted:]:
            await peer.send(1, message)
        await trio.lowlevel.checkpoint()


async def measure() -> str:
    """One line of figures."""
    done = trio.Event()

    async def take_all(peer: Peer) -> None:
        taken = 0
        while taken < MESSAGES:
            taken += len(await peer.receive_batch(1, 4_096))
        done.set()

    async with trio.open_nursery() as nursery:
        sink = make_node(1, TcpTransport(), take_all, channels=[BULK], listen_addr=Endpoint("127.0.0.1", 0))
        endpoint = await nursery.start(sink.run)
        address = PeerAddress(sink.node_id, *endpoint)
        source = make_node(
            2, TcpTransport(), send_all, channels=[BULK], listen_addr=None, named=NamedPeers(persistent=[address])
        )
        began, cpu = time.perf_counter(), time.process_time()
        await nursery.start(source.run)
        await done.wait()
        seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu
        nursery.cancel_scope.cancel()
    rate = MESSAGES / seconds
    return (
        f"{rate:,.0f} messages/s, {rate * len(MESSAGE) / 1e6:.0f} MB/s, "
        f"{cpu_seconds / MESSAGES * 1e6:.2f} us of CPU per message, both ends together"
    )


if __name__ == "__main__":
    sys.stdout.write(trio.run(measure) + "\n")
