"""Commands that do something to single nodes and links."""

from __future__ import annotations

from pathlib import Path

import click
import trio

from devnet import fleet, links, record
from devnet.cli.group import devnet, directory_option, report_stubborn

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
    report_stubborn([] if went else [net.node(number).name])


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
