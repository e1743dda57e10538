"""The command ``allting``: its groups, those that other packages add, and one sentence for whatever goes wrong."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import entry_points
from typing import NoReturn

import click

from consensus.application import QueryRefused
from node.admin import AdminRefused, NotRunning
from node.applications import ApplicationMissing
from node.backup import BadBackup
from node.cli import care, debug, keys, light, mempool, node_commands, peers, queries, succession, transactions
from node.cli.screen import FAILED, USER_MISTAKE, ListedGroup, Mistake, SystemRefused, die
from node.client import RpcFailed, Unreachable
from node.disk import DiskFailed
from node.export import CannotExport
from node.invite import BadInvite
from node.keys import KeyFault
from node.light.faults import BadBeginning, BadSource, MemoryDamaged, NoRoot
from node.proofs import NotProved
from node.rpc.errors import RpcError
from node.signer_state import SignerStateDamaged
from node.store_environment import StoreFailed, StoreInUse
from node.toml import BadToml
from node.trust_root import BadTrustRoot

COMMANDS_GROUP = "allting.commands"

MISTAKES: dict[type[Exception], str] = {
    BadToml: "cli.bad_file",
    KeyFault: "cli.key",
    BadInvite: "cli.invite",
    ApplicationMissing: "cli.application_missing",
    NotRunning: "cli.not_running",
    BadTrustRoot: "cli.bad_file",
    BadBackup: "cli.bad_file",
    CannotExport: "cli.export",
    StoreInUse: "node.in_use",
    MemoryDamaged: "cli.bad_file",
    BadSource: "cli.bad_url",
    BadBeginning: "light.no_root",
}
"""Families whose texts are sentences for the user, with the code that --json gives; exit code 2."""
FAILURES: dict[type[Exception], str] = {
    Unreachable: "cli.unreachable",
    NotProved: "cli.not_proved",
    AdminRefused: "cli.refused",
    StoreFailed: "node.store",
    DiskFailed: "cli.disk",
    NoRoot: "light.no_root",
    SignerStateDamaged: "cli.signer_state",
}
"""The same where the fault lies elsewhere; exit code 1."""


class Groups(ListedGroup):
    """The top of the command; groups of other packages are imported only when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Our commands, and those that the entry points name."""
        return sorted({*self.commands, *(point.name for point in entry_points(group=COMMANDS_GROUP))})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """One of them."""
        own = self.commands.get(cmd_name)
        if own is not None:
            return own
        for point in entry_points(group=COMMANDS_GROUP, name=cmd_name):
            found: click.Command = point.load()
            return found
        return None


@click.group(cls=Groups, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="allting", message="allting %(version)s")
def allting() -> None:
    """A town's own network: run a node, join with a link, act and ask."""


_OWN = (
    *node_commands.COMMANDS,
    *care.COMMANDS,
    *succession.COMMANDS,
    *debug.COMMANDS,
    peers.peers,
    mempool.mempool,
    keys.keys,
    light.light,
    transactions.tx,
    queries.query,
)
for _command in _OWN:
    allting.add_command(_command)


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
        _say(error, as_json=as_json)
        raise
    raise SystemExit(0)


def _say(error: Exception, *, as_json: bool) -> None:
    """Ends the process with a sentence, if *error* is of a family whose text is one; else returns: it is a defect."""
    if isinstance(error, Mistake):
        die(error, code=error.code, exit_code=error.exit_code, as_json=as_json)
    if isinstance(error, QueryRefused):
        die(error, code=error.code, exit_code=USER_MISTAKE, as_json=as_json)
    if isinstance(error, RpcError):  # the light client could not begin
        die(error, code=error.code, exit_code=FAILED, as_json=as_json)
    if isinstance(error, RpcFailed):
        code = USER_MISTAKE if error.number == -32602 or error.code.startswith("query.") else FAILED
        die(error, code=error.code, exit_code=code, as_json=as_json)
    for families, exit_code in ((MISTAKES, USER_MISTAKE), (FAILURES, FAILED)):
        for family, name in families.items():
            if isinstance(error, family):
                die(error, code=name, exit_code=exit_code, as_json=as_json)
    if isinstance(error, OSError) and error.errno is not None:
        die(SystemRefused(error), code="cli.system", exit_code=USER_MISTAKE, as_json=as_json)
