"""Commands that do something to single nodes and links."""

from __future__ import annotations

import functools
import os
from contextlib import closing
from pathlib import Path

import click
import trio

from devnet import fleet, links, record
from devnet.cli.group import devnet, directory_option, json_option, report_stubborn, tell
from devnet.facts import wait_until_ready
from devnet.record import NoDevnet

number_argument = click.argument("number", type=click.IntRange(0))


def _numbers(context: click.Context, parameter: click.Parameter, value: str) -> list[int]:
    try:
        return list(dict.fromkeys(int(part) for part in value.split(",")))
    except ValueError:
        raise click.BadParameter(f"“{value}” is no list of node numbers such as 0,1") from None


def _groups(text: str) -> list[list[int]]:
    """``0,1/2,3`` as groups of numbers. Raises ValueError with a sentence."""
    if not set(text) <= set("0123456789,/") or not all(part for group in text.split("/") for part in group.split(",")):
        raise ValueError("these are no groups of node numbers")
    return [[int(number) for number in group.split(",")] for group in text.split("/")]


def _names(numbers: list[int]) -> str:
    return ", ".join(f"node{number}" for number in numbers)


def _done(what: str, numbers: list[int], ran: list[int]) -> str:
    """Which of *numbers* it was done to: those that *ran*. Raises NoDevnet if none did."""
    idle = [number for number in numbers if number not in ran]
    missing = f"{_names(idle)} did not run"
    if not ran:
        raise NoDevnet(missing)
    return f"{what} {_names(ran)}; {missing}" if idle else f"{what} {_names(ran)}"


numbers_argument = click.argument("numbers", callback=_numbers)


@devnet.command()
@directory_option
@numbers_argument
@json_option
def kill(directory: Path, numbers: list[int], as_json: bool) -> None:
    """Kill nodes without warning (SIGKILL), as a power cut would; several (0,1,2) in the same instant."""
    with record.changing(directory):
        net = record.load(directory)
        ran = [number for number in numbers if net.node(number).running()]
        net = fleet.kill_nodes(net, numbers)
    tell(net, _done("killed", numbers, ran), as_json=as_json)


@devnet.command()
@directory_option
@numbers_argument
@json_option
def stop(directory: Path, numbers: list[int], as_json: bool) -> None:
    """Stop nodes in good order (SIGTERM), one (1) or several (0,1), and wait until they are gone."""
    with record.changing(directory):
        net = record.load(directory)
        ran = [number for number in numbers if net.node(number).running()]
        net, stubborn = fleet.stop_nodes(net, numbers)
    report_stubborn(stubborn)
    tell(net, _done("stopped", numbers, ran), as_json=as_json)


@devnet.command()
@directory_option
@numbers_argument
@click.option(
    "--clock-offset-ms",
    type=click.IntRange(-86_400_000, 86_400_000),
    default=0,
    help="How far their clocks are ahead of this machine's (behind, if negative).",
)
@json_option
def start(directory: Path, numbers: list[int], clock_offset_ms: int, as_json: bool) -> None:
    """Start nodes again that were stopped or killed (1, or 0,1,2), and wait until they answer."""
    with record.changing(directory):
        net = fleet.start_links(record.load(directory))
        for number in numbers:
            net = fleet.start_node(net, number, clock_offset_ms=clock_offset_ms)
    trio.run(functools.partial(wait_until_ready, [net.node(number) for number in numbers], height=0))
    tell(net, f"started {_names(numbers)}", as_json=as_json)


@devnet.command()
@directory_option
@number_argument
@json_option
def pause(directory: Path, number: int, as_json: bool) -> None:
    """Make a node stand still (SIGSTOP), its connections open."""
    with record.changing(directory):
        net = fleet.pause_node(record.load(directory), number)
    tell(net, f"paused {_names([number])}; go on with: allting devnet resume {number}", as_json=as_json)


@devnet.command()
@directory_option
@number_argument
@json_option
def resume(directory: Path, number: int, as_json: bool) -> None:
    """Let a paused node go on (SIGCONT)."""
    with record.changing(directory):
        net = fleet.resume_node(record.load(directory), number)
    tell(net, f"resumed {_names([number])}", as_json=as_json)


@devnet.command()
@directory_option
@click.argument("groups")
@json_option
def split(directory: Path, groups: str, as_json: bool) -> None:
    """Let nodes talk only within their group: split 0,1/2,3. Needs up --faults."""
    net = record.load(directory)
    try:
        settings = links.cuts_for(_groups(groups), [node.number for node in net.nodes])
    except ValueError as error:
        raise click.BadParameter(f"“{groups}”: {error}; write it as 0,1/2,3") from None
    fleet.set_links(net, settings)
    tell(net, f"split {groups}, in place of any earlier split; mend it with: allting devnet heal", as_json=as_json)


@devnet.command()
@directory_option
@json_option
def heal(directory: Path, as_json: bool) -> None:
    """Make all links whole and fast again."""
    net = record.load(directory)
    fleet.set_links(net, links.healed([node.number for node in net.nodes]))
    tell(net, "all links are whole", as_json=as_json)


@devnet.command()
@directory_option
@click.option("--delay-ms", type=click.IntRange(0, 60_000), default=0, show_default=True, help="One way, each link.")
@click.option("--bytes-per-second", type=click.IntRange(0), default=0, help="Of each link; 0: no limit.")
@click.option("--node", "number", type=click.IntRange(0), default=None, help="Only links from and to this node.")
@json_option
def slow(directory: Path, delay_ms: int, bytes_per_second: int, number: int | None, as_json: bool) -> None:
    """Delay links and bound their speed. Needs up --faults; undone by heal."""
    net = record.load(directory)
    if number is not None:
        net.node(number)  # there is one
    names = links.healed([node.number for node in net.nodes])
    chosen = [name for name in names if number is None or str(number) in name.split(">")]
    fleet.set_links(net, {name: {"delay_ms": delay_ms, "bytes_per_second": bytes_per_second} for name in chosen})
    tell(net, f"{len(chosen)} links: {delay_ms} ms, {bytes_per_second or 'any number of'} bytes/s", as_json=as_json)


@devnet.command()
@directory_option
@number_argument
@click.option("-f", "--follow", is_flag=True, help="Go on as the node writes.")
@click.option("-n", "--lines", type=click.IntRange(0), default=50, show_default=True)
def logs(directory: Path, number: int, follow: bool, lines: int) -> None:
    """The last lines of a node's log (JSON lines)."""
    log = record.load(directory).node(number).log
    if lines:
        click.echo(fleet.tail(log, lines))
    if follow:
        trio.run(_follow, log)


async def _follow(log: Path) -> None:
    """What is written to *log* from now on, also after it was full and begun anew."""
    with closing(Growing(log)) as lines:
        while True:
            text = lines.news()
            if text:
                click.echo(text, nl=False)
            else:
                await trio.sleep(0.2)  # files tell nobody that they grew


class Growing:
    """A log that grows, and that a full one is renamed for."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._file = log.open("rb")
        self._file.seek(0, os.SEEK_END)

    def news(self) -> str:
        """What was written since the last look."""
        data = self._file.read()
        if not data and self._log.exists() and self._log.stat().st_ino != os.fstat(self._file.fileno()).st_ino:
            self._file.close()
            self._file = self._log.open("rb")
            data = self._file.read()
        return data.decode(errors="replace")

    def close(self) -> None:
        """No more news."""
        self._file.close()
