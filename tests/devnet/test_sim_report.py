"""The sum of many worlds: counted, demanded, kept and gone on with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from devnet.cli import devnet
from devnet.sim import outcome, runner
from devnet.sim.outcome import Outcome, Tell
from devnet.sim.report import FAILURES_MAX, SEEDS_ENOUGH, BadState, Report


class FakeDepth:
    """Worlds of one height; seed 3 breaks, a fault comes in even ones."""

    FAULTS = frozenset({"split", "crash"})
    LINES = frozenset({"L36 locks", "L9 first"})

    @staticmethod
    def run(seed: int, tell: Tell | None = None) -> Outcome:
        if tell is not None:
            tell(f"what happens in {seed}")
        return Outcome(
            seed=seed,
            heights=1,
            rounds_above_0=2,
            virtual_ms=500,
            faults={"split": 1 - seed % 2},
            lines={"L36 locks": 3},
            hash=f"{seed:x}",
            violation="fork: two" if seed == 3 else None,
        )


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeDepth:
    """What `--depth core` means here."""
    chosen = FakeDepth()
    monkeypatch.setattr(outcome, "depth", lambda name: chosen)
    monkeypatch.setattr(runner, "depth", lambda name: chosen)
    monkeypatch.setattr("devnet.cli.simulating.depth", lambda name: chosen)
    return chosen


def run(seeds: range, state: Path | None = None) -> Report:
    report = Report.over("core", seeds)
    runner.run(report, jobs=1, state=state, progress=lambda report: None)
    return report


def test_worlds_are_added_up(fake: FakeDepth) -> None:
    report = run(range(4))
    assert (report.worlds, report.heights, report.rounds_above_0, report.virtual_ms) == (4, 4, 8, 2000)
    assert (report.faults["split"], report.fault_worlds["split"]) == (2, 2)
    assert report.failures == [(3, "fork: two")]
    table = "\n".join(report.table(fake))
    assert "seed 3 failed: fork: two" in table
    assert "allting devnet sim --depth core --seeds 3 --trace" in table
    assert table.index("L9 first") < table.index("L36 locks")


def test_what_never_occurred_is_demanded_of_long_runs_only(fake: FakeDepth) -> None:
    assert run(range(10, 10 + SEEDS_ENOUGH - 1)).never(fake) == []
    assert run(range(10, 10 + SEEDS_ENOUGH)).never(fake) == ["fault crash", "line L9 first"]


def test_interrupted_run_goes_on_where_it_was_and_comes_to_the_same(fake: FakeDepth, tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    whole = run(range(10, 30))
    part = Report.over("core", range(10, 30))

    def interrupt(report: Report) -> None:
        if report.next == 17:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runner.run(part, jobs=1, state=file, progress=interrupt)
    again = Report.load(file, "core")
    assert again.next == 17
    runner.run(again, jobs=1, state=file, progress=lambda report: None)
    assert {**again.as_json(fake), "seconds": 0} == {**whole.as_json(fake), "seconds": 0}
    assert Report.load(file, "core").over_and_done


def test_run_ends_when_enough_worlds_failed(fake: FakeDepth, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = FakeDepth.run(3)
    monkeypatch.setattr(runner, "one", lambda name, seed: Outcome(**{**outcome_fields(broken), "seed": seed}))
    report = run(range(10, 1000))
    assert len(report.failures) == FAILURES_MAX == report.worlds


def outcome_fields(of: Outcome) -> dict[str, object]:
    return {name: getattr(of, name) for name in Outcome.__dataclass_fields__}


def test_file_of_something_else_is_named(fake: FakeDepth, tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    file.write_text("[]")
    with pytest.raises(BadState, match="holds no run"):
        Report.load(file, "core")
    Report.over("core", range(3)).save(file)
    with pytest.raises(BadState, match="--depth core"):
        Report.load(file, "node")


def test_command_answers_in_json_and_with_its_exit_code(fake: FakeDepth) -> None:
    good = CliRunner().invoke(devnet, ["sim", "--seeds", "0..3", "--json"])
    assert good.exit_code == 0
    assert json.loads(good.stdout)["worlds"] == 3
    bad = CliRunner().invoke(devnet, ["sim", "--seeds", "0..9", "--json"])
    assert bad.exit_code == 1
    assert json.loads(bad.stdout)["failures"] == [
        {"seed": 3, "violation": "fork: two", "replay": "allting devnet sim --depth core --seeds 3 --trace"}
    ]
    people = CliRunner().invoke(devnet, ["sim", "--seeds", "0..9"])
    assert people.exit_code == 1
    assert "what happens in 3" in people.stdout
    long = CliRunner().invoke(devnet, ["sim", "--seeds", "10..600"])
    assert long.exit_code == 1
    assert "never occurred: fault crash" in long.stdout


def test_command_traces_one_world(fake: FakeDepth) -> None:
    traced = CliRunner().invoke(devnet, ["sim", "--seeds", "3", "--trace"])
    assert traced.exit_code == 1
    assert "what happens in 3" in traced.stdout
    assert CliRunner().invoke(devnet, ["sim", "--seeds", "3..5", "--trace"]).exit_code == 2
    assert CliRunner().invoke(devnet, ["sim", "--seeds", "none"]).exit_code == 2


def test_two_processes_come_to_the_same_as_one() -> None:
    one, two = Report.over("core", range(6)), Report.over("core", range(6))
    runner.run(one, jobs=1, state=None, progress=lambda report: None)
    runner.run(two, jobs=2, state=None, progress=lambda report: None)
    assert two.worlds == 6
    assert two.hash == one.hash
    assert two.lines == one.lines
