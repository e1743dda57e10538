"""Commands that start a devnet, show it, and stop it."""

from __future__ import annotations

import dataclasses
import functools
import json
import shutil
import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import click
import trio
from rich.console import Console

from devnet import fleet, homes, record, view
from devnet.cli.group import Say, devnet, directory_option, json_option, report_stubborn, tell
from devnet.facts import READY_HEIGHT, NodeFacts, all_facts, wait_until_ready
from devnet.fleet import StartFailed
from devnet.record import Devnet, NoDevnet
from devnet.waking import sleeps, wake


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
    with _stopping_on_signals():
        with record.changing(directory):
            made = _made(directory, plan, fresh=fresh, say=say)
            with _down_on_failure(directory, lock=nullcontext()):
                net = start_all(made)
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
        with lock:
            fleet.down(record.load(directory))
        raise


@contextmanager
def _stopping_on_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end the block as Ctrl-C does: with an exception."""
    before = {number: signal.signal(number, _exit) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _exit(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


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
    try:
        old = record.load(directory)
    except NoDevnet:
        if directory.exists() and set(directory.iterdir()) - {directory / ".lock", directory / "bench"}:
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
            _stop_all(net.directory)


def _stop_all(directory: Path) -> None:
    with suppress(OSError):  # the terminal may be gone
        click.echo("stopping all nodes …", err=True)
    with record.changing(directory):
        report_stubborn(fleet.down(record.load(directory)))


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
