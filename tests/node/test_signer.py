"""The signer never contradicts itself: not after a restart, a torn write, or a disk that refuses."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.vote import VoteKind
from node.signer import DoubleSignRefused, Signer, SignerStateDamaged, SignerStateMissing

SEED = b"k" * 32
CHAIN = "signer-test-1"
ONE, TWO = b"\x01" * 32, b"\x02" * 32
PREVOTE, PRECOMMIT = VoteKind.PREVOTE, VoteKind.PRECOMMIT


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    return Signer.create(SEED, tmp_path / "state", CHAIN)


def test_signatures_hold(signer: Signer) -> None:
    assert signer.sign_proposal(1, 0, -1, ONE).verify(CHAIN, signer.public_key)
    vote = signer.sign_vote(PREVOTE, 1, 0, ONE)
    assert vote.verify(CHAIN, signer.public_key)
    assert vote.validator == signer.address
    assert signer.sign_vote(PRECOMMIT, 1, 0, None).verify(CHAIN, signer.public_key)


def test_the_same_again_is_the_same_signature(signer: Signer, tmp_path: Path) -> None:
    first = signer.sign_vote(PREVOTE, 3, 1, ONE)
    assert signer.sign_vote(PREVOTE, 3, 1, ONE) == first
    signer.sync()
    signer.close()
    assert Signer.open(SEED, tmp_path / "state", CHAIN).sign_vote(PREVOTE, 3, 1, ONE) == first


def test_another_block_in_the_same_place_is_refused(signer: Signer) -> None:
    signer.sign_vote(PRECOMMIT, 3, 1, ONE)
    for block_id in (TWO, None):
        with pytest.raises(DoubleSignRefused, match="precommit of height 3, round 1 contradicts"):
            signer.sign_vote(PRECOMMIT, 3, 1, block_id)


def test_another_proof_of_lock_round_in_the_same_place_is_refused(signer: Signer) -> None:
    signer.sign_proposal(3, 2, -1, ONE)
    with pytest.raises(DoubleSignRefused):
        signer.sign_proposal(3, 2, 1, ONE)


def test_nothing_is_signed_behind_the_last_place(signer: Signer) -> None:
    signer.sign_vote(PREVOTE, 3, 1, ONE)
    for request in (
        lambda: signer.sign_proposal(3, 1, -1, ONE),
        lambda: signer.sign_vote(PRECOMMIT, 3, 0, ONE),
        lambda: signer.sign_vote(PRECOMMIT, 2, 9, None),
    ):
        with pytest.raises(DoubleSignRefused, match="goes back behind prevote of height 3, round 1"):
            request()


def test_a_missing_state_file_is_refused_with_advice(tmp_path: Path) -> None:
    with pytest.raises(SignerStateMissing, match="Restore the file"):
        Signer.open(SEED, tmp_path / "state", CHAIN)


def test_creating_never_forgets(signer: Signer, tmp_path: Path) -> None:
    with pytest.raises(FileExistsError):
        Signer.create(SEED, tmp_path / "state", CHAIN)


def test_a_crash_while_it_is_created_leaves_room_to_create_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", die)
        with pytest.raises(KeyboardInterrupt):
            Signer.create(SEED, tmp_path / "state", CHAIN)
    Signer.create(SEED, tmp_path / "state", CHAIN).close()
    assert Signer.open(SEED, tmp_path / "state", CHAIN).last.place == (0, 0, 0)


def test_another_key_or_chain_is_refused(signer: Signer, tmp_path: Path) -> None:
    with pytest.raises(SignerStateDamaged, match="belongs to key"):
        Signer.open(b"o" * 32, tmp_path / "state", CHAIN)
    with pytest.raises(SignerStateDamaged, match="on chain signer-test-1"):
        Signer.open(SEED, tmp_path / "state", "signer-test-2")


def test_an_unreadable_state_file_is_refused(signer: Signer, tmp_path: Path) -> None:
    for content in (b"", b"{}", b"x" * 8192):
        (tmp_path / "state").write_bytes(content)
        with pytest.raises(SignerStateDamaged, match="can't be read"):
            Signer.open(SEED, tmp_path / "state", CHAIN)


def test_a_write_torn_at_any_byte_leaves_the_former_or_the_new_state(signer: Signer, tmp_path: Path) -> None:
    path = tmp_path / "state"
    signer.sign_proposal(1, 0, -1, ONE)
    signer.sign_vote(PREVOTE, 1, 0, ONE)
    signer.sync()
    former, before = path.read_bytes(), signer.last
    signer.sign_vote(PRECOMMIT, 1, 0, ONE)
    signer.sync()
    new, after = path.read_bytes(), signer.last
    differing = [at for at in range(8192) if former[at] != new[at]]
    for size in range(differing[0], differing[-1] + 2, 7):
        path.write_bytes(new[:size] + former[size:])
        reopened = Signer.open(SEED, path, CHAIN)
        assert reopened.last in (before, after)
        reopened.close()


@pytest.mark.parametrize("name", ["pwrite", "fdatasync"])
def test_a_disk_error_means_silence(signer: Signer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def fail(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    signer.sign_vote(PREVOTE, 1, 0, ONE)
    signer.sync()
    signer.sign_vote(PRECOMMIT, 1, 0, ONE)
    with monkeypatch.context() as patch:
        patch.setattr(os, name, fail)
        with pytest.raises(OSError, match="Input/output error"):
            signer.sync()
    with pytest.raises(OSError, match="could not be written"):
        signer.sync()
    with pytest.raises(OSError, match="could not be written"):
        signer.sign_vote(PREVOTE, 1, 1, ONE)
    signer.close()
    signer.close()


def test_what_the_log_knows_as_ours_counts_as_signed(signer: Signer, tmp_path: Path) -> None:
    vote, proposal = signer.sign_vote(PREVOTE, 2, 0, ONE), signer.sign_proposal(2, 1, -1, ONE)
    signer.close()  # not synced: what was signed had not left
    again = Signer.open(SEED, tmp_path / "state", CHAIN)
    assert again.last.place == (0, 0, 0)
    for message in (vote, proposal, vote):
        again.recall(message)
    again.sync()
    again.close()
    third = Signer.open(SEED, tmp_path / "state", CHAIN)
    assert third.sign_proposal(2, 1, -1, ONE) == proposal
    with pytest.raises(DoubleSignRefused):
        third.sign_proposal(2, 1, -1, TWO)
    with pytest.raises(DoubleSignRefused):
        third.sign_vote(PREVOTE, 2, 0, TWO)


_REQUESTS = st.tuples(
    st.sampled_from(["propose", "prevote", "precommit", "sync", "crash"]),
    st.integers(1, 3),
    st.integers(0, 2),
    st.sampled_from([ONE, TWO, None]),
)


@settings(max_examples=60, deadline=None)
@given(requests=st.lists(_REQUESTS, max_size=25))
def test_no_sequence_of_requests_yields_two_signatures_for_one_place(
    tmp_path_factory: pytest.TempPathFactory, requests: list[tuple[str, int, int, bytes | None]]
) -> None:
    path = tmp_path_factory.mktemp("signer") / "state"
    signer = Signer.create(SEED, path, CHAIN)
    left: dict[tuple[int, int, str], tuple[bytes | None, bytes]] = {}  # what was synced, and so may be known to others
    signed: dict[tuple[int, int, str], tuple[bytes | None, bytes]] = {}
    order = {"propose": 1, "prevote": 2, "precommit": 3}
    for what, height, round_, block_id in requests:
        if what == "sync":
            signer.sync()
            left.update(signed)
            continue
        if what == "crash":
            signer.close()
            signer = Signer.open(SEED, path, CHAIN)
            signed = {}
            continue
        place = (height, round_, order[what])
        highest = signer.last.place
        try:
            if what == "propose":
                signature = signer.sign_proposal(height, round_, -1, block_id or ONE).signature
            else:
                kind = PREVOTE if what == "prevote" else PRECOMMIT
                signature = signer.sign_vote(kind, height, round_, block_id).signature
        except DoubleSignRefused:
            assert place <= highest
            continue
        value = (block_id or ONE if what == "propose" else block_id, signature)
        assert left.get((height, round_, what), value) == value
        assert signed.setdefault((height, round_, what), value) == value
        assert place >= highest
    signer.close()
