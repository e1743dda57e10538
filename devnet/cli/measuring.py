"""Commands that put a devnet under load and measure it."""

from __future__ import annotations

import contextlib
import functools
import json
import shutil
import signal
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import click
import trio

from devnet import bench, fleet, homes, load, record
from devnet.cli.group import Say, devnet, directory_option, json_option
from devnet.record import NoDevnet


@devnet.command("load")
@directory_option
@click.option("--rate", type=click.FloatRange(0.1, 100_000), default=100, show_default=True, help="Transfers a second.")
@click.option("--seconds", type=click.FloatRange(0.1, 86_400), default=20, show_default=True)
@click.option(
    "--active", type=click.IntRange(2, 100_000), default=1_000, show_default=True, help="Accounts that take part."
)
@json_option
def load_command(directory: Path, rate: float, seconds: float, active: int, as_json: bool) -> None:
    """Send signed transfers at a rate, whatever happens to the nodes, and say what became of each of them.

    Ends with exit code 1 if anything was lost or repeated.
    """
    plan = load.Plan(rate=rate, seconds=seconds, active=active)
    books = trio.run(functools.partial(load.run, record.load(directory), plan, tell=Say(quiet=as_json)))
    click.echo(json.dumps(books, indent=1) if as_json else _table_of(books))
    if books["lost"] or books["repeated"]:
        raise click.exceptions.Exit(1)


@devnet.command("bench")
@directory_option
@click.option("--validators", type=click.IntRange(1, homes.VALIDATORS_MAX), default=4, show_default=True)
@click.option("--runs", type=click.IntRange(1, 25), default=3, show_default=True)
@click.option("--seconds", type=click.FloatRange(1, 3_600), default=20, show_default=True, help="Of each run.")
@click.option(
    "--profile",
    type=click.Path(path_type=Path, dir_okay=False, resolve_path=True),
    help="Write where one node spends its CPU, after a run more, to this file.",
)
@json_option
def bench_command(
    directory: Path, validators: int, runs: int, seconds: float, profile: Path | None, as_json: bool
) -> None:
    """Measure how much a network on this machine decides, and at what cost. Takes about four minutes.

    Runs nodes of its own, in a folder bench inside of --dir; let nothing else run meanwhile.
    """
    say = Say(quiet=False)
    with record.changing(directory, new=True):
        if _runs(directory):
            say(f"a devnet runs in {directory} and takes its share of the machine; better: allting devnet down")
        plan = bench.Plan(
            validators=validators,
            runs=runs,
            seconds=seconds,
            latency_seconds=max(3.0, seconds * 0.75),
            empty_seconds=max(2.0, seconds * 0.5),
            profile=profile,
        )
        figures = bench.bench(_free_folder(directory / "bench"), plan, say)
    click.echo(json.dumps(figures, indent=1) if as_json else _table_of(figures))


@devnet.command("bench-join")
@directory_option
@click.option("--blocks", type=click.IntRange(10, 1_000_000), default=20_000, show_default=True, help="Of the chain.")
@click.option("--transfers", type=click.IntRange(0, 1_000), default=2, show_default=True, help="In each block.")
@click.option("--accounts", type=click.IntRange(2, 1_000_000), default=10_000, show_default=True, help="In the state.")
@click.option("--runs", type=click.IntRange(1, 25), default=3, show_default=True, help="Of each way.")
@json_option
def bench_join_command(directory: Path, blocks: int, transfers: int, accounts: int, runs: int, as_json: bool) -> None:
    """Measure how long a newcomer needs to join a long chain, by snapshot and by blocks; peers lie in every third run.

    Makes the chain first, in a folder bench-join inside of --dir; let nothing else run meanwhile.
    """
    from devnet import joins  # loads the whole node

    plan = joins.Plan(blocks=blocks, transfers=transfers, accounts=accounts, runs=runs)
    signal.signal(signal.SIGTERM, _interrupted)
    with record.changing(directory, new=True):
        figures = joins.bench(_free_folder(directory / "bench-join"), plan, Say(quiet=False))
    click.echo(json.dumps(figures, indent=1) if as_json else _table_of(figures))


def _interrupted(number: int, frame: FrameType | None) -> NoReturn:
    """A benchmark that is told to stop takes its nodes with it, as after Ctrl-C."""
    raise KeyboardInterrupt


def _runs(directory: Path) -> bool:
    try:
        return any(node.running() for node in record.load(directory).nodes)
    except NoDevnet:
        return False


def _free_folder(folder: Path) -> Path:
    """*folder*, with what an interrupted run may have left there stopped and deleted."""
    if folder.exists():
        with contextlib.suppress(NoDevnet):
            fleet.down(record.load(folder))
        shutil.rmtree(folder)
    return folder


def _table_of(figures: dict[str, Any]) -> str:
    """*figures* for people: one line each, inner tables left to --json."""
    lines = []
    for name, value in figures.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {inner}" for key, inner in value.items() if not isinstance(inner, dict))
        if not isinstance(value, list):
            lines.append(f"{name:>22}  {value}")
    return "\n".join(lines)
