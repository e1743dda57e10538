"""``allting devnet``: a whole network on one machine, to look at, to break, and to measure."""

from __future__ import annotations

import dataclasses
import functools
import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import trio
from rich.console import Console

from devnet import fleet, homes, links, record, view
from devnet.facts import NodeFacts, all_facts, wait_until_ready
from devnet.processes import StillRunning
from devnet.record import Devnet, NoDevnet
from node.genesis import BadGenesis

F = TypeVar("F", bound=Callable[..., Any])

FAULTS: tuple[type[Exception], ...] = (NoDevnet, fleet.StartFailed, BadGenesis, StillRunning, OSError)
"""What a command says in one sentence instead of a traceback."""


def directory_option(command: F) -> F:
    """Adds ``--dir``, and turns `FAULTS` into messages with exit code 1."""

    @functools.wraps(command)
    def wrapped(directory: Path, **options: Any) -> Any:
        try:
            return command(directory=directory.resolve(), **options)
        except FAULTS as error:
            raise click.ClickException(str(error)) from error

    option = click.option(
        "--dir",
        "directory",
        type=click.Path(path_type=Path, file_okay=False),
        default=".devnet",
        envvar="ALLTING_DEVNET",
        show_default=True,
        help="Where the devnet lives.",
    )
    return option(wrapped)  # type: ignore[return-value]  # click returns what it was given


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def devnet() -> None:
    """Run a network of several nodes on this machine: start it, break it, load it, measure it."""


