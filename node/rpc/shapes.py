"""The facts of the chain as JSON, and back where a client verifies them: integers as they are, hashes in hex."""

from __future__ import annotations

import base64
import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from consensus import merkle
from consensus.address import BadAddress, from_text, to_text
from consensus.application import Application, Event, ProofTarget, Result
from consensus.block import Block, Commit, Header, ModuleRoot
from consensus.codec import BadMessage
from consensus.evidence import DuplicateVote, Evidence, from_wire, to_wire
from consensus.jellyfish import TreeProof
from consensus.params import Params
from consensus.shape import shape_of
from consensus.transaction import Body, Transaction
from consensus.validators import Validator, ValidatorSet
from consensus.vote import Vote, VoteKind

_HEADER_ADDRESSES = frozenset({"proposer"})
_HEADER_TEXTS = frozenset({"chain_id"})
_HEADER_INTEGERS = frozenset({"version", "height", "time_ms"})


def base64_text(data: bytes) -> str:
    """*data* in base64 (RFC 4648, with padding)."""
    return base64.b64encode(data).decode("ascii")


def base64_bytes(value: Any) -> bytes:
    """The bytes that *value* shows in base64. Raises BadMessage."""
    try:
        return base64.b64decode(value if isinstance(value, str) else "?", validate=True)
    except ValueError:
        raise BadMessage("expected base64 in the node's answer") from None


def header_json(header: Header) -> dict[str, Any]:
    """A header with its own hash, the block id."""
    return {
        "hash": header.id.hex(),
        **{field.name: _header_field(header, field.name) for field in dataclasses.fields(header)},
    }


def _header_field(header: Header, name: str) -> Any:
    value = getattr(header, name)
    if name in _HEADER_ADDRESSES:
        return to_text(value)
    return value.hex() if isinstance(value, bytes) else value


def header_from_json(value: Any) -> Header:
    """The header that *value* shows; its hash is computed, never read. Raises BadMessage."""
    wire: list[Any] = []
    for field in dataclasses.fields(Header):
        member = _member(value, field.name)
        if field.name in _HEADER_ADDRESSES:
            wire.append(_address(member))
        elif field.name in _HEADER_TEXTS:
            wire.append(_text(member))
        elif field.name in _HEADER_INTEGERS:
            wire.append(member)
        else:
            wire.append(_bytes(member))
    return shape_of(Header).from_wire(tuple(wire))  # type: ignore[no-any-return]  # the shape of Header


def commit_json(commit: Commit, *, canonical: bool) -> dict[str, Any]:
    """A commit; ``entries`` are in the order of the height's validators, null where absent."""
    return {
        "height": commit.height,
        "round": commit.round,
        "block_id": commit.block_id.hex(),
        "canonical": canonical,
        "entries": [
            None if entry is None else {"for_block": entry.for_block, "signature": entry.signature.hex()}
            for entry in commit.entries
        ],
    }


def commit_from_json(value: Any) -> Commit:
    """The commit that *value* shows. Raises BadMessage."""
    entries: list[Any] = []
    for entry in _list(_member(value, "entries")):
        entries.append(None if entry is None else (_member(entry, "for_block"), _bytes(_member(entry, "signature"))))
    wire = (_member(value, "height"), _member(value, "round"), _bytes(_member(value, "block_id")), tuple(entries))
    return shape_of(Commit).from_wire(wire)  # type: ignore[no-any-return]  # the shape of Commit


def validators_json(validators: ValidatorSet) -> list[dict[str, Any]]:
    """The members of a set, in its order."""
    return [
        {
            "address": to_text(member.address),
            "public_key": member.public_key.hex(),
            "power": member.power,
            "priority": member.priority,
        }
        for member in validators.validators
    ]


def validators_from_json(value: Any) -> ValidatorSet:
    """The set that *value* shows, in its order; priorities, which no header vouches for, may be absent (0).

    Raises BadMessage.
    """
    members = []
    for member in _list(value):
        priority = member.get("priority", 0) if isinstance(member, Mapping) else 0
        wire = (_bytes(_member(member, "public_key")), _member(member, "power"), priority)
        members.append(shape_of(Validator).from_wire(wire))
    return ValidatorSet(tuple(members))


