"""The checker of core worlds looks: what breaks a promise is seen, and called by its name."""

from __future__ import annotations

import dataclasses
import random
import re
from collections.abc import Set
from pathlib import Path

import pytest

from consensus.effects import Effect
from consensus.inputs import Input
from consensus.machine import Machine
from consensus.tally import Ballot
from devnet.sim import core, core_node
from devnet.sim.core_disk import Log
from devnet.sim.core_liars import Amnesiac
from devnet.sim.core_lines import LINES, WatchedMachine
from devnet.sim.core_node import Node
from devnet.sim.core_plan import Plan
from devnet.sim.core_world import World

FOUR = (10, 10, 10, 10)
RACES = Plan(powers=FOUR, contested=True, chaos_ms=20_000)
CRASHES = Plan(powers=FOUR, crash=0.1, faults=frozenset({"crash"}), signer_memory=False)
README = (Path(__file__).parent.parent.parent / "consensus" / "README.md").read_text("utf-8")


def violations(plan: Plan, *, worlds: int = 8, enough: Set[str] = frozenset()) -> set[str]:
    """The codes of what breaks in some worlds of *plan*; looks no further once one of *enough* is among them."""
    codes: set[str] = set()
    for seed in range(worlds):
        violation = core.outcome_of(seed, World(plan, random.Random(seed))).violation
        if violation is not None:
            codes.add(violation.partition(":")[0])
        if codes & enough:
            break
    return codes


def test_nothing_breaks_where_nothing_is_broken() -> None:
    assert violations(RACES, worlds=2) == violations(CRASHES, worlds=2) == set()


def test_lock_that_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core_node, "WatchedMachine", Amnesiac)
    assert violations(RACES) & {"rounds", "lock"}


@pytest.mark.parametrize("rule", ["_prevotes_fresh", "_prevotes_again"])
def test_rule_that_looks_at_no_lock(monkeypatch: pytest.MonkeyPatch, rule: str) -> None:
    """L23 and L29 without their second half: prevotes that leave a lock."""
    real = getattr(Machine, rule)

    def free(machine: Machine) -> bool:
        lock = machine.locked_round, machine.locked_block_id
        machine.locked_round, machine.locked_block_id = -1, None
        fired: bool = real(machine)
        machine.locked_round, machine.locked_block_id = lock
        return fired

    monkeypatch.setattr(WatchedMachine, rule, free, raising=False)
    liars = {0: frozenset({"old_polka", "amnesia", "two_votes"})}
    plan = dataclasses.replace(RACES, powers=(1,) * 7, liars={**liars, 1: liars[0]}, chaos_ms=10_000)
    assert violations(plan, worlds=40, enough={"lock"}) == {"lock"}


def test_quorum_of_half(monkeypatch: pytest.MonkeyPatch) -> None:
    def half(ballot: Ballot, block_id: bytes | None) -> bool:
        return 2 * ballot._power.get(block_id, 0) >= ballot._total_power

    monkeypatch.setattr(Ballot, "has_quorum", half)
    assert violations(RACES, worlds=2) & {"no_quorum", "fork"}


def test_speech_before_the_log_is_durable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Log, "sync", lambda log: None)
    assert violations(CRASHES, worlds=20) & {"double_vote", "double_proposal", "never_said"}


def test_replay_that_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    class Moody(WatchedMachine):
        """Answers as the number of machines before it wants."""

        made = 0

        def __init__(self, **arguments: object) -> None:
            super().__init__(**arguments)  # type: ignore[arg-type]
            Moody.made += 1
            self.mood = Moody.made % 2

        def handle(self, event: Input) -> list[Effect]:
            effects = super().handle(event)
            return effects[::-1] if self.mood else effects

    monkeypatch.setattr(core_node, "WatchedMachine", Moody)
    assert "replay" in violations(CRASHES)


def test_stranger_s_vote_that_reaches_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Node, "_is_members", lambda node, vote: True)
    plan = Plan(powers=FOUR, liars={0: frozenset({"votes_of_strangers"})})
    assert violations(plan) & {"false_charge", "never_said", "exception", "bad_commit"}


def test_claim_of_a_height_that_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Node, "_sync", lambda node, message: node._commit(message.block, message.votes))
    plan = Plan(powers=FOUR, liars={0: frozenset({"false_heights"})})
    assert violations(plan, worlds=2) & {"no_quorum", "bad_commit"}


def test_world_that_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WatchedMachine, "_time_out", lambda machine, step: None)
    plan = Plan(powers=FOUR, liars={0: frozenset({"silence"})})
    assert violations(plan, worlds=1) == {"liveness"}


def test_every_row_of_the_paper_s_table_with_a_condition_has_lines_that_are_demanded() -> None:
    counted = {int(number) for name in LINES for number in re.findall(r"^L(\d+)", name)}
    for row in README.splitlines():
        if row.startswith("| L") and "driver makes" not in row and "`__init__`" not in row:
            numbers = [int(number) for number in re.findall(r"\d+", row.split("|")[1])]
            assert counted & set(range(numbers[0], numbers[-1] + 1)), row


def test_trace_tells_what_happened_in_words() -> None:
    told: list[str] = []
    for seed in range(6):
        core.run(seed, told.append)
    text = "\n".join(told)
    for words in ("has something to decide", "proposes h1.", "prevotes nil", "locks", "DECIDES", "nemesis:", "is back"):
        assert words in text
    assert not re.search(r"object at 0x", text)


@pytest.mark.parametrize("seed", range(3))
def test_machine_that_is_watched_answers_as_any_other(seed: int) -> None:
    world = World(RACES, random.Random(seed))
    world.chaos()
    for node in world.nodes:
        plain = Machine(
            height=node.height,
            validators=node.state.validators,
            params=node.state.params,
            own_address=node.address,
        )
        plain.start()
        assert [plain.handle(event) for event in node.log.inputs] == node.log.answers