def _settings(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[dict[str, int], dict[str, Any]]:
    """``--set`` options as (engine parameters, module parameters)."""
    engine: dict[str, int] = {}
    town: dict[str, Any] = {}
    for text in values:
        name, equals, value = text.partition("=")
        module, dot, rest = name.partition(".")
        if not (equals and dot and module and rest):
            raise click.BadParameter(f"“{text}” is not module.param=value, such as governance.voting_period_ms=5000")
        known: Any = int(value) if value.lstrip("-").isdigit() else {"true": True, "false": False}.get(value, value)
        if module == "engine":
            engine[rest] = known
        else:
            town[name] = known
    return engine, town


@devnet.command()
@directory_option
@click.option("--validators", type=click.IntRange(1, homes.VALIDATORS_MAX), default=4, show_default=True)
@click.option("--preset", type=click.Choice(["TINY", "CITY"]), default="TINY", show_default=True)
@click.option("--detach", is_flag=True, help="Give the shell back once all nodes are ready.")
@click.option("--faults", is_flag=True, help="Run each link through a proxy that can be cut, delayed and slowed.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    callback=_settings,
    metavar="MODULE.PARAM=VALUE",
    help="A parameter in the genesis; engine.NAME=VALUE for the engine's own. May be repeated.",
)
@click.option("--accounts", type=click.IntRange(0, 100_000), default=1_000, show_default=True, help="Funded for load.")
@click.option("--fresh", is_flag=True, help="Forget a devnet that stands in the folder.")
@json_option
def up(
    directory: Path,
    validators: int,
    preset: str,
    detach: bool,
    faults: bool,
    settings: tuple[dict[str, int], dict[str, Any]],
    accounts: int,
    fresh: bool,
    as_json: bool,
) -> None:
    """Start a network, or go on with the one in the folder; ready when every node is at height 3."""
    engine, town = settings
    plan = homes.Plan(
        validators=validators,
        preset=preset,
        faults=faults,
        load_accounts=accounts,
        params=engine,
        town_params=town,
    )
    say = Say(quiet=as_json)
    with record.changing(directory):
        net = start_all(_made(directory, plan, fresh=fresh, say=say))
    try:
        trio.run(functools.partial(wait_until_ready, net, tell=say))
    except BaseException:  # also Ctrl-C: nothing half-started is left behind
        with record.changing(directory):
            fleet.down(record.load(directory))
        raise
    _introduce(net, as_json=as_json)
    if not detach:
        _watch_until_interrupted(directory)


class Say:
    """Lines for people on standard error, unless quiet."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet

    def __call__(self, text: str) -> None:
        if not self._quiet:
            click.echo(text, err=True)


def _made(directory: Path, plan: homes.Plan, *, fresh: bool, say: Say) -> Devnet:
    """The devnet in *directory*, made by *plan* if there is none."""
    try:
        old = record.load(directory)
    except NoDevnet:
        if directory.exists() and set(directory.iterdir()) - {directory / ".lock"}:
            raise NoDevnet(f"{directory} holds something else; choose another folder with --dir") from None
    else:
        if any(node.running() for node in old.nodes):
            raise NoDevnet(f"a devnet runs in {directory}; see: allting devnet status, stop it: allting devnet down")
        if not fresh:
            say(f"going on with the devnet in {directory}; its options stay (--fresh begins anew)")
            return old
        forget(directory)
    say(f"a new devnet in {directory}: {plan.validators} validators, {plan.preset}")
    made = homes.create(directory, plan)
    record.save(made)
    return made


def forget(directory: Path) -> None:
    """Everything of the devnet in *directory* is deleted, but nothing else."""
    old = record.load(directory)
    for node in old.nodes:
        shutil.rmtree(node.home, ignore_errors=True)
    shutil.rmtree(directory / "keys", ignore_errors=True)
    (directory / "links.log").unlink(missing_ok=True)
    (directory / record.FILE).unlink()


def start_all(net: Devnet) -> Devnet:
    """Every node that does not run has been started."""
    net = fleet.start_links(net)
    for node in net.nodes:
        if not node.running():
            net = fleet.start_node(net, node.number)
    return net


def _introduce(net: Devnet, *, as_json: bool) -> None:
    if as_json:
        click.echo((net.directory / record.FILE).read_text().strip())
        return
    for node in net.nodes:
        pid = node.process.pid if node.process else "–"
        click.echo(f"{node.name}  RPC {node.rpc}  p2p {node.p2p}  pid {pid}")
    click.echo(f"keys in {net.directory / 'keys' / 'accounts'}: {', '.join(net.keys)}")


def _watch_until_interrupted(directory: Path) -> None:
    """The live view, until Ctrl-C or SIGTERM; then all nodes stop."""
    console = Console()
    try:
        trio.run(_watch, record.load(directory), console)
    finally:
        click.echo("stopping all nodes …", err=True)
        with record.changing(directory):
            _report_stubborn(fleet.down(record.load(directory)))


async def _watch(net: Devnet, console: Console) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_on_signal, signals, nursery.cancel_scope)
            await view.watch(net, console)
            nursery.cancel_scope.cancel()


async def _cancel_on_signal(signals: Any, scope: trio.CancelScope) -> None:
    async for _ in signals:
        scope.cancel()


def _report_stubborn(names: list[str]) -> None:
    if names:
        click.echo(f"had to be killed, SIGTERM did not end them in time: {', '.join(names)}", err=True)


@devnet.command()
@directory_option
@json_option
def status(directory: Path, as_json: bool) -> None:
    """What each node says of itself."""
    rows: list[NodeFacts] = trio.run(all_facts, record.load(directory))
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(row) for row in rows], indent=1))
    else:
        Console().print(view.table(rows))


@devnet.command()
@directory_option
def down(directory: Path) -> None:
    """Stop every process of the devnet; its chain stays for the next `up`."""
    with record.changing(directory):
        _report_stubborn(fleet.down(record.load(directory)))


number_argument = click.argument("number", type=click.IntRange(0))


def _numbers(context: click.Context, parameter: click.Parameter, value: str) -> list[int]:
    try:
        return [int(part) for part in value.split(",")]
    except ValueError:
        raise click.BadParameter(f"“{value}” is no list of node numbers such as 0,1") from None


@devnet.command()
@directory_option
@click.argument("numbers", callback=_numbers)
def kill(directory: Path, numbers: list[int]) -> None:
    """Kill nodes without warning (SIGKILL), as a power cut would; several (0,1,2) in the same instant."""
    with record.changing(directory):
        fleet.kill_nodes(record.load(directory), numbers)


@devnet.command()
@directory_option
@number_argument
def stop(directory: Path, number: int) -> None:
    """Stop a node in good order (SIGTERM) and wait until it is gone."""
    with record.changing(directory):
        net, went = fleet.stop_node(record.load(directory), number)
    _report_stubborn([] if went else [net.node(number).name])


@devnet.command()
@directory_option
@click.argument("numbers", callback=_numbers)
def start(directory: Path, numbers: list[int]) -> None:
    """Start nodes again that were stopped or killed."""
    with record.changing(directory):
        net = fleet.start_links(record.load(directory))
        for number in numbers:
            net = fleet.start_node(net, number)


@devnet.command()
@directory_option
@number_argument
def pause(directory: Path, number: int) -> None:
    """Make a node stand still (SIGSTOP), its connections open."""
    with record.changing(directory):
        fleet.pause_node(record.load(directory), number)


@devnet.command()
@directory_option
@number_argument
def resume(directory: Path, number: int) -> None:
    """Let a paused node go on (SIGCONT)."""
    with record.changing(directory):
        fleet.resume_node(record.load(directory), number)


@devnet.command()
@directory_option
@click.argument("groups")
def split(directory: Path, groups: str) -> None:
    """Let nodes talk only within their group: split 0,1/2,3. Needs up --faults."""
    net = record.load(directory)
    try:
        parts = [[int(number) for number in group.split(",")] for group in groups.split("/")]
        settings = links.cuts_for(parts, [node.number for node in net.nodes])
    except ValueError as error:
        raise click.BadParameter(f"“{groups}”: {error}; write it as 0,1/2,3") from None
    fleet.set_links(net, settings)


@devnet.command()
@directory_option
def heal(directory: Path) -> None:
    """Make all links whole and fast again."""
    net = record.load(directory)
    fleet.set_links(net, links.healed([node.number for node in net.nodes]))


@devnet.command()
@directory_option
@click.option("--delay-ms", type=click.IntRange(0, 60_000), default=0, show_default=True, help="One way, each link.")
@click.option("--bytes-per-second", type=click.IntRange(0), default=0, help="Of each link; 0: no limit.")
@click.option("--node", "number", type=click.IntRange(0), default=None, help="Only links from and to this node.")
def slow(directory: Path, delay_ms: int, bytes_per_second: int, number: int | None) -> None:
    """Delay links and bound their speed. Needs up --faults; undone by heal."""
    net = record.load(directory)
    names = links.healed([node.number for node in net.nodes])
    chosen = [name for name in names if number is None or str(number) in name.split(">")]
    fleet.set_links(net, {name: {"delay_ms": delay_ms, "bytes_per_second": bytes_per_second} for name in chosen})


@devnet.command()
@directory_option
@number_argument
@click.option("-f", "--follow", is_flag=True, help="Go on as the node writes.")
@click.option("-n", "--lines", type=click.IntRange(0), default=50, show_default=True)
def logs(directory: Path, number: int, follow: bool, lines: int) -> None:
    """The last lines of a node's log (JSON lines)."""
    log = record.load(directory).node(number).log
    click.echo(fleet.tail(log, lines))
    if follow:
        trio.run(_follow, log)


async def _follow(log: Path) -> None:
    with log.open("rb") as file:
        file.seek(0, 2)
        while True:
            text = file.read().decode(errors="replace")
            if text:
                click.echo(text, nl=False)
            else:
                await trio.sleep(0.2)


if __name__ == "__main__":
    devnet()