def params_json(params: Params) -> dict[str, int]:
    """The engine's parameters by name."""
    return dataclasses.asdict(params)


def params_from_json(value: Any) -> Params:
    """The parameters that *value* shows. Raises BadMessage."""
    wire = tuple(_member(value, field.name) for field in dataclasses.fields(Params))
    return shape_of(Params).from_wire(wire)  # type: ignore[no-any-return]  # the shape of Params


def module_roots_json(roots: Sequence[ModuleRoot]) -> list[dict[str, str]]:
    """The leaves of an application hash."""
    return [{"module": root.module, "root": root.root.hex()} for root in roots]


def module_roots_from_json(value: Any) -> tuple[ModuleRoot, ...]:
    """The leaves that *value* shows. Raises BadMessage."""
    return tuple(
        shape_of(ModuleRoot).from_wire((_text(_member(each, "module")), _bytes(_member(each, "root"))))
        for each in _list(value)
    )


def block_json(block: Block, transactions: Sequence[bytes]) -> dict[str, Any]:
    """A block with its bodies."""
    last = block.last_commit
    return {
        "header": header_json(block.header),
        "last_commit": None if last is None else commit_json(last, canonical=True),
        "evidence": [evidence_json(from_wire(piece)) for piece in block.evidence],
        "module_roots": module_roots_json(block.module_roots),
        "transaction_ids": [each.hex() for each in block.transaction_ids],
        "transactions": [base64_text(raw) for raw in transactions],
    }


def block_from_json(value: Any) -> tuple[Block, tuple[bytes, ...]]:
    """The block that *value* shows, and its bodies; whether they belong together is not checked. Raises BadMessage."""
    last = _member(value, "last_commit")
    block = Block(
        header=header_from_json(_member(value, "header")),
        last_commit=None if last is None else commit_from_json(last),
        evidence=tuple(to_wire(evidence_from_json(each)) for each in _list(_member(value, "evidence"))),
        transaction_ids=tuple(_bytes(each) for each in _list(_member(value, "transaction_ids"))),
        module_roots=module_roots_from_json(_member(value, "module_roots")),
    )
    return block, tuple(base64_bytes(each) for each in _list(_member(value, "transactions")))


def evidence_json(evidence: Evidence) -> dict[str, Any]:
    """A proved lie: who told it, and the two votes that contradict each other."""
    slot = evidence.first
    return {
        "kind": "duplicate_vote",
        "hash": evidence.id.hex(),
        "validator": to_text(evidence.accused),
        "height": evidence.height,
        "round": slot.round,
        "vote": slot.kind.name.lower(),
        "votes": [
            {"block_id": vote.block_id and vote.block_id.hex(), "signature": vote.signature.hex()}
            for vote in (evidence.first, evidence.second)
        ],
    }


def evidence_from_json(value: Any) -> Evidence:
    """The evidence that *value* shows; whether it convicts is not checked. Raises BadMessage."""
    if _member(value, "kind") != "duplicate_vote":
        raise BadMessage("an unknown kind of evidence in the node's answer")
    kind = {kind.name.lower(): int(kind) for kind in VoteKind}.get(_text(_member(value, "vote")), 0)
    slot = kind, _member(value, "height"), _member(value, "round")
    votes = []
    for vote in _list(_member(value, "votes")):
        block_id = _member(vote, "block_id")
        wire = (
            *slot,
            None if block_id is None else _bytes(block_id),
            _address(_member(value, "validator")),
            _bytes(_member(vote, "signature")),
        )
        votes.append(shape_of(Vote).from_wire(wire))
    if len(votes) != 2:
        raise BadMessage("expected two votes in the node's answer")
    return DuplicateVote(*votes)


def result_json(app: Application, result: Result, *, events: bool = True) -> dict[str, Any]:
    """What came of a transaction; *text* is the sentence behind the code, "" for success."""
    shown: dict[str, Any] = {
        "code": result.code,
        "text": _sentence(app, result.code) if result.code else "",
        "weight": result.weight,
        "fee": result.fee,
    }
    if events:
        shown["events"] = [event_json(app, event) for event in result.events]
    return shown


