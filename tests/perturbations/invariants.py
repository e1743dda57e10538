"""What is true of every node when all is over: the counterparts of CometBFT's invariant tests, by their names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.stories.network import RpcRefused, rpc


@dataclass(frozen=True, slots=True)
class Net:
    """The RPC of every node, and what is common to all."""

    urls: Sequence[str]
    validators: Sequence[str]
    """Public keys, hex."""
    height: int
    """Decided by every node."""
    funded: dict[str, int]
    """Accounts that the genesis gave coins, and that have done nothing."""
    transactions: Sequence[str]
    """Hashes that a node called committed."""

    def earliest(self, url: str) -> int:
        """The first block that a node holds."""
        return int(rpc(url, "status")["sync_info"]["earliest_block_height"])


def app_initial_state(net: Net) -> None:
    """Each node has the state of the genesis, where nobody changed it."""
    for url in net.urls:
        for account, amount in net.funded.items():
            answer = rpc(url, "query", path="coin/balance", args={"address": account})["answer"]
            assert answer == amount, (url, account, answer)


def app_hash(net: Net) -> None:
    """At each height all nodes have one application hash."""
    for height in range(1, net.height + 1):
        found = {block["app_hash"] for block in _headers(net, height)}
        assert len(found) == 1, height


def app_tx(net: Net) -> None:
    """What was committed is on every node that holds its block, once."""
    for url in net.urls:
        for id_ in net.transactions:
            try:
                place = rpc(url, "tx", hash=id_)
            except RpcRefused:
                assert net.earliest(url) > 1, (url, id_)
                continue
            block = rpc(url, "block", height=place["height"])["block"]
            assert block["transaction_ids"].count(id_) == 1


def block_header(net: Net) -> None:
    """At each height all nodes have one header, which names its parent."""
    parent = None
    for height in range(1, net.height + 1):
        headers = list(_headers(net, height))
        assert len({header["hash"] for header in headers}) == 1, height
        assert parent in (None, headers[0]["last_block_id"]), height
        parent = headers[0]["hash"]


def block_range(net: Net) -> None:
    """Each node holds every block from its earliest to its latest; who began with the chain, from 1 on."""
    for number, url in enumerate(net.urls):
        earliest = net.earliest(url)
        assert earliest == 1 or number >= len(net.validators), url
        for height in range(earliest, net.height + 1):
            assert rpc(url, "block", height=height)["block"]["header"]["height"] == height


def evidence_misbehavior(net: Net) -> None:
    """Nobody lied, so no block accuses anybody."""
    for height in range(net.earliest(net.urls[0]), net.height + 1):
        assert not rpc(net.urls[0], "block", height=height)["block"]["evidence"]


def net_peers(net: Net) -> None:
    """Each node has peers; each validator all others."""
    for number, url in enumerate(net.urls):
        peers = rpc(url, "net_info")["peers"]
        least = len(net.validators) - 1 if number < len(net.validators) else 1
        assert len(peers) >= least, (url, len(peers))


def validator_sets(net: Net) -> None:
    """At each height all nodes have one validator set."""
    for height in range(1, net.height + 1):
        sets = [
            [(member["public_key"], member["power"]) for member in rpc(url, "validators", height=height)["validators"]]
            for url in net.urls
            if net.earliest(url) <= height
        ]
        assert all(each == sets[0] for each in sets), height


def validator_propose(net: Net) -> None:
    """Each validator has proposed a block."""
    members = {m["address"] for m in rpc(net.urls[0], "validators", height=net.height)["validators"]}
    proposers = {header["proposer"] for height in range(1, net.height + 1) for header in _headers(net, height, 1)}
    assert members <= proposers


def validator_sign(net: Net) -> None:
    """Each validator has signed a block; and after all perturbations all of them sign."""
    signed: set[str] = set()
    for height in range(1, net.height):
        members = rpc(net.urls[0], "validators", height=height)["validators"]
        entries = rpc(net.urls[0], "commit", height=height)["commit"]["entries"]
        assert len(entries) == len(members)
        signed |= {
            member["public_key"]
            for member, entry in zip(members, entries, strict=True)
            if entry is not None and entry["for_block"]
        }
    assert signed == set(net.validators)


INVARIANTS = (
    app_initial_state,
    app_hash,
    app_tx,
    block_header,
    block_range,
    evidence_misbehavior,
    net_peers,
    validator_sets,
    validator_propose,
    validator_sign,
)


def _headers(net: Net, height: int, count: int | None = None) -> list[dict[str, Any]]:
    """The header of *height* from each node (the first *count*) that holds it."""
    return [
        rpc(url, "header", height=height)["header"]
        for url in net.urls[:count]
        if count is not None or net.earliest(url) <= height
    ]
