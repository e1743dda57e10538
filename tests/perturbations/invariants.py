"""What is true of every node when all is over: the counterparts of CometBFT's invariant tests, by their names."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from consensus.address import to_text
from consensus.codec import encode
from consensus.evidence import PUNISHED, DuplicateVote, to_wire
from tests.stories.network import RpcRefused, rpc


@dataclass(frozen=True, slots=True)
class Net:
    """The RPC of every node, and what is common to all."""

    urls: Sequence[str]
    members: dict[str, int]
    """Public key (hex) → power, as the genesis file has them."""
    height: int
    """Decided by every node."""
    calm_from: int
    """From this height on nobody was perturbed."""
    funded: dict[str, int]
    """Accounts that the genesis file gave coins, and that have done nothing."""
    transactions: Sequence[str]
    """Hashes that a node called committed."""
    liar: str
    """Public key (hex) of the validator whose two votes were handed in to one node."""
    lie: DuplicateVote

    def earliest(self, url: str) -> int:
        """The first block that a node holds."""
        return int(rpc(url, "status")["sync_info"]["earliest_block_height"])


def app_initial_state(net: Net) -> None:
    """Each node has what the genesis file says, where nobody changed it."""
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
        assert earliest == 1 or number >= len(net.members), url
        for height in range(earliest, net.height + 1):
            assert rpc(url, "block", height=height)["block"]["header"]["height"] == height


def evidence_misbehavior(net: Net) -> None:
    """The lie stands once in the chain of each node that holds its block; on all, it cost the liar its place."""
    for url in net.urls:
        convicted_at = _convicted_at(net, url)
        earliest = net.earliest(url)
        found = [
            (height, piece["hash"], piece["validator"])
            for height in range(earliest, net.height + 1)
            for piece in rpc(url, "block", height=height)["block"]["evidence"]
        ]
        expected = (convicted_at, net.lie.id.hex(), to_text(net.lie.accused))
        assert found == ([expected] if earliest <= convicted_at else []), (url, found)
        assert net.liar not in {m["public_key"] for m in rpc(url, "validators", height=net.height)["validators"]}, url
        again = rpc(url, "broadcast_evidence", evidence=base64.b64encode(encode(to_wire(net.lie))).decode())
        assert again["code"] == PUNISHED, (url, again)
    assert len({_convicted_at(net, url) for url in net.urls}) == 1


def net_peers(net: Net) -> None:
    """Each node has peers; each validator all others."""
    for number, url in enumerate(net.urls):
        peers = rpc(url, "net_info")["peers"]
        least = len(net.members) - 1 if number < len(net.members) else 1
        assert len(peers) >= least, (url, len(peers))


def validator_sets(net: Net) -> None:
    """At each height each node has the set of the genesis file, without the liar once it was convicted."""
    for url in net.urls:
        convicted_at = _convicted_at(net, url)
        for height in range(net.earliest(url), net.height + 1):
            members = rpc(url, "validators", height=height)["validators"]
            left = {key: power for key, power in net.members.items() if key != net.liar or height <= convicted_at}
            assert {member["public_key"]: member["power"] for member in members} == left, (url, height)


def validator_propose(net: Net) -> None:
    """Each validator has proposed a block."""
    members = {m["address"] for m in rpc(net.urls[0], "validators", height=net.height)["validators"]}
    proposers = {header["proposer"] for height in range(1, net.height + 1) for header in _headers(net, height, 1)}
    assert members <= proposers


def validator_sign(net: Net) -> None:
    """Each validator has signed a block; and once nobody was perturbed any more, each that was left has."""
    signed: set[str] = set()
    signed_in_calm: set[str] = set()
    for height in range(1, net.height):
        members = rpc(net.urls[0], "validators", height=height)["validators"]
        entries = rpc(net.urls[0], "commit", height=height)["commit"]["entries"]
        assert len(entries) == len(members)
        signers = {
            member["public_key"]
            for member, entry in zip(members, entries, strict=True)
            if entry is not None and entry["for_block"]
        }
        signed |= signers
        if height >= net.calm_from:
            signed_in_calm |= signers
    assert signed == set(net.members)
    assert signed_in_calm >= set(net.members) - {net.liar}


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


def _convicted_at(net: Net, url: str) -> int:
    """The height of the block that convicted the liar, by the state of a node."""
    jailing = rpc(url, "query", path="validators/jailing", args={"public_key": net.liar})["answer"]
    assert jailing["tombstoned"], url
    assert jailing["lied_at"] == net.lie.height, url
    return int(jailing["convicted_at"])


def _headers(net: Net, height: int, count: int | None = None) -> list[dict[str, Any]]:
    """The header of *height* from each node (the first *count*) that holds it."""
    return [
        rpc(url, "header", height=height)["header"]
        for url in net.urls[:count]
        if count is not None or net.earliest(url) <= height
    ]