def _sentence(app: Application, code: str) -> str:
    """The sentence behind a code. Its values are not stored, and stand behind a colon: it is whole without them."""
    text = app.refusal_text(code) or code
    return re.sub(r"\{\w+\}", "…", text.partition(": ")[0] if "{" in text else text)


def event_json(app: Application, event: Event) -> Any:
    """An event as its module shows it."""
    return plain(app.event_to_json(event))


def body_json(app: Application, body: Body) -> dict[str, Any]:
    """A transaction's body for people."""
    return {
        "chain_id": body.chain_id,
        "sender": None if body.sender is None else to_text(body.sender),
        "nonce": body.nonce,
        "valid_until_ms": body.valid_until_ms,
        "fee": body.fee,
        "fee_payer": None if body.fee_payer is None else to_text(body.fee_payer),
        "messages": [plain(app.message_to_json(message)) for message in body.messages],
        "signers": [key.hex() for key in body.signers],
    }


def transaction_json(app: Application, transaction: Transaction) -> dict[str, Any]:
    """A transaction with its decoded body."""
    return {
        "hash": transaction.id.hex(),
        "tx": base64_text(transaction.raw),
        "body": body_json(app, transaction.body),
        "signatures": [signature.hex() for signature in transaction.signatures],
    }


def list_proof_json(proof: merkle.Proof, root: bytes) -> dict[str, Any]:
    """The way of an item to the *root* of its list."""
    return {
        "index": proof.index,
        "total": proof.total,
        "siblings": [sibling.hex() for sibling in proof.siblings],
        "root": root.hex(),
    }


def list_proof_from_json(value: Any) -> merkle.Proof:
    """The way to the root of a list that *value* shows. Raises BadMessage."""
    siblings = tuple(_bytes(sibling) for sibling in _list(_member(value, "siblings")))
    wire = (_member(value, "index"), _member(value, "total"), siblings)
    return shape_of(merkle.Proof).from_wire(wire)  # type: ignore[no-any-return]  # the shape of Proof


def tree_proof_json(proof: TreeProof) -> dict[str, Any]:
    """A proof in one module's tree."""
    leaf = proof.leaf
    return {
        "siblings": [sibling.hex() for sibling in proof.siblings],
        "leaf": None if leaf is None else {"key_hash": leaf[0].hex(), "value_hash": leaf[1].hex()},
    }


def entry_json(target: ProofTarget, value: bytes | None, proof: TreeProof) -> dict[str, Any]:
    """The *value* of an entry of the state (None: absent), with the proof."""
    return {
        "module": target.module,
        "key": target.key.hex(),
        "value": None if value is None else value.hex(),
        **tree_proof_json(proof),
    }


def tree_proof_from_json(value: Any) -> TreeProof:
    """The proof that *value* shows. Raises BadMessage."""
    leaf = _member(value, "leaf")
    siblings = tuple(_bytes(sibling) for sibling in _list(_member(value, "siblings")))
    pair = None if leaf is None else (_bytes(_member(leaf, "key_hash")), _bytes(_member(leaf, "value_hash")))
    return shape_of(TreeProof).from_wire((siblings, pair))  # type: ignore[no-any-return]  # the shape of TreeProof


def plain(value: Any) -> Any:
    """*value* with what JSON lacks replaced: bytes as hex, tuples as arrays; finite numbers only."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    assert value is None or isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value)), value
    return value


def _member(value: Any, name: str) -> Any:
    if not isinstance(value, Mapping) or name not in value:
        raise BadMessage(f"{name} is missing from the node's answer")
    return value[name]


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise BadMessage("expected an array in the node's answer")
    return value


def _text(value: Any) -> str:
    """JSON can spell half a character, which has no bytes to hash."""
    if not isinstance(value, str):
        raise BadMessage("expected text in the node's answer")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadMessage("half a character in the node's answer") from None
    return value


def _bytes(value: Any) -> bytes:
    try:
        return bytes.fromhex(value) if isinstance(value, str) else _no_hex()
    except ValueError:
        raise BadMessage("expected hex in the node's answer") from None


def _no_hex() -> bytes:
    raise ValueError


def _address(value: Any) -> bytes:
    try:
        return from_text(value if isinstance(value, str) else "")
    except BadAddress as error:
        raise BadMessage(f"expected an address in the node's answer: {error}") from None
