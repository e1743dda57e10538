"""JSON of strangers: what clients ask of a node's RPC, and what nodes answer to clients that verify."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any, TypeVar

from hypothesis import strategies as st

from city.app import Town
from consensus.address import key_address, to_text
from consensus.block import Commit, Header, ModuleRoot
from consensus.codec import BadMessage
from consensus.evidence import DuplicateVote
from consensus.jellyfish import TreeProof
from consensus.merkle import Proof
from consensus.params import CITY
from consensus.shape import to_bytes
from consensus.signing import public_key, sign
from consensus.transaction import Body
from consensus.validators import ValidatorSet
from node.light.answers import headers_in, offer_in
from node.proofs import NotProved
from node.rpc import shapes
from node.rpc.chain import ChainMethods
from node.rpc.errors import ParseError, RpcError
from node.rpc.event_methods import EventMethods
from node.rpc.evidence import EvidenceMethods
from node.rpc.face import _argument
from node.rpc.methods import _MARK
from node.rpc.node_methods import NodeMethods
from node.rpc.parameters import Parameters
from node.rpc.prepare import AssembleMethods, PrepareMethods
from node.rpc.protocol import Call, parse, parse_json, to_json
from node.rpc.queries import QueryMethods
from node.rpc.transactions import TransactionMethods
from node.rpc.websocket import SubscriptionMethods
from tests.fuzz.decoder import Decoder
from tests.fuzz.grammar import values_of

T = TypeVar("T")

SEED = bytes(32)
ANNA, BJORN = (to_text(key_address(public_key(seed))) for seed in (SEED, bytes(31) + b"b"))

GROUPS = (
    ChainMethods,
    EventMethods,
    EvidenceMethods,
    NodeMethods,
    PrepareMethods,
    AssembleMethods,
    QueryMethods,
    TransactionMethods,
    SubscriptionMethods,
)
PARAMETERS: Mapping[str, Parameters] = {
    name: getattr(function, _MARK)
    for group in GROUPS
    for name, function in vars(group).items()
    if hasattr(function, _MARK)
}
"""Of every method, by name."""

TEXTS = st.text(max_size=8) | st.sampled_from(
    [
        "ab" * 32,
        "0x" + "AB" * 32,
        "00" * 64,
        ANNA,
        "AAAA",
        "\ud800",
        "١",
        "coin/balance",
        "9" * 30,
    ]
)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
"""Whatever a stranger can say."""


def changed(value: Any) -> st.SearchStrategy[Any]:
    """*value* with something else in one place of it, mostly far inside; or as it is."""
    return st.one_of(st.just(value), _changed_inside(value), _changed_inside(value), _changed_inside(value))


def _changed_inside(value: Any) -> st.SearchStrategy[Any]:
    if isinstance(value, dict) and value:
        return st.sampled_from(sorted(value)).flatmap(
            lambda name: _changed_inside(value[name]).map(lambda other: {**value, name: other})
        )
    if isinstance(value, list) and value:
        return st.integers(-1, len(value) - 1).flatmap(
            lambda at: JSON if at < 0 else _changed_inside(value[at]).map(lambda other: _with(value, at, other))
        )
    return JSON


def _with(items: list[Any], at: int, item: Any) -> list[Any]:
    return [*items[:at], item, *items[at + 1 :]]


def _bytes(value: Any) -> bytes:
    return json.dumps(value).encode()


# Questions ------------------------------------------------------------------------------------------------------------


def _read_call(body: bytes) -> None:
    for call in parse(body, batch_calls_max=50)[0]:
        if isinstance(call, Call) and call.method in PARAMETERS:
            try:
                PARAMETERS[call.method].read(call.params)
            except RpcError as refused:
                to_json(refused.to_json())


def _calls() -> st.SearchStrategy[bytes]:
    def params(name: str) -> st.SearchStrategy[Any]:
        taken = [parameter.name for parameter in PARAMETERS[name].all]
        by_name = st.dictionaries(st.sampled_from([*taken, "x"]), JSON, max_size=len(taken) + 1)
        return st.tuples(st.just(name), by_name | st.lists(JSON, max_size=len(taken) + 1))

    calls = st.sampled_from(sorted(PARAMETERS)).flatmap(params)
    return calls.map(lambda call: _bytes({"jsonrpc": "2.0", "id": 1, "method": call[0], "params": call[1]}))


def _read_get(data: bytes) -> None:
    """The argument of a link, for every parameter that there is."""
    value = _argument(data.decode("utf-8", "replace"))
    for parameters in PARAMETERS.values():
        for parameter in parameters.all:
            try:
                parameters.read({parameter.name: value})
            except RpcError as refused:
                to_json(refused.to_json())


class _Accounts:
    """Every account is new."""

    async def account(self, address: bytes) -> Mapping[str, Any]:
        return {"next_nonce": 0, "record": None}

    async def next_nonce(self, address: bytes) -> int:
        return 0

    def now_ms(self) -> int:
        return 1_790_000_000_000


def _at_once(steps: Coroutine[Any, Any, T]) -> T:
    """What a coroutine that waits for nothing returns."""
    try:
        steps.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    raise AssertionError("it waits for something")


PREPARE = PrepareMethods(Town(), "fuzz-1", _Accounts())


def _read_prepared(data: bytes) -> None:
    params = parse_json(data)
    arguments = PARAMETERS["prepare_tx"].read(params if isinstance(params, dict | list) else {})
    prepared = _at_once(PREPARE.prepare_tx(**arguments))
    to_json(prepared)


def _read_assembled(data: bytes) -> None:
    params = parse_json(data)
    arguments = PARAMETERS["assemble_tx"].read(params if isinstance(params, dict | list) else {})
    to_json(_at_once(AssembleMethods().assemble_tx(**arguments)))


MESSAGES = (
    {"coin.send": {"to": BJORN, "amount": 5}},
    {"identity.attest": {"account": BJORN, "nullifier": "00" * 32}},
    {"governance.propose": {"title": "a", "body_hash": "00" * 32, "messages": [{"coin.burn": {"amount": 1}}]}},
)
PREPARED = {
    "messages": list(MESSAGES),
    "sender": ANNA,
    "signers": ["ab" * 32],
    "nonce": 3,
    "fee": 1,
    "fee_payer": None,
    "valid_until_ms": 10,
}


def _assembled() -> st.SearchStrategy[bytes]:
    """A body that its only signer signed, as it is or changed."""
    bodies = values_of(Body).map(lambda body: dataclasses.replace(body, signers=(public_key(SEED),)))
    params = bodies.map(
        lambda body: {
            "body": shapes.base64_text(to_bytes(body)),
            "signatures": [sign(SEED, body.sign_bytes()).hex()],
        }
    )
    return params.flatmap(changed).map(_bytes)


# Answers --------------------------------------------------------------------------------------------------------------


def _shape(name: str, read: Callable[[Any], Any], samples: st.SearchStrategy[Any]) -> Decoder:
    """What is read goes on as the chain's own types: whoever verifies takes its bytes."""

    def used(data: bytes) -> bytes:
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            raise ParseError("as in the client") from None
        return b"".join(map(to_bytes, _records(read(value))))

    return Decoder(f"JSON of {name}", used, (BadMessage, NotProved, ParseError), samples.flatmap(changed).map(_bytes))


