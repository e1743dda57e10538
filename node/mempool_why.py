"""Where a transaction is and why it waits there, for people: ``allting mempool why`` and the RPC method `tx_status`."""

from __future__ import annotations

from typing import Any

from consensus.address import to_text
from node.mempool import Mempool
from node.services import Services

MISSING_SHOWN_MAX = 8
"""Nonces that are named of a gap."""


def where(services: Services, identity: bytes) -> dict[str, Any]:
    """Where the transaction with this id is (``block``, ``pool``, ``verifier`` or ``nowhere``), and one sentence."""
    found = services.store.find_transaction(identity)
    if found is not None:
        height, index = found
        return _answer(identity, "block", "", f"stands in block {height} as number {index}", height=height, index=index)
    mempool = services.mempool
    if mempool.entry(identity) is not None:
        return _waiting(services, mempool, identity)
    outcome = mempool.why(identity)
    place = "nowhere" if outcome.code else "verifier"
    return _answer(identity, place, outcome.code, outcome.text)


def _waiting(services: Services, mempool: Mempool, identity: bytes) -> dict[str, Any]:
    entry = mempool.entry(identity)
    assert entry is not None
    body = entry.transaction.body
    next_nonce = mempool.next_nonce(entry.sender)
    missing = [nonce for nonce in range(next_nonce, body.nonce) if not mempool.holds(entry.sender, nonce)]
    ahead = sum(each.ready and each.priority > entry.priority for each in mempool.entries())
    if missing:
        shown = ", ".join(map(str, missing[:MISSING_SHOWN_MAX])) + (" …" if len(missing) > MISSING_SHOWN_MAX else "")
        why = f"its sender's nonce {shown} is missing: send it, or this one waits until it expires"
    elif services.consensus_status()["catching_up"]:
        why = "this node is catching up, and proposes nothing meanwhile"
    elif next_nonce < body.nonce:
        why = f"{body.nonce - next_nonce} of its sender go before it, and {ahead} others pay more"
    else:
        why = f"it is its turn; {ahead} others pay more"
    return _answer(
        identity,
        "pool",
        "",
        why,
        sender=None if body.sender is None else to_text(body.sender),
        nonce=body.nonce,
        next_nonce=next_nonce,
        missing_nonces=missing,
        fee=body.fee,
        paying_more=ahead,
        valid_for_ms=max(0, body.valid_until_ms - services.now_ms()),
        brought_by="a client of this node" if entry.source is None else f"peer {entry.source.hex()[:8]}",
    )


def _answer(identity: bytes, place: str, code: str, text: str, **facts: Any) -> dict[str, Any]:
    return {"hash": identity.hex(), "where": place, "code": code, "text": text, **facts}
