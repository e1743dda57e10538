"""The command ``allting``: its groups and those that other packages add, each loaded when it is asked for."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import entry_points
from typing import NoReturn

import click

from node.cli.screen import FAILED, USER_MISTAKE, ListedGroup, Mistake, die

COMMANDS_GROUP = "allting.commands"

OWN = {
    **dict.fromkeys(("backup", "compact", "restore"), "care"),
    "debug": "debug",
    "export": "succession",
    **dict.fromkeys(("init", "invite", "join", "node", "start", "status", "stop"), "node_commands"),
    **dict.fromkeys(("validate-genesis", "version"), "node_commands"),
    "keys": "keys",
    "light": "light",
    "mempool": "mempool",
    "peers": "peers",
    "query": "queries",
    "tx": "transactions",
}
"""Our commands, and which module of this package has each; only that of the command that is asked for is loaded."""


class Groups(ListedGroup):
    """The top of the command; each command is imported only when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Our commands, and those that the entry points name."""
        return sorted({*OWN, *(point.name for point in entry_points(group=COMMANDS_GROUP))})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """One of them."""
        if cmd_name in OWN:
            commands: Sequence[click.Command] = import_module(f"node.cli.{OWN[cmd_name]}").COMMANDS
            return next(command for command in commands if command.name == cmd_name)
        for point in entry_points(group=COMMANDS_GROUP, name=cmd_name):
            found: click.Command = point.load()
            return found
        return None


@click.group(cls=Groups, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="allting", message="allting %(version)s")
def allting() -> None:
    """A town's own network: run a node, join with a link, act and ask."""


def run(given: Sequence[str]) -> NoReturn:
    """The command line, with the arguments *given*. Raises SystemExit, or what interrupted it."""
    as_json = "--json" in given
    if sys.flags.optimize:
        die(
            Mistake("Python runs with -O, which removes the checks that keep a node safe; run it without"),
            code="cli.optimized",
            exit_code=USER_MISTAKE,
            as_json=as_json,
        )
    try:
        context = allting.make_context("allting", list(given))
        context.meta["allting.arguments"] = list(given)
        with context:
            allting.invoke(context)
    except click.exceptions.Exit as stop:
        raise SystemExit(stop.exit_code) from None
    except click.Abort as stop:  # a prompt ended without an answer: Ctrl-C, or a program without a terminal
        if isinstance(stop.__context__, KeyboardInterrupt):
            raise stop.__context__ from None
        asked = Mistake("stopped before an answer was given; a program gives a password in ALLTING_PASSWORD, or --open")
        die(asked, code="cli.no_answer", exit_code=USER_MISTAKE, as_json=as_json)
    except click.ClickException as error:
        if not as_json:
            error.show()
            raise SystemExit(error.exit_code) from None
        die(Mistake(error.format_message()), code="cli.usage", exit_code=error.exit_code, as_json=True)
    except BrokenPipeError:  # the reader of our output went away
        sys.stderr.close()
        raise SystemExit(FAILED) from None
    except Exception as error:
        from node.cli import faults  # loads every part

        faults.say(error, as_json=as_json)
        raise
    raise SystemExit(0)
