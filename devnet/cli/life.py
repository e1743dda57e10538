"""Commands that start a devnet, show it, and stop it."""

from __future__ import annotations

import dataclasses
import functools
import json
import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import click
import trio
from click.core import ParameterSource
from rich.console import Console

from consensus.params import Params
from devnet import fleet, homes, processes, record, view
from devnet.cli.group import Say, devnet, directory_option, json_option, report_stubborn, tell
from devnet.facts import READY_HEIGHT, NodeFacts, all_facts, wait_until_ready
from devnet.fleet import StartFailed
from devnet.record import Devnet, NoDevnet
from devnet.waking import sleeps, wake
from node.genesis import GenesisFile

ENGINE = frozenset(field.name for field in dataclasses.fields(Params))
"""Names of the engine's parameters."""
STOPPING = "stopping all nodes …"
OURS = frozenset({".lock", "bench", "bench-join", "light.json"})
"""What may be in a folder that holds no devnet yet."""


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
            if rest not in ENGINE:
                raise click.BadParameter(f"the engine has no parameter {rest}; it has {', '.join(sorted(ENGINE))}")
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
    with _stopping_on_signals():
        if not (directory / ".lock").exists():
            _refuse_something_else(directory)  # before it gets a lock
        with record.changing(directory, new=True):
            made = _made(directory, plan, fresh=fresh, say=say)
            with _down_on_failure(directory, lock=nullcontext()):
                net = start_all(dataclasses.replace(made, watcher=None if detach else processes.own()))
        with _down_on_failure(directory, lock=record.changing(directory)):
            trio.run(_until_ready, net, say)
        if not detach:
            with _down_on_failure(directory, lock=record.changing(directory)):
                _introduce(net, as_json=as_json)
                trio.run(_watch_until_interrupted, net)
            return
    _introduce(net, as_json=as_json)


@contextmanager
def _down_on_failure(directory: Path, *, lock: AbstractContextManager[None]) -> Iterator[None]:
    """Whatever interrupts the block, Ctrl-C too: nothing half-started is left behind."""
    try:
        yield
    except BaseException:  # Ctrl-C and cancellation leave processes behind as a failure does; raised again below
        _tell_terminal(STOPPING)
        with lock:
            fleet.down(record.load(directory))
        raise


@contextmanager
def _stopping_on_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end the block as Ctrl-C does."""
    before = {number: signal.signal(number, _interrupted) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupted(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


async def _until_ready(net: Devnet, say: Say) -> None:
    try:
        async with trio.open_nursery() as nursery:
            if sleeps(net):
                nursery.start_soon(functools.partial(wake, net, height=READY_HEIGHT))
            await wait_until_ready(net.nodes, tell=say)
            nursery.cancel_scope.cancel()
    except* StartFailed as group:
        raise group.exceptions[0] from None


def _made(directory: Path, plan: homes.Plan, *, fresh: bool, say: Say) -> Devnet:
    """The devnet in *directory*, made by *plan* if there is none."""
    _refuse_something_else(directory)
    old = record.load(directory) if (directory / record.FILE).exists() else None
    if old is not None:
        if any(node.running() for node in old.nodes):
            raise NoDevnet(f"a devnet runs in {directory}; see: allting devnet status, stop it: allting devnet down")
        if not fresh:
            _refuse_other_options(old, plan)
            say(f"going on with the devnet in {directory}; its options stay (--fresh begins anew)")
            return old
    say(f"a new devnet in {directory}: {plan.validators} validators, {plan.preset}")
    made = homes.create(directory, plan, instead_of=old)
    record.save(made)
    return made


def _refuse_something_else(directory: Path) -> None:
    """Raises NoDevnet if there is something in *directory* that is no devnet's."""
    if (directory / record.FILE).exists() or not directory.exists():
        return
    if {path.name for path in directory.iterdir()} - OURS:
        raise NoDevnet(f"{directory} holds something else; choose another folder with --dir")


def _refuse_other_options(old: Devnet, plan: homes.Plan) -> None:
    """Raises NoDevnet if an option that was given asks for another devnet than *old*."""
    genesis = GenesisFile.load(Path(old.nodes[0].home) / "genesis.toml")
    wanted = {
        "validators": plan.validators != len(old.nodes),
        "preset": plan.preset != old.preset,
        "faults": plan.faults != (old.links is not None) and len(old.nodes) > 1,
        "accounts": plan.load_accounts != old.load_accounts,
    }
    given = click.get_current_context().get_parameter_source
    others = [f"--{name}" for name, differs in wanted.items() if differs and given(name) is not ParameterSource.DEFAULT]
    others += [f"--set engine.{name}" for name, value in plan.params.items() if getattr(genesis.params, name) != value]
    town = genesis.town.get("params", {})
    others += [f"--set {name}" for name, value in plan.town_params.items() if town.get(name) != value]
    if others:
        raise NoDevnet(
            f"the devnet in {old.directory} was made without {', '.join(others)}; leave it out to go on with that one, "
            "or say --fresh to delete it and begin anew"
        )


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


async def _watch_until_interrupted(net: Devnet) -> None:
    """The live view, until a signal comes or the terminal goes; then all nodes stop, whatever comes meanwhile."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_cancel_on_signal, signals, nursery.cancel_scope)
                await view.watch(net, Console())
                nursery.cancel_scope.cancel()
        except* OSError as group:
            raise group.exceptions[0] from None
        finally:  # a second signal is still received here, and interrupts nothing
            _stop_all(net)


def _stop_all(watched: Devnet) -> None:
    """All nodes of *watched* have stopped; those of a devnet that was started after it was taken down go on."""
    with suppress(NoDevnet), record.changing(watched.directory):  # or it was deleted meanwhile
        net = record.load(watched.directory)
        if net.watcher == watched.watcher:
            _tell_terminal(STOPPING)
            report_stubborn(fleet.down(net))
            return
    _tell_terminal("another command has stopped this devnet")


def _tell_terminal(text: str) -> None:
    with suppress(OSError):  # it may be gone
        click.echo(text, err=True)


async def _cancel_on_signal(signals: Any, scope: trio.CancelScope) -> None:
    async for _ in signals:
        scope.cancel()


@devnet.command()
@directory_option
@json_option
def status(directory: Path, as_json: bool) -> None:
    """What each node says of itself."""
    rows: list[NodeFacts] = trio.run(all_facts, record.load(directory).nodes)
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(row) for row in rows], indent=1))
    else:
        Console().print(view.table(rows))


@devnet.command()
@directory_option
@json_option
def down(directory: Path, as_json: bool) -> None:
    """Stop every process of the devnet; its chain stays for the next `up`."""
    with record.changing(directory):
        report_stubborn(fleet.down(record.load(directory)))
    tell(record.load(directory), "all nodes are stopped", as_json=as_json)
