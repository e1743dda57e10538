"""Limits per address, allowed hosts, and bodies that are too large or too slow."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

import pytest
import trio
import trio.testing

from node.rpc.bodies import BODY_SECONDS_MAX, DISCARD_SECONDS_MAX, discard_rest, read_body
from node.rpc.errors import ForeignHost, Limited, TooLarge, TooSlow
from node.rpc.hosts import AllowedHosts
from node.rpc.limits import BURST_SECONDS, AddressLimits, is_loopback


def limits(now: list[float]) -> AddressLimits:
    return AddressLimits(calls_per_second=10, bytes_per_second=1_000, clock=lambda: now[0])


def test_an_address_has_a_burst_and_then_its_rate() -> None:
    now = [0.0]
    bucket = limits(now)
    bucket.take("10.0.0.1", calls=10 * BURST_SECONDS, size=0)
    with pytest.raises(Limited) as refused:
        bucket.take("10.0.0.1", calls=5, size=0)
    assert refused.value.details["retry_after_ms"] == 501
    now[0] = 0.5
    bucket.take("10.0.0.1", calls=5, size=0)


def test_bytes_count_too_and_a_refusal_charges_nothing() -> None:
    bucket = limits([0.0])
    with pytest.raises(Limited):
        bucket.take("10.0.0.1", calls=1, size=1_000 * BURST_SECONDS + 1)
    bucket.take("10.0.0.1", calls=1, size=1_000 * BURST_SECONDS)


def test_one_address_does_not_use_up_anothers_share_and_loopback_has_none() -> None:
    bucket = limits([0.0])
    bucket.take("10.0.0.1", calls=50, size=0)
    bucket.take("10.0.0.2", calls=50, size=0)
    for _ in range(3):
        bucket.take("127.0.0.1", calls=10_000, size=10**9)
        bucket.take("::1", calls=10_000, size=10**9)
    assert is_loopback("127.9.9.9")
    assert not is_loopback("localhost.evil.example")


def test_only_named_hosts_are_answered_with_any_port_and_case() -> None:
    hosts = AllowedHosts(("localhost", "127.0.0.1", "[::1]"))
    for host in ("localhost", "LOCALHOST:26657", "127.0.0.1:1", "[::1]:26657", "::1"):
        hosts.check(host, None)
    refused: tuple[str | None, ...] = (None, "", "evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80")
    for name in refused:
        with pytest.raises(ForeignHost, match="allowed_hosts"):
            hosts.check(name, None)


def test_a_page_from_elsewhere_may_not_speak_to_the_node() -> None:
    hosts = AllowedHosts(("localhost",))
    hosts.check("localhost", "http://localhost:3000")
    for origin in ("https://evil.example", "null", "", "http://", "http://[", "http://localhost]"):
        with pytest.raises(ForeignHost):
            hosts.check("localhost", origin)


class Body:
    """A client that sends parts of a body, then nothing for ever."""

    def __init__(self, *parts: bytes, last: bool = True) -> None:
        self.messages: list[MutableMapping[str, Any]] = [
            {"type": "http.request", "body": part, "more_body": True} for part in parts
        ]
        if last:
            self.messages.append({"type": "http.request", "body": b"", "more_body": False})
        self.read = 0

    async def receive(self) -> MutableMapping[str, Any]:
        """The next part."""
        if self.read == len(self.messages):
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()
        self.read += 1
        return self.messages[self.read - 1]


async def test_a_body_is_put_together() -> None:
    assert await read_body(Body(b"ab", b"cd").receive, declared=None, bytes_max=4) == b"abcd"


async def test_a_declared_body_that_is_too_large_is_refused_unread() -> None:
    body = Body(b"x")
    with pytest.raises(TooLarge, match="100000000 bytes"):
        await read_body(body.receive, declared=100_000_000, bytes_max=1_000)
    assert body.read == 0


async def test_an_undeclared_body_is_refused_as_soon_as_it_is_too_large() -> None:
    body = Body(*[b"x" * 100] * 1_000)
    with pytest.raises(TooLarge):
        await read_body(body.receive, declared=None, bytes_max=250)
    assert body.read == 3


async def test_a_body_that_never_ends_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    with pytest.raises(TooSlow):
        await read_body(Body(b"x", last=False).receive, declared=None, bytes_max=100)
    assert trio.current_time() == pytest.approx(BODY_SECONDS_MAX)


async def test_a_client_that_goes_away_is_not_answered() -> None:
    body = Body(last=False)
    body.messages.append({"type": "http.disconnect"})
    with pytest.raises(TooSlow):
        await read_body(body.receive, declared=None, bytes_max=100)


async def test_what_a_refused_client_still_sends_is_discarded_for_a_while(
    autojump_clock: trio.testing.MockClock,
) -> None:
    body = Body(*[b"x" * 100] * 10)
    await discard_rest(body.receive)
    assert body.read == 11
    await discard_rest(Body(b"x", last=False).receive)
    assert trio.current_time() == pytest.approx(DISCARD_SECONDS_MAX)
