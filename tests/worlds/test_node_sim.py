"""Node worlds: the real node under everything that a seed draws; one chain first, then a further height for all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from consensus.machine import Machine
from consensus.signing import sign
from devnet.sim import core, node, node_checks, node_world
from devnet.sim.node_bad_blocks import BAD_BLOCKS
from devnet.sim.node_lines import LEFT_TO_CORE_WORLDS
from devnet.sim.node_plan import HEIGHTS_MIN, JOINS, PROVED, TWIN, Plan
from devnet.sim.node_town import JAIL_MS
from devnet.sim.seeds import kept
from node import height
from node.evidence_pool import EvidencePool
from node.signer import Signer
from node.wal import Wal

SEEDS = (0, 6)
CALM = Plan(
    seed=0,
    powers=(10, 10, 10, 10),
    full_nodes=0,
    latency_max_s=0.01,
    load_interval_s=1.0,
    faults=frozenset(),
    liars={},
    exchange=False,
)
FAILED = kept(Path(__file__).parent / "failed_node_seeds.txt")


@pytest.mark.parametrize("seed", [*SEEDS, *FAILED])
def test_real_nodes_decide_one_chain_through_faults_and_all_go_on_after_healing(seed: int) -> None:
    outcome = node.run(seed)
    assert outcome.violation is None, f"allting devnet sim --depth node --seeds {seed} --trace"
    assert outcome.heights >= HEIGHTS_MIN


def test_lines_of_the_algorithm_are_counted_in_machines_of_real_nodes_and_only_while_the_world_lasts() -> None:
    outcome = node.outcome_of(CALM)
    assert outcome.violation is None
    assert outcome.lines["L38 locks and precommits"] >= outcome.lines["L51 decides in its round"] > HEIGHTS_MIN
    assert outcome.lines["L19 proposes what it built"] >= outcome.heights
    assert set(outcome.lines) <= core.LINES
    assert vars(height)["Machine"] is Machine


def test_a_line_is_demanded_of_node_worlds_or_said_to_be_left_to_core_worlds() -> None:
    assert node.LINES | set(LEFT_TO_CORE_WORLDS) == core.LINES


def test_checker_sees_the_fork_that_twins_with_more_than_a_third_can_make() -> None:
    """Two of four validators run twice with the same keys, once on each side of a split: both sides decide."""
    twins = {2: frozenset({TWIN}), 3: frozenset({TWIN})}
    outcome = node.outcome_of(replace(CALM, powers=(10, 10, 10, 10), liars=twins, split=((0, 2, 3), (1, 4, 5))))
    assert outcome.violation is not None
    assert outcome.violation.startswith("fork")


def test_twins_below_a_third_cannot_fork_in_the_same_split() -> None:
    outcome = node.outcome_of(
        replace(CALM, powers=(10, 10, 10, 10), liars={3: frozenset({TWIN})}, split=((0, 2, 3), (1, 4)))
    )
    assert outcome.violation is None
    assert outcome.heights >= HEIGHTS_MIN


def test_each_kind_of_bad_block_is_proposed_and_none_is_decided() -> None:
    outcome = node.outcome_of(replace(CALM, liars={3: frozenset(BAD_BLOCKS)}))
    assert outcome.violation is None
    assert all(outcome.faults[lie] for lie in BAD_BLOCKS)


def test_newcomers_by_snapshot_and_by_blocks_come_to_one_state_beside_a_peer_that_lies_about_the_past() -> None:
    outcome = node.outcome_of(
        replace(CALM, seed=1, full_nodes=2, faults=frozenset({"join_late"}), liars={3: frozenset({"lie_sync"})})
    )
    assert outcome.violation is None
    assert all(outcome.faults.get(what) for what in (*JOINS, "lie_sync"))


def test_bodies_that_only_some_get_and_nobody_after_the_polka_hold_nothing_up() -> None:
    outcome = node.outcome_of(replace(CALM, load_interval_s=0.5, liars={3: frozenset({"lie_bodies_until_polka"})}))
    assert outcome.violation is None
    assert outcome.faults["lie_bodies_until_polka"]


def test_who_is_seen_to_vote_twice_is_convicted_and_jailed() -> None:
    outcome = node.outcome_of(replace(CALM, liars={3: frozenset({"lie_two_votes"})}))
    assert outcome.violation is None
    assert outcome.faults[PROVED]


def test_checker_sees_a_liar_at_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody puts evidence into blocks."""
    monkeypatch.setattr(EvidencePool, "for_block", lambda pool: [])
    monkeypatch.setattr(node_world, "CALM_S", 20.0)
    outcome = node.outcome_of(replace(CALM, liars={3: frozenset({"lie_two_votes"})}))
    assert outcome.violation is not None
    assert "at large ['" in outcome.violation


def test_checker_sees_a_jail_that_does_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_checks, "JAIL_MS", JAIL_MS + 1)
    outcome = node.outcome_of(replace(CALM, liars={3: frozenset({"lie_two_votes"})}))
    assert outcome.violation is not None
    assert outcome.violation.startswith("jail")


def test_checker_sees_validators_that_forget_what_they_signed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signer without a memory and a log that is not synced: signatures from before and after a cut contradict."""
    monkeypatch.setattr(Signer, "_sign", lambda signer, place, message: sign(signer._seed, message))
    monkeypatch.setattr(Wal, "sync", lambda wal: None)
    outcome = node.outcome_of(replace(CALM, faults=frozenset({"crash_all_at_commit"})))
    assert outcome.violation is not None
    assert outcome.violation.startswith("double_signing")
