"""RFC 6962 trees: known roots, and proofs that prove nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.merkle import Proof, inner_hash, leaf_hash, prove, root, verify
from consensus.shape import from_bytes, to_bytes
from consensus.signing import sha256

LEAVES = [bytes.fromhex(text) for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657")]
LEAVES.append(bytes(range(0x60, 0x70)))
"""The leaves of the test vectors of Certificate Transparency."""

ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
"""Their roots: of none, of the first, of the first two, …"""

leaf_lists = st.lists(st.binary(max_size=40), min_size=1, max_size=33)


@pytest.mark.parametrize("count", range(9))
def test_roots_are_those_of_certificate_transparency(count: int) -> None:
    """Every size up to eight."""
    assert root(LEAVES[:count]).hex() == ROOTS[count]


def recursive_root(leaves: list[bytes]) -> bytes:
    """The definition of RFC 6962, 2.1, as it is written."""
    if len(leaves) <= 1:
        return leaf_hash(leaves[0]) if leaves else sha256(b"")
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return inner_hash(recursive_root(leaves[:split]), recursive_root(leaves[split:]))


@given(leaf_lists)
def test_the_root_is_the_definition_s(leaves: list[bytes]) -> None:
    """Level by level gives what splitting at the largest power of two gives."""
    assert root(leaves) == recursive_root(leaves)


@given(leaf_lists, st.data())
def test_every_leaf_can_be_proved(leaves: list[bytes], data: st.DataObject) -> None:
    """And its proof survives the wire."""
    index = data.draw(st.integers(0, len(leaves) - 1))
    proof = prove(leaves, index)
    assert verify(root(leaves), leaves[index], from_bytes(Proof, to_bytes(proof)))


@given(leaf_lists, st.data())
def test_no_other_leaf_or_place_is_proved(leaves: list[bytes], data: st.DataObject) -> None:
    """Another leaf, another root, or another index, unless the same leaf stands there too."""
    index = data.draw(st.integers(0, len(leaves) - 1))
    proof, expected = prove(leaves, index), root(leaves)
    assert not verify(expected, leaves[index] + b"!", proof)
    assert not verify(sha256(expected), leaves[index], proof)
    other = data.draw(st.integers(0, len(leaves) + 2))
    if leaves[other : other + 1] != [leaves[index]]:
        assert not verify(expected, leaves[index], replace(proof, index=other))


@given(leaf_lists, st.data())
def test_a_flipped_bit_is_refused(leaves: list[bytes], data: st.DataObject) -> None:
    """In any sibling."""
    index = data.draw(st.integers(0, len(leaves) - 1))
    proof = prove(leaves, index)
    for place, sibling in enumerate(proof.siblings):
        bit = data.draw(st.integers(0, 255))
        flipped = (int.from_bytes(sibling, "big") ^ 1 << bit).to_bytes(32, "big")
        siblings = (*proof.siblings[:place], flipped, *proof.siblings[place + 1 :])
        assert not verify(root(leaves), leaves[index], replace(proof, siblings=siblings))


def test_siblings_too_few_or_too_many_are_refused() -> None:
    """Also where the hashes that are there agree."""
    proof = prove(LEAVES, 3)
    assert not verify(root(LEAVES), LEAVES[3], replace(proof, siblings=proof.siblings[:-1]))
    assert not verify(root(LEAVES), LEAVES[3], replace(proof, siblings=(*proof.siblings, bytes(32))))
    assert not verify(root(LEAVES), LEAVES[3], replace(proof, siblings=()))


def test_a_tree_of_one_leaf_is_no_larger_one() -> None:
    """Its root is the leaf's hash, and a path that ends there has the length of such a tree only."""
    alone = root(LEAVES[:1])
    assert verify(alone, LEAVES[0], Proof(0, 1, ()))
    assert not any(verify(alone, LEAVES[0], Proof(0, total, ())) for total in (2, 3, 4, 1_000))


def test_an_inner_node_is_no_leaf() -> None:
    """The prefixes tell them apart (second preimages)."""
    inner = leaf_hash(LEAVES[0]) + leaf_hash(LEAVES[1])
    assert not verify(root(LEAVES[:2]), inner, Proof(0, 1, ()))


@pytest.mark.parametrize(
    "proof",
    [
        Proof(0, 0, ()),
        Proof(1, 1, ()),
        Proof(-1, 1, ()),
        Proof(0, 2, (b"short",)),
        Proof(2**62, 2**63 - 1, (bytes(32),) * 63),
        Proof(2**63 - 2, 2**63 - 1, ()),
    ],
)
def test_nonsense_is_refused_without_an_error(proof: Proof) -> None:
    """Whatever a stranger sends."""
    assert not verify(root(LEAVES), LEAVES[0], proof)


def test_only_leaves_that_exist_are_proved() -> None:
    """Asking for another is our defect."""
    with pytest.raises(AssertionError):
        prove(LEAVES, len(LEAVES))
