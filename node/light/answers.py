"""What a node's answers show, once they are held against a header that is believed. Whatever does not hold is refused.

Each function takes JSON from a stranger and raises NotProved or BadMessage for whatever is not what it should be.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, TypeVar

from consensus import merkle
from consensus.application import ProofTarget, Result
from consensus.block import Block, Commit, Header, LightBlock
from consensus.chain import params_hash
from consensus.light import HEADERS_AT_ONCE, Offer
from consensus.params import Params
from consensus.shape import from_bytes
from consensus.signing import sha256
from consensus.validators import ValidatorSet
from consensus.validity import InvalidBlock, contents_belong, verify_commit
from node.proofs import NotProved, proved_values
from node.rpc import shapes

Y = TypeVar("Y")
V = TypeVar("V")
R = TypeVar("R")


def part(value: Any, name: str) -> Any:
    """The member *name* of an object."""
    if not isinstance(value, dict) or name not in value:
        raise NotProved(f"the node's answer has no {name}")
    return value[name]


def number_in(value: Any, name: str) -> int:
    """The member *name* of an object, a number from 1."""
    number = part(value, name)
    if type(number) is not int or number < 1:
        raise NotProved(f"{name} is {number!r:.40}")
    return number


def header_in(answer: Any) -> Header:
    """The header in the answer of ``header``; not believed."""
    return shapes.header_from_json(part(answer, "header"))


def headers_in(answer: Any) -> list[Header]:
    """The headers in the answer of ``blockchain``, as many as were to be asked for; not believed."""
    shown = part(answer, "headers")
    if not isinstance(shown, list):
        raise NotProved("the headers are no array")
    return [shapes.header_from_json(each) for each in shown[: HEADERS_AT_ONCE + 1]]


def offer_in(answer: Any) -> Offer:
    """The light block and the two sets in the answer of ``light_block``; not believed."""
    light_block = LightBlock(header_in(answer), shapes.commit_from_json(part(answer, "commit")), canonical=False)
    validators = shapes.validators_from_json(part(answer, "validators"))
    return Offer(light_block, validators, shapes.validators_from_json(part(answer, "next_validators")))


def same_header(shown: Header, header: Header) -> None:
    """The node shows the believed *header*."""
    if shown != header:
        raise NotProved(f"the node shows another block of height {header.height}: {shown.id.hex()}")


def set_in(answer: Any, name: str, expected_hash: bytes) -> ValidatorSet:
    """The set called *name* in *answer*, which a believed header names by *expected_hash*."""
    shown = shapes.validators_from_json(part(answer, name))
    if shown.hash != expected_hash:
        raise NotProved(f"{name} are not those that the header names")
    return shown


def commit_in(answer: Any, header: Header, validators: ValidatorSet) -> Commit:
    """The commit in *answer*: the believed *header*'s set, *validators*, decided it."""
    commit = shapes.commit_from_json(part(answer, "commit"))
    if commit.height != header.height:
        raise NotProved("the commit is of another height")
    try:
        verify_commit(header.chain_id, validators, commit, header.id)
    except InvalidBlock as error:
        raise NotProved(f"the commit does not hold: {error}") from error
    return commit


def params_in(answer: Any, header: Header) -> Params:
    """The engine's parameters in *answer*, which the believed *header* names."""
    params = shapes.params_from_json(part(answer, "params"))
    if params_hash(params) != header.params_hash:
        raise NotProved("the parameters are not those that the header names")
    return params


def block_in(answer: Any, header: Header) -> tuple[Block, tuple[bytes, ...]]:
    """The block in *answer* with its bodies, all of which the believed *header* commits to."""
    block, bodies = shapes.block_from_json(part(answer, "block"))
    same_header(block.header, header)
    if not contents_belong(block):
        raise NotProved("the block's contents are not those that its header commits to")
    if tuple(sha256(body) for body in bodies) != block.transaction_ids:
        raise NotProved("the transactions are not those of the block's ids")
    return block, bodies


def results_in(answer: Any, header: Header) -> tuple[Result, ...]:
    """All results of the believed *header*'s block: of ``begin``, of each transaction, of ``end``."""
    encoded = part(answer, "encoded")
    if not isinstance(encoded, list) or len(encoded) < 2:
        raise NotProved("the node shows no results that could be verified")
    leaves = [shapes.base64_bytes(each) for each in encoded]
    if merkle.root(leaves) != header.results_hash:
        raise NotProved("the results are not those that the header commits to")
    return tuple(from_bytes(Result, leaf) for leaf in leaves)


def transaction_in(answer: Any, id_: bytes, header: Header, results: Sequence[Result]) -> tuple[bytes, merkle.Proof]:
    """The bytes of transaction *id_* and its place in the block of the believed *header*, which has these *results*.

    The number of results says how many transactions there are; only with it does the way to the root tell the index.
    """
    raw = shapes.base64_bytes(part(answer, "tx"))
    if sha256(raw) != id_:
        raise NotProved("the node shows another transaction")
    proof = shapes.list_proof_from_json(part(answer, "proof"))
    if proof.total != len(results) - 2 or proof.index != part(answer, "index"):
        raise NotProved("the transaction's place does not agree with the number of results")
    if not merkle.verify(header.transactions_root, id_, proof):
        raise NotProved("the transaction is not in the block")
    return raw, proof


def entries_in(
    answer: Any, targets: Sequence[ProofTarget], header: Header
) -> tuple[list[bytes | None], dict[str, Any]]:
    """The value of each target (None: absent) in the state after the believed *header*, and the proof of them all.

    The proof is made anew of what was verified: whatever else the node put into its own is left out.
    """
    shown = part(answer, "proof")
    values = proved_values(targets, shown, header)
    entries = [
        shapes.entry_json(target, value, shapes.tree_proof_from_json(entry))
        for target, value, entry in zip(targets, values, part(shown, "entries"), strict=True)
    ]
    roots = shapes.module_roots_from_json(part(shown, "module_roots"))
    return values, {"module_roots": shapes.module_roots_json(roots), "entries": entries}


def sent(steps: Generator[Y, V, R], value: V) -> Y | R:
    """What a generator yields next once it is sent *value*, or what it returns."""
    try:
        return steps.send(value)
    except StopIteration as stop:
        result: R = stop.value
        return result
