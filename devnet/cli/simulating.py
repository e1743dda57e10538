"""``allting devnet sim``: worlds from seeds, and what they came to."""

from __future__ import annotations

import json
import sys
from collections import deque
from pathlib import Path

import click

from devnet.cli.group import devnet, json_option
from devnet.sim import runner, seeds
from devnet.sim.outcome import DEPTHS, depth
from devnet.sim.report import BadState, Report, replay_command

JOBS_MAX = 64
TRACE_TAIL = 60
"""Lines of a failing world's trace that are shown unasked."""


@devnet.command("sim")
@click.option(
    "--seeds", "seeds_text", default="0..100", show_default=True, help="7, 0..1000 (without 1000), random:500."
)
@click.option("--depth", "depth_name", type=click.Choice(sorted(DEPTHS)), default="core", show_default=True)
@click.option("--jobs", type=click.IntRange(1, JOBS_MAX), default=1, show_default=True, help="Processes.")
@click.option(
    "--resume",
    "state",
    type=click.Path(path_type=Path, dir_okay=False, resolve_path=True),
    help="Keep the run in this file, and go on with what it holds.",
)
@click.option("--trace", is_flag=True, help="Show what happens in the world, step by step; for one seed.")
@json_option
def sim_command(seeds_text: str, depth_name: str, jobs: int, state: Path | None, trace: bool, as_json: bool) -> None:
    """Run deterministic worlds with faults and liars, one for each seed: first safety, then liveness.

    Ends with exit code 1 if a promise was broken, or if a fault or a line of Algorithm 1 never occurred in 500 worlds
    or more. A failing seed comes with the command that shows it again.
    """
    wanted = _parsed(seeds_text)
    if trace:
        if len(wanted) != 1:
            raise click.UsageError("--trace shows one world: --seeds 7")
        _show(depth_name, wanted.start)
        return
    report = _begun(depth_name, wanted, state)
    click.echo(f"seeds {report.next}..{report.stop}", err=True)
    try:
        runner.run(report, jobs=jobs, state=state, progress=_progress(quiet=as_json))
    except KeyboardInterrupt:
        _say_how_to_go_on(report, state)
        raise
    chosen = depth(depth_name)
    click.echo(json.dumps(report.as_json(chosen), indent=1) if as_json else "\n".join(report.table(chosen)))
    if report.failures and not as_json:
        _show_tail(depth_name, report.failures[0][0])
    if report.failures or report.never(chosen):
        raise click.exceptions.Exit(1)


def _parsed(text: str) -> range:
    try:
        return seeds.parse(text)
    except seeds.BadSeeds as error:
        raise click.UsageError(str(error)) from error


def _begun(depth_name: str, wanted: range, state: Path | None) -> Report:
    """What *state* holds of these seeds, or nothing yet."""
    if state is None or not state.exists():
        return Report.over(depth_name, wanted)
    try:
        report = Report.load(state, depth_name)
    except BadState as error:
        raise click.ClickException(str(error)) from error
    if (report.first, report.stop) != (wanted.start, wanted.stop):
        click.echo(f"{state} holds seeds {report.first}..{report.stop}; going on with those", err=True)
    return report


def _progress(*, quiet: bool) -> runner.Progress:
    """A line that counts, on a terminal."""
    if quiet or not sys.stderr.isatty():
        return lambda report: None

    def show(report: Report) -> None:
        end = "\n" if report.over_and_done else ""
        click.echo(
            f"\r{report.worlds} worlds, {report.heights} heights, {len(report.failures)} failed {end}",
            nl=False,
            err=True,
        )

    return show


def _say_how_to_go_on(report: Report, state: Path | None) -> None:
    rest = f"--resume {state}" if state is not None else f"--seeds {report.next}..{report.stop}"
    click.echo(f"\ninterrupted before seed {report.next}; go on with {rest}", err=True)


def _show(depth_name: str, seed: int) -> None:
    """The whole trace of one world, and its end."""
    outcome = depth(depth_name).run(seed, click.echo)
    click.echo(f"seed {seed}: {outcome.violation or 'every promise held'}, hash {outcome.hash}")
    if outcome.violation is not None:
        raise click.exceptions.Exit(1)


def _show_tail(depth_name: str, seed: int) -> None:
    """The last steps of the first world that failed."""
    tail: deque[str] = deque(maxlen=TRACE_TAIL)
    depth(depth_name).run(seed, tail.append)
    click.echo(f"\nthe last steps of seed {seed}; all of them: {replay_command(depth_name, seed)}")
    click.echo("\n".join(tail))
    click.echo(f"keep the seed: a line in tests/worlds/failed_{depth_name}_seeds.txt, with what it found")
