"""Nodes that meet, part and meet again; all in memory, on the mock clock."""

from __future__ import annotations

import errno
import random
from itertools import pairwise

import pytest
import trio
import trio.testing

from consensus.codec import BadMessage
from p2p import frames
from p2p.address import Endpoint, PeerAddress
from p2p.address_book import AddressBook
from p2p.control import Addresses
from p2p.handshake import HandshakeRefused
from p2p.limits import Limits
from p2p.memory import MemoryNetwork
from p2p.named import NamedPeers
from p2p.network import Network
from p2p.peer import Peer
from tests.p2p.nodes import address_of, connect_stranger, echo, hello, idle, make_node, until


async def start(nursery: trio.Nursery, *nodes: Network) -> None:
    for node in nodes:
        await nursery.start(node.run)


def connected(one: Network, two: Network) -> bool:
    return two.node_id in one.peers and one.node_id in two.peers


async def test_messages_of_every_size_arrive(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> None:
    hosts = MemoryNetwork()
    sizes = [0, 1, 300, 65_000, 65_519, 70_000, 200_000]
    heard: list[int] = []

    async def ask(peer: Peer) -> None:
        for size in sizes:
            message = bytes([size % 251]) * size
            await peer.send(1, message)
            assert await peer.receive(1) == message
            heard.append(size)

    one = make_node(1, hosts, echo)
    two = make_node(2, hosts, ask, persistent=(one,))
    await start(nursery, one, two)
    await until(lambda: heard == sizes, seconds=5)
    assert list(one.peers) == [two.node_id]
    statistics = two.statistics()["channel1"]
    assert statistics.bytes_sent == statistics.bytes_received == sum(sizes)
    assert two.wire_statistics().bytes_sent > sum(sizes)
    nursery.cancel_scope.cancel()


async def test_of_two_simultaneous_dials_the_lower_node_id_stays(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    hosts = MemoryNetwork()
    one, two = make_node(1, hosts), make_node(2, hosts)
    lower, higher = sorted((one, two), key=lambda node: node.node_id)
    await start(nursery, one, two)
    nursery.start_soon(one.meet, address_of(two))
    nursery.start_soon(two.meet, address_of(one))
    await trio.sleep(3)
    assert lower.peers[higher.node_id].outbound
    assert not higher.peers[lower.node_id].outbound
    await trio.sleep(300)
    assert lower.peers[higher.node_id].connected_at < 3, "and it lasts"
    nursery.cancel_scope.cancel()


async def test_a_second_connection_of_the_same_node_is_refused_while_the_first_lives(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    hosts = MemoryNetwork()
    one = make_node(1, hosts)
    two = make_node(2, hosts, persistent=(one,), listen_addr=None)
    await start(nursery, one, two)
    await until(lambda: connected(one, two))
    first = one.peers[two.node_id]
    with pytest.raises(HandshakeRefused, match=r"handshake\.duplicate"):
        await connect_stranger(2, hosts.transport("thief"), address_of(one))
    await trio.sleep(30)
    assert one.peers[two.node_id] is first
    nursery.cancel_scope.cancel()


async def test_a_node_that_comes_back_after_a_power_cut_gets_in_again_soon(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    hosts = MemoryNetwork()
    one = make_node(1, hosts)
    await start(nursery, one)
    dead = await connect_stranger(2, hosts.transport("host2"), address_of(one))  # never speaks, never closes
    await until(lambda: len(one.peers) == 1)
    two = make_node(2, hosts, persistent=(one,), listen_addr=None)
    began = trio.current_time()
    await start(nursery, two)
    await until(lambda: connected(one, two))
    assert trio.current_time() - began < 15, "not a minute of silence"
    await dead.stream.aclose()
    nursery.cancel_scope.cancel()


async def test_a_persistent_peer_is_dialled_again_with_growing_pauses(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    hosts = MemoryNetwork()
    one = make_node(1, hosts, listen_addr=None)
    dials: list[float] = []
    transport = hosts.transport("host2")

    class Counting:
        async def dial(self, endpoint: Endpoint) -> trio.abc.Stream:
            dials.append(trio.current_time())
            return await transport.dial(endpoint)

        listen = transport.listen

    one_elsewhere = make_node(1, hosts)
    two = make_node(2, Counting(), persistent=(one_elsewhere,))
    await start(nursery, one, two)
    await trio.sleep(300)
    pauses = [later - earlier for earlier, later in pairwise(dials)]
    assert 0.25 <= pauses[0] <= 0.75
    assert all(10 <= pause <= 30 for pause in pauses[7:])
    assert 12 <= len(dials) <= 30
    await start(nursery, one_elsewhere)
    await until(lambda: connected(one_elsewhere, two), seconds=31)
    nursery.cancel_scope.cancel()


async def test_a_cut_link_heals(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> None:
    hosts = MemoryNetwork()
    one = make_node(1, hosts)
    two = make_node(2, hosts, persistent=(one,))
    await start(nursery, one, two)
    await until(lambda: connected(one, two))
    hosts.sever("host1", "host2")
    await until(lambda: not one.peers and not two.peers, seconds=1)
    await trio.sleep(4)
    hosts.mend("host1", "host2")
    await until(lambda: connected(one, two), seconds=8)
    nursery.cancel_scope.cancel()


async def test_a_newcomer_finds_everybody_from_one_peer(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    hosts = MemoryNetwork()
    first = make_node(1, hosts)
    others = [make_node(number, hosts, persistent=(first,)) for number in range(2, 8)]
    await start(nursery, first, *others)
    newcomer = make_node(9, hosts, persistent=(first,))
    await start(nursery, newcomer)
    everyone = {node.node_id for node in (first, *others)}
    await until(lambda: set(newcomer.peers) == everyone, seconds=60)
    await until(lambda: all(len(node.peers) == 7 for node in (first, *others)), seconds=60)
    nursery.cancel_scope.cancel()


async def test_only_addresses_that_a_dial_has_reached_are_passed_on(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    hosts = MemoryNetwork()
    first = make_node(1, hosts)
    unreachable = make_node(2, hosts, persistent=(first,), listen_addr=None, hello=hello(2, listen_address="host2:1"))
    liar = make_node(3, hosts, persistent=(first,), hello=hello(3, listen_address="host1:26656"))
    newcomer = make_node(4, hosts, persistent=(first,))
    await start(nursery, first, unreachable, liar, newcomer)
    await trio.sleep(120)
    assert {entry.node_id for entry in newcomer.book} == {first.node_id}
    assert {entry.node_id for entry in first.book} == {newcomer.node_id}
    nursery.cancel_scope.cancel()


async def test_a_private_peer_is_never_passed_on(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> None:
    hosts = MemoryNetwork()
    hidden_id = make_node(2, hosts).node_id
    first = make_node(1, hosts, named=NamedPeers(private=[hidden_id]))
    hidden = make_node(2, hosts, persistent=(first,), limits=Limits(outbound_max=0))
    newcomer = make_node(3, hosts, persistent=(first,))
    await start(nursery, first, hidden, newcomer)
    await trio.sleep(120)
    assert hidden_id not in {entry.node_id for entry in newcomer.book}
    nursery.cancel_scope.cancel()


async def test_outbound_peers_are_dialled_up_to_the_limit(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    hosts = MemoryNetwork()
    others = [make_node(number, hosts, limits=Limits(outbound_max=0)) for number in range(2, 9)]
    one = make_node(1, hosts, knows=tuple(others), limits=Limits(outbound_max=3))
    await start(nursery, *others, one)
    await until(lambda: len(one.peers) == 3)
    await trio.sleep(300)
    assert len(one.peers) == 3
    gone = next(iter(one.peers.values()))
    gone.disconnect("test")
    await trio.sleep(60)
    assert len(one.peers) == 3
    nursery.cancel_scope.cancel()


async def test_inbound_peers_are_bounded_but_persistent_ones_are_welcome(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    hosts = MemoryNetwork()
    friend = make_node(7, hosts, listen_addr=None)
    friend_address = address_of(make_node(7, hosts))
    one = make_node(1, hosts, limits=Limits(inbound_max=2), named=NamedPeers(persistent=[friend_address]))
    await start(nursery, one)
    for number in (2, 3, 4, 5):
        await connect_stranger(number, hosts.transport(f"host{number}"), address_of(one))
        await trio.sleep(1)
    assert len(one.peers) == 2
    assert one.evicted == 2
    nursery.start_soon(friend.meet, address_of(one))
    await until(lambda: friend.node_id in one.peers, seconds=1)
    assert len(one.peers) == 3
    nursery.cancel_scope.cancel()


async def test_connections_of_one_host_are_bounded_except_loopback(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    hosts = MemoryNetwork()
    one = make_node(1, hosts, limits=Limits(per_host_max=2))
    await start(nursery, one)
    for number in (2, 3):
        await connect_stranger(number, hosts.transport("crowd"), address_of(one))
    with pytest.raises(trio.BrokenResourceError):
        await connect_stranger(4, hosts.transport("crowd"), address_of(one))
    for number in (5, 6, 7, 8):
        await connect_stranger(number, hosts.transport("127.0.0.1"), address_of(one))
    await until(lambda: len(one.peers) == 6)
    nursery.cancel_scope.cancel()


async def test_slow_handshakes_time_out_and_never_keep_others_out(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    hosts = MemoryNetwork()
    one = make_node(1, hosts, echo, limits=Limits(handshakes_max=8))
    await start(nursery, one)
    slow = [await hosts.transport(f"slow{index}").dial(Endpoint("host1", 26656)) for index in range(50)]
    await trio.testing.wait_all_tasks_blocked()
    assert one.doorway.handshakes == 8
    await connect_stranger(2, hosts.transport("host2"), address_of(one))
    await until(lambda: len(one.peers) == 1, seconds=1)
    await trio.sleep(10.1)
    assert one.doorway.handshakes == 0
    for stream in slow:
        await stream.aclose()
    nursery.cancel_scope.cancel()


async def test_garbage_on_the_port_harms_nobody(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> None:
    hosts = MemoryNetwork()
    one = make_node(1, hosts, echo)
    await start(nursery, one)
    for index, garbage in enumerate([b"GET / HTTP/1.1\r\n\r\n", b"", b"\0" * 10_000, b"\xff" * 10_000, b"\0\x20" * 40]):
        stream = await hosts.transport(f"noise{index}").dial(Endpoint("host1", 26656))
        await stream.send_all(garbage)
        await stream.aclose()
    await connect_stranger(2, hosts.transport("host2"), address_of(one))
    await until(lambda: len(one.peers) == 1, seconds=1)
    assert one.bans() == []
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"chain_id": "other-1"}, "handshake.wrong_chain"),
        ({"genesis_hash": bytes([9]) * 32}, "handshake.wrong_genesis"),
        ({"protocol_version": 9}, "handshake.wrong_version"),
    ],
)
async def test_a_peer_of_another_world_never_becomes_one(
    changes: dict[str, object], code: str, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    hosts = MemoryNetwork()
    one = make_node(1, hosts)
    other = make_node(2, hosts, persistent=(one,), hello=hello(2, **changes))
    await start(nursery, one, other)
    await trio.sleep(100)
    assert not one.peers
    assert not other.peers
    nursery.cancel_scope.cancel()


async def test_a_node_never_becomes_its_own_peer(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> None:
    hosts = MemoryNetwork()
    one = make_node(1, hosts)
    one.book.add(address_of(one))
    assert len(one.book) == 0
    await start(nursery, one)
    assert await one.meet(address_of(one)) == "handshake_failed"
    assert not one.peers
    nursery.cancel_scope.cancel()


async def test_an_address_that_leads_to_another_node_is_not_taken_for_the_right_one(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    hosts = MemoryNetwork()
    one, two = make_node(1, hosts), make_node(2, hosts)
    await start(nursery, one, two)
    wrong = address_of(one)._replace(node_id=bytes([5]) * 32)
    assert await two.meet(wrong) == "handshake_failed"
    assert not two.peers
    nursery.cancel_scope.cancel()


async def test_a_peer_that_breaks_rules_again_and_again_is_banned_until_the_ban_expires(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    hosts = MemoryNetwork()
    one = make_node(1, hosts)
    await start(nursery, one)
    transport = hosts.transport("host2")
    for _ in range(3):
        stranger = await connect_stranger(2, transport, address_of(one))
        await until(lambda: len(one.peers) == 1)
        await stranger.send_plaintext(frames.whole_section(99, [b"x"]))
        await until(lambda: not one.peers)
    (ban,) = one.bans()
    assert ban.reason == "bad_message.channel"
    assert one.net_info()["bans"][0]["reason"] == "bad_message.channel"
    with pytest.raises(HandshakeRefused, match=r"handshake\.banned"):
        await connect_stranger(2, transport, address_of(one))
    await trio.sleep(600)
    assert one.bans() == []
    await connect_stranger(2, transport, address_of(one))
    await until(lambda: len(one.peers) == 1)
    nursery.cancel_scope.cancel()


async def test_a_service_may_ban_a_peer(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> None:
    hosts = MemoryNetwork()

    async def judge(peer: Peer) -> None:
        await peer.receive(1)
        peer.penalise("test.useless", 100)
        await trio.sleep_forever()

    one = make_node(1, hosts, judge)
    await start(nursery, one)
    stranger = await connect_stranger(2, hosts.transport("host2"), address_of(one))
    await stranger.send_plaintext(frames.whole_section(1, [b"x"]))
    await until(lambda: len(one.bans()) == 1)
    await until(lambda: not one.peers)
    nursery.cancel_scope.cancel()


async def test_a_persistent_peer_is_not_banned_but_dialled_again(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    hosts = MemoryNetwork()
    meetings: list[float] = []

    async def complain(peer: Peer) -> None:
        meetings.append(trio.current_time())
        raise BadMessage("always")

    one = make_node(1, hosts)
    two = make_node(2, hosts, complain, persistent=(one,), listen_addr=None)
    await start(nursery, one, two)
    await trio.sleep(100)
    assert 5 <= len(meetings) <= 15
    nursery.cancel_scope.cancel()


async def test_an_error_in_a_service_of_ours_ends_the_network(autojump_clock: trio.testing.MockClock) -> None:
    hosts = MemoryNetwork()

    async def fail(peer: Peer) -> None:
        await peer.receive(1)
        raise AssertionError("ours")

    one = make_node(1, hosts, fail)

    async def scene() -> None:
        async with trio.open_nursery() as nursery:
            await start(nursery, one)
            stranger = await connect_stranger(2, hosts.transport("host2"), address_of(one))
            await stranger.send_plaintext(frames.whole_section(1, [b"x"]))
            await trio.sleep(10)

    with pytest.raises(BaseExceptionGroup) as raised:
        await scene()
    assert raised.group_contains(AssertionError, match="ours")
    assert not one.peers


async def test_a_taken_port_is_an_error_of_ours(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> None:
    hosts = MemoryNetwork()
    await start(nursery, make_node(1, hosts))
    with pytest.raises(OSError, match="in use") as raised:
        await make_node(2, hosts, listen_addr=Endpoint("host1", 26656)).run()
    assert raised.value.errno == errno.EADDRINUSE
    nursery.cancel_scope.cancel()


async def test_two_newcomers_learn_of_each_other(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> None:
    """The one that asked first is told of the other as soon as that was dialled back."""
    hosts = MemoryNetwork()
    first = make_node(1, hosts)
    await start(nursery, first)
    early = make_node(2, hosts, persistent=(first,))
    await start(nursery, early)
    await trio.sleep(5)
    late = make_node(3, hosts, persistent=(first,))
    await start(nursery, late)
    await until(lambda: connected(early, late), seconds=5)
    nursery.cancel_scope.cancel()


async def test_facts_for_people_are_json_types(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> None:
    hosts = MemoryNetwork()
    one = make_node(1, hosts)
    two = make_node(2, hosts, idle, persistent=(one,))
    await start(nursery, one, two)
    await until(lambda: connected(one, two))
    await trio.sleep(1)
    facts = two.net_info()
    assert facts["n_peers"] == 1
    assert facts["persistent"] == [{"address": str(address_of(one)), "connected": True}]
    (peer,) = facts["peers"]
    assert peer["node_id"] == one.node_id.hex()
    assert peer["clock_skew_ms"] == 0
    assert peer["address"] == str(address_of(one))
    nursery.cancel_scope.cancel()


async def test_the_book_is_saved_at_the_end(autojump_clock: trio.testing.MockClock) -> None:
    hosts = MemoryNetwork()
    saved: list[bytes] = []
    one, two = make_node(1, hosts), make_node(2, hosts)
    two.book._save = saved.append
    async with trio.open_nursery() as nursery:
        await start(nursery, one, two)
        nursery.start_soon(two.meet, address_of(one))
        await until(lambda: connected(one, two))
        nursery.cancel_scope.cancel()
    assert len(saved) == 1
    assert one.node_id in saved[0]


async def test_a_seed_is_asked_and_left_as_soon_as_others_are_known(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    hosts = MemoryNetwork()
    seed = make_node(1, hosts)
    others = [make_node(number, hosts, persistent=(seed,)) for number in range(2, 6)]
    await start(nursery, seed, *others)
    await trio.sleep(30)
    newcomer = make_node(9, hosts, named=NamedPeers(seeds=[address_of(seed)]), listen_addr=None)
    await start(nursery, newcomer)
    await until(lambda: set(newcomer.peers) == {node.node_id for node in others}, seconds=30)
    await trio.sleep(120)
    assert set(newcomer.peers) == {node.node_id for node in others}, "and never asked again while others are there"
    nursery.cancel_scope.cancel()


async def test_a_seed_that_is_alone_is_kept_and_one_that_is_away_asked_again(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    hosts = MemoryNetwork()
    seed = make_node(1, hosts)
    newcomer = make_node(9, hosts, named=NamedPeers(seeds=[address_of(seed)]))
    await start(nursery, newcomer)
    await trio.sleep(100)
    await start(nursery, seed)
    await until(lambda: seed.node_id in newcomer.peers, seconds=300)
    await trio.sleep(60)
    assert seed.node_id in newcomer.peers
    nursery.cancel_scope.cancel()


async def test_who_is_let_in_unconditionally_is_neither_counted_nor_displaced_nor_banned(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    hosts = MemoryNetwork()
    friend = make_node(7, hosts, listen_addr=None)
    one = make_node(1, hosts, limits=Limits(inbound_max=2), named=NamedPeers(unconditional=[friend.node_id]))
    await start(nursery, one)
    nursery.start_soon(friend.meet, address_of(one))
    await until(lambda: friend.node_id in one.peers)
    for number in range(20, 25):
        await connect_stranger(number, hosts.transport(f"host{number}"), address_of(one))
    await trio.sleep(1)
    assert len(one.peers) == 3
    one.peers[friend.node_id].penalise("test", 1_000)
    await until(lambda: friend.node_id not in one.peers)
    assert one.bans() == []
    assert one.scores.reasons(friend.node_id) == {"test": 1_000}
    nursery.start_soon(friend.meet, address_of(one))
    await until(lambda: friend.node_id in one.peers)
    with pytest.raises(AssertionError, match="settings"):
        one.ban(friend.node_id, 10)
    nursery.cancel_scope.cancel()


async def test_the_operator_bans_and_forgives_and_both_outlive_a_restart(
    autojump_clock: trio.testing.MockClock,
) -> None:
    hosts = MemoryNetwork()
    saved: list[bytes] = []
    async with trio.open_nursery() as nursery:
        one, two = make_node(1, hosts, save_scores=saved.append), make_node(2, hosts, listen_addr=None)
        await start(nursery, one)
        nursery.start_soon(two.meet, address_of(one))
        await until(lambda: two.node_id in one.peers)
        one.ban(two.node_id, 3_600)
        await until(lambda: not one.peers)
        assert len(saved) == 1, "at once, since somebody has asked for it"
        nursery.cancel_scope.cancel()
    async with trio.open_nursery() as nursery:
        one, two = make_node(1, hosts, saved_scores=saved[-1]), make_node(2, hosts, listen_addr=None)
        await start(nursery, one)
        assert await two.meet(address_of(one)) == "handshake_failed"
        assert one.doorway.refused == {"handshake.banned": 1}
        assert one.unban(two.node_id)
        nursery.start_soon(two.meet, address_of(one))
        await until(lambda: two.node_id in one.peers)
        nursery.cancel_scope.cancel()
    async with trio.open_nursery() as nursery:
        await start(nursery, make_node(1, hosts, saved_scores=b"junk"))  # begins without, and says so
        nursery.cancel_scope.cancel()


async def test_where_a_private_peer_is_only_the_operator_sees(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    hosts = MemoryNetwork()
    hidden = make_node(2, hosts)
    one = make_node(1, hosts, named=NamedPeers(private=[hidden.node_id], persistent=[address_of(hidden)]))
    await start(nursery, hidden, one)
    await until(lambda: connected(one, hidden))
    assert "host2" not in str(one.net_info())
    assert one.net_info()["n_peers"] == 1
    assert "host2" in str(one.net_info(private=True))
    nursery.cancel_scope.cancel()


async def test_five_hosts_that_take_all_places_keep_no_newcomer_out(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    hosts = MemoryNetwork()
    one = make_node(1, hosts, limits=Limits(inbound_max=40, per_host_max=8))
    await start(nursery, one)
    for number in range(40):
        host = f"6.{number % 5}.0.1"
        await connect_stranger(50 + number, hosts.transport(host), address_of(one))
    await until(lambda: len(one.peers) == 40)
    newcomers = [make_node(number, hosts, listen_addr=None) for number in range(2, 12)]
    for node in newcomers:
        nursery.start_soon(node.meet, address_of(one))
    await until(lambda: all(node.node_id in one.peers for node in newcomers), seconds=5)
    assert len(one.peers) == 40
    assert one.evicted == 10
    nursery.cancel_scope.cancel()


async def test_after_a_flood_of_addresses_a_restarted_node_still_finds_its_old_peers(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The eclipse: while the node runs its book is flooded with liars that answer dials, then it restarts."""
    hosts = MemoryNetwork()
    saved: list[bytes] = []
    honest = [make_node(number, hosts, listen_addr=Endpoint(f"80.{number}.0.1", 26656)) for number in range(2, 10)]
    limits = Limits(outbound_max=4)
    book = AddressBook(dice=random.Random(7), save=saved.append)
    victim = make_node(1, hosts, book=book, limits=limits)
    liars = [
        make_node(
            number,
            hosts.transport(f"6.6.{number}.1"),
            listen_addr=Endpoint(f"6.6.{number}.1", 26656),
            limits=Limits(outbound_max=0),
        )
        for number in range(100, 120)
    ]
    async with trio.open_nursery() as nursery:
        await start(nursery, *honest, *liars)
        for node in honest:
            book.add(address_of(node), source=f"{address_of(node).host}")
        await start(nursery, victim)
        await until(lambda: len(victim.peers) == 4, seconds=30)
        for node in liars:
            nursery.start_soon(node.meet, address_of(victim))
        stranger = await connect_stranger(200, hosts.transport("6.6.6.6"), address_of(victim))
        for start_at in range(0, 10_000, 64):
            told = tuple(
                PeerAddress((2**64 + n).to_bytes(32, "big"), f"{n % 200 + 11}.{n % 7}.1.1", 1)
                for n in range(start_at, start_at + 64)
            )
            await stranger.say(Addresses(told))
            for one in told:  # as if all their allowances had been used up by many such strangers
                book.add(one, source="6.6.6.6")
        await trio.sleep(100)
        assert sum(entry.source == "6.6.0.0/16" for entry in book) <= 128
        assert {peer.host for peer in victim.peers.values() if peer.outbound} <= {f"80.{n}.0.1" for n in range(2, 10)}
        nursery.cancel_scope.cancel()
    async with trio.open_nursery() as nursery:
        await start(nursery, *[make_node(n, hosts, listen_addr=Endpoint(f"80.{n}.0.1", 26656)) for n in range(2, 10)])
        again = make_node(1, hosts, book=AddressBook(dice=random.Random(8), saved=saved[-1]), limits=limits)
        await start(nursery, again)
        await until(lambda: len(again.peers) == 4, seconds=5)
        assert all(peer.host.startswith("80.") for peer in again.peers.values()), "anchors come first"
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("places", [0, 1])
async def test_where_nobody_may_be_displaced_a_newcomer_is_refused(
    places: int, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    hosts = MemoryNetwork()
    one = make_node(1, hosts, limits=Limits(inbound_max=places))
    await start(nursery, one)
    for number in range(places):
        await connect_stranger(10 + number, hosts.transport("host2"), address_of(one))
    await until(lambda: len(one.peers) == places)
    with pytest.raises(HandshakeRefused, match=r"handshake\.full"):
        await connect_stranger(20, hosts.transport("host3"), address_of(one))
    await until(lambda: one.doorway.refused == {"handshake.full": 1}, seconds=1)
    nursery.cancel_scope.cancel()