def _records(value: Any) -> list[Any]:
    if not isinstance(value, tuple | list):
        return [value]
    return [record for each in value if not isinstance(each, bytes) for record in _records(each)]


def _evidence_read(value: Any) -> Any:
    evidence = shapes.evidence_from_json(value)
    assert isinstance(evidence.id, bytes)
    return evidence


def _offer_read(value: Any) -> Any:
    offer = offer_in(value)
    return [offer.light_block.header, offer.light_block.commit, offer.validators, offer.next_validators]


HEADERS = values_of(Header).map(shapes.header_json)
COMMITS = values_of(Commit).map(partial(shapes.commit_json, canonical=False))
SETS = values_of(ValidatorSet).map(shapes.validators_json)
EVIDENCE = values_of(DuplicateVote).map(shapes.evidence_json)
ROOTS = st.lists(values_of(ModuleRoot), max_size=2).map(shapes.module_roots_json)
BLOCKS = st.fixed_dictionaries(
    {
        "header": HEADERS,
        "last_commit": st.none() | COMMITS,
        "evidence": st.lists(EVIDENCE, max_size=2),
        "module_roots": ROOTS,
        "transaction_ids": st.just(["00" * 32]),
        "transactions": st.just(["AAAA"]),
    }
)
LIST_PROOFS = values_of(Proof).map(
    lambda proof: {
        "index": proof.index,
        "total": proof.total,
        "siblings": [sibling.hex() for sibling in proof.siblings],
    }
)
OFFERS = st.fixed_dictionaries({"header": HEADERS, "commit": COMMITS, "validators": SETS, "next_validators": SETS})

JSON_DECODERS = (
    Decoder("RPC parameters", _read_call, (RpcError,), _calls()),
    Decoder("RPC argument in a link", _read_get, (), JSON.map(_bytes) | st.binary(max_size=40)),
    Decoder("RPC prepare_tx", _read_prepared, (RpcError,), changed(PREPARED).map(_bytes)),
    Decoder("RPC assemble_tx", _read_assembled, (RpcError,), _assembled()),
    _shape("a header", shapes.header_from_json, HEADERS),
    _shape("a commit", shapes.commit_from_json, COMMITS),
    _shape("a set", shapes.validators_from_json, SETS),
    _shape("parameters", shapes.params_from_json, st.just(shapes.params_json(CITY))),
    _shape("module roots", shapes.module_roots_from_json, ROOTS),
    _shape("evidence", _evidence_read, EVIDENCE),
    _shape("a block", shapes.block_from_json, BLOCKS),
    _shape("a proof in a list", shapes.list_proof_from_json, LIST_PROOFS),
    _shape("a proof in a tree", shapes.tree_proof_from_json, values_of(TreeProof).map(shapes.tree_proof_json)),
    _shape("an offer", _offer_read, OFFERS),
    _shape("headers", headers_in, st.lists(HEADERS, max_size=2).map(lambda shown: {"headers": shown})),
)
