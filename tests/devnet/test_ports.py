"""Ports are free, different, and out of the way of outgoing connections."""

import socket

from devnet import ports


def test_ports_are_different_and_below_the_ephemeral_range() -> None:
    found = ports.free_ports(40)
    assert len(set(found)) == 40
    assert all(ports.LOW <= port < ports._ephemeral_low() for port in found)


def test_a_port_in_use_is_not_free() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert not ports._is_free(taken.getsockname()[1])
