"""cometbft#3199, #3864, tendermint#2338: one slow handler stalled a peer's whole connection, pings included.

ENGINE §2 item 14. Here the reader answers pings itself, queues are bounded for each channel, and a limit of rate gives
credit back later instead of sleeping.
"""

from __future__ import annotations

import trio
import trio.testing

from p2p import frames
from p2p.control import Ping, Pong, decode_control
from p2p.peer import Peer
from tests.p2p.nodes import channel, make_bench


async def test_a_handler_that_sleeps_for_ever_stalls_neither_pings_nor_other_channels(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    slow, fast = channel(1), channel(2)
    bench = await make_bench((slow, fast))
    got: list[bytes] = []

    async def never_done(peer: Peer) -> None:
        await peer.receive(1)
        await trio.sleep_forever()

    async def quick(peer: Peer) -> None:
        while True:
            got.append(await peer.receive(2))

    pongs: list[int] = []

    async def listen() -> None:
        data = b""
        while True:
            for plaintext in bench.stranger.session.reader.feed(data):
                for _, channel_id, _, messages in frames.read_sections(plaintext):
                    said = [decode_control(message) for message in messages] if channel_id == 0 else []
                    pongs.extend(each.number for each in said if isinstance(each, Pong))
            data = bytes(await bench.stranger.stream.receive_some())

    nursery.start_soon(bench.run, never_done, quick)
    nursery.start_soon(listen)
    for number in range(1, 11):
        await bench.stranger.send_plaintext(frames.whole_section(1, [bytes(1_000)] * 30))
        await bench.stranger.send_plaintext(frames.whole_section(2, [bytes([number])]))
        await bench.stranger.say(Ping(number))
        await trio.sleep(0.1)
    assert pongs == list(range(1, 11))
    assert got == [bytes([number]) for number in range(1, 11)]
    assert bench.reason is None
    assert trio.current_time() < 2
    nursery.cancel_scope.cancel()
