"""A key whose memory was lost, copied or used elsewhere signs again only when that is safe, or at a risk taken."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from consensus.signing import public_key
from consensus.vote import Vote, VoteKind
from node import signer_state
from node.signer import DoubleSignRefused, Signer
from node.signer_state import SignerStateDamaged, SignerStateMissing, may_sign, unlock, unlock_at_risk

SEED = b"k" * 32
KEY = public_key(SEED)
CHAIN = "signer-state-1"
ONE, TWO = b"\x01" * 32, b"\x02" * 32
PRECOMMIT = VoteKind.PRECOMMIT


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "last_sign.json"


def opened(path: Path) -> Signer:
    return Signer.open(SEED, path, CHAIN)


def test_a_lock_outlives_a_restart_until_it_is_unlocked(path: Path) -> None:
    signer = Signer.create(SEED, path, CHAIN)
    assert may_sign(path, KEY, CHAIN)
    signer.sign_vote(PRECOMMIT, 5, 1, ONE)
    signer.lock("because " * 200)
    signer.close()
    locked = opened(path)
    assert locked.is_silent
    assert locked.last.place == (5, 1, 3)
    assert locked.last.locked.startswith("because")
    assert not may_sign(path, KEY, CHAIN)
    unlock(path, KEY, CHAIN, since_ms=77)
    waiting = opened(path)
    assert waiting.is_silent
    assert waiting.last.waiting_since_ms == 77
    assert waiting.last.place == (5, 1, 3), "what is still known is kept"
    waiting.resume(9)
    again = opened(path)
    assert not again.is_silent
    with pytest.raises(DoubleSignRefused):
        again.sign_vote(PRECOMMIT, 8, 7, ONE)
    assert again.sign_vote(PRECOMMIT, 9, 0, ONE).verify(CHAIN, KEY)


@pytest.mark.parametrize("damage", [None, b"", b"{}", b"x" * 8192])
def test_a_state_that_is_lost_or_damaged_is_unlocked_with_nothing_known(damage: bytes | None, path: Path) -> None:
    if damage is None:
        with pytest.raises(SignerStateMissing, match="allting keys unlock"):
            opened(path)
    else:
        path.write_bytes(damage)
        with pytest.raises(SignerStateDamaged, match="allting keys unlock"):
            opened(path)
    assert not may_sign(path, KEY, CHAIN)
    unlock(path, KEY, CHAIN, since_ms=5)
    assert opened(path).last == dataclasses.replace(signer_state.NOTHING, sequence=1, waiting_since_ms=5)


def test_the_state_of_another_key_is_not_unlocked(path: Path) -> None:
    Signer.create(b"o" * 32, path, CHAIN).close()
    with pytest.raises(SignerStateDamaged, match="belongs to key"):
        unlock(path, KEY, CHAIN, since_ms=5)


def test_at_risk_the_key_signs_at_once_from_the_height_in_progress_on_and_takes_over_what_it_is_shown(
    path: Path,
) -> None:
    former = Signer.create(SEED, path, CHAIN)
    shown = former.sign_vote(PRECOMMIT, 7, 0, ONE)
    former.close()
    path.unlink()
    unlock_at_risk(path, KEY, CHAIN, height=7)
    signer = opened(path)
    assert not signer.is_silent
    with pytest.raises(DoubleSignRefused):
        signer.sign_vote(PRECOMMIT, 6, 9, TWO)
    assert signer.explains(shown)
    signer.recall(shown)
    with pytest.raises(DoubleSignRefused):
        signer.sign_vote(PRECOMMIT, 7, 0, TWO)
    assert signer.sign_vote(PRECOMMIT, 7, 1, TWO)


def test_a_signer_knows_what_it_can_not_have_signed(path: Path) -> None:
    signer = Signer.create(SEED, path, CHAIN)
    last = signer.sign_vote(PRECOMMIT, 3, 2, ONE)

    def elsewhere(height: int, round_: int, block_id: bytes | None) -> Vote:
        return dataclasses.replace(last, height=height, round=round_, block_id=block_id)

    assert signer.explains(last)
    assert signer.explains(elsewhere(3, 1, TWO)), "forgotten, but possible"
    assert not signer.explains(elsewhere(3, 2, TWO))
    assert not signer.explains(elsewhere(3, 3, ONE))
    assert not signer.explains(elsewhere(4, 0, None))
