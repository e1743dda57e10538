"""Headers, commits and blocks on the wire, and the hashes that name them."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from consensus.block import EVIDENCE_MAX, Block, Commit, Header, LightBlock, Signed
from consensus.codec import BadMessage, encode
from consensus.evidence import EVIDENCE_BYTES_MAX
from consensus.params import ROUNDS_MAX, VALIDATORS_MAX
from consensus.shape import from_bytes, shape_of, to_bytes
from consensus.signing import sha256
from tests.consensus.chain_builder import Chain


@pytest.fixture(scope="module")
def chain() -> Chain:
    """Two blocks."""
    built = Chain()
    built.extend(2)
    return built


def test_the_block_id_is_the_header_s_hash(chain: Chain) -> None:
    """And nothing but the header is in it."""
    block = chain.blocks[1]
    assert block.id == block.header.id == sha256(to_bytes(block.header))
    assert replace(block, transaction_ids=(bytes(32),)).id == block.id


def test_every_field_of_the_header_is_in_its_id(chain: Chain) -> None:
    """So that a signature vouches for all of them."""
    header = chain.blocks[1].header
    ids = {header.id}
    for field in fields(Header):
        value = getattr(header, field.name)
        other: Any = value + 1 if isinstance(value, int) else value + "!" if isinstance(value, str) else value[::-1]
        if other == value:
            other = b"\x01" * len(value)
        ids.add(replace(header, **{field.name: other}).id)
    assert len(ids) == 1 + len(fields(Header))


def test_a_commit_is_named_by_its_bytes(chain: Chain) -> None:
    """Signers and round included."""
    block = chain.blocks[1]
    commit = chain.commit_for(block)
    assert commit.hash == sha256(to_bytes(commit))
    assert chain.commit_for(block, round_=1).hash != commit.hash
    assert chain.commit_for(block, signers=[0, 1, 2]).hash != commit.hash


def test_they_survive_the_wire(chain: Chain) -> None:
    """Block 1 without a commit, block 2 with one, and a light block."""
    for block in chain.blocks:
        assert from_bytes(Block, to_bytes(block)) == block
    light_block = chain.light_block(2, signers=[0, 2, 3])
    assert from_bytes(LightBlock, to_bytes(light_block)) == light_block


def test_a_commit_has_entries_as_the_design_says() -> None:
    """Absent, for nil, for the block: nil, [false, signature], [true, signature]."""
    commit = Commit(3, 1, bytes(32), (None, Signed(False, bytes(64)), Signed(True, bytes(64))))
    expected = (3, 1, bytes(32), (None, (False, bytes(64)), (True, bytes(64))))
    assert to_bytes(commit) == encode(expected)


@pytest.mark.parametrize(
    ("kind", "place", "value"),
    [
        (Header, 0, 2),
        (Header, 1, "c" * 51),
        (Header, 2, -1),
        (Header, 4, bytes(31)),
        (Header, 13, bytes(32)),
        (Commit, 1, ROUNDS_MAX + 1),
        (Commit, 3, (None,) * (VALIDATORS_MAX + 1)),
        (Commit, 3, ((2, bytes(64)),)),
        (Commit, 3, ((True, bytes(63)),)),
        (Block, 2, (None,) * (EVIDENCE_MAX + 1)),
        (Block, 2, (((0,),) * (EVIDENCE_BYTES_MAX // 2),)),
        (Block, 3, (bytes(31),)),
        (Block, 4, (("m" * 41, bytes(32)),)),
    ],
)
def test_what_can_t_be_is_refused(chain: Chain, kind: type, place: int, value: Any) -> None:
    """By type, length and range."""
    block = chain.blocks[1]
    instance = {Header: block.header, Commit: block.last_commit, Block: block}[kind]
    wire = list(shape_of(kind).to_wire(instance))  # type: ignore[arg-type]  # an array
    wire[place] = value
    with pytest.raises(BadMessage):
        from_bytes(kind, encode(wire))
