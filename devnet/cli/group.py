"""The group ``allting devnet``, and what its commands share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from devnet.fleet import StartFailed
from devnet.follow import Disagreement
from devnet.http import Refusal, Unreachable
from devnet.processes import StillRunning
from devnet.record import FILE, Devnet, NoDevnet
from node.cli.screen import ListedGroup
from node.genesis import BadGenesis

F = TypeVar("F", bound=Callable[..., Any])

FAULTS: tuple[type[Exception], ...] = (
    NoDevnet,
    StartFailed,
    BadGenesis,
    StillRunning,
    Unreachable,
    Refusal,
    Disagreement,
    OSError,
)
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


@click.group(cls=ListedGroup)
def devnet() -> None:
    """Run a network of several nodes on this machine: start it, break it, load it, measure it."""


class Say:
    """Lines for people on standard error, unless quiet."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet

    def __call__(self, text: str) -> None:
        if not self._quiet:
            click.echo(text, err=True)


def report_stubborn(names: list[str]) -> None:
    if names:
        click.echo(f"had to be killed, SIGTERM did not end them in time: {', '.join(names)}", err=True)


def tell(net: Devnet, text: str, *, as_json: bool) -> None:
    """What a command did: *text* for people, or ``devnet.json`` for programs."""
    click.echo((net.directory / FILE).read_text().strip() if as_json else text)
