"""Which home and which node a command is about: options, environment, and what lies in the folder."""

from __future__ import annotations

import functools
import json
import os
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import click

from consensus.address import BadAddress, from_text
from consensus.application import Application
from node.applications import GROUP, application_for
from node.cli.screen import Mistake
from node.client import Client
from node.config import Config, split_host_port
from node.genesis import GenesisFile
from node.home import Home
from node.keys import KeyFile, PasswordNeeded

F = TypeVar("F", bound=Callable[..., Any])
DEFAULT_HOME = "~/.allting"
HOME_VARIABLE = "ALLTING_HOME"
DEFAULT_APPLICATION = "town"
DEVNET_FILE = "devnet.json"
DIAL_SECONDS = 0.5
OPERATOR = "operator"
"""What init calls the account of a new chain's first person."""
VOUCHER = "voucher"
"""The account name under which a join keeps the key that pays first fees."""
PASSWORD_VARIABLE = "ALLTING_PASSWORD"
NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_-")


@dataclass(frozen=True, slots=True)
class Place:
    """A home on this machine and the node to talk to."""

    path: Path
    node: str | None
    """URL given on the command line."""

    @property
    def home(self) -> Home:
        """What lies where."""
        return Home(self.path)

    @property
    def url(self) -> str:
        """The node's RPC: as given, else that of the home, else of the first node of a devnet here that listens."""
        if self.node is not None:
            return self.node
        if self.home.config.exists():
            host, port = split_host_port(Config.load(self.home.config).rpc.listen)
            shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host
            return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"
        devnet = self.path / DEVNET_FILE
        if devnet.exists():
            urls = [str(node["rpc"]) for node in json.loads(devnet.read_bytes())["nodes"]]
            return next((url for url in urls if _listens(url)), urls[0])
        raise Mistake(f"there is no node in {self.path}: go to a node's folder, or name it with --home, or --node URL")

    def require_node(self) -> None:
        """Raises Mistake unless a node lives in the home; where a devnet stands there, it names one of its nodes."""
        if self.home.config.exists():
            return
        if (self.path / DEVNET_FILE).exists():
            raise Mistake(
                f"{self.path} is a devnet, and each of its nodes has a home: say --home {self.path / 'node0'}"
            )
        raise Mistake(f"there is no node in {self.path}: go to a node's folder, or name it with --home")

    def admin(
        self, command: str, *, progress: Callable[[int, int], None] = lambda done, total: None, **arguments: Any
    ) -> Any:
        """What the node that runs in this home answers to *command*. Raises Mistake, NotRunning, AdminRefused."""
        from node import admin  # loads the node

        try:
            return admin.call(self.path, command, progress=progress, **arguments)
        except admin.NotRunning:
            self.require_node()  # where none could run, to start one is no advice
            raise

    def client(self) -> Client:
        """A client of that node, closed when the command ends."""
        client = Client(self.url)
        click.get_current_context().call_on_close(client.close)
        return client

    @property
    def genesis_path(self) -> Path | None:
        """The genesis file of the home, or of the devnet in the folder; None if neither is there."""
        for path in (self.home.genesis, self.path / "node0" / "genesis.toml"):
            if path.exists():
                return path
        return None

    def application(self) -> Application:
        """The application of the home's chain, else the one that is installed under the usual name."""
        path = self.genesis_path
        if path is not None:
            return application_for(GenesisFile.load(path))
        for point in entry_points(group=GROUP):
            if point.name == DEFAULT_APPLICATION:
                application: Application = point.load()()
                return application
        raise Mistake(f"no application named {DEFAULT_APPLICATION} is installed (entry-point group {GROUP})")

    @property
    def accounts(self) -> Path:
        """Where new account keys go."""
        return self.path / "keys" / "accounts"

    def account_names(self) -> dict[str, Path]:
        """The accounts that can be used from here, by name; those of a devnet serve all of its nodes."""
        folders = [self.accounts]
        if (self.path.parent / DEVNET_FILE).exists():
            folders.append(self.path.parent / "keys" / "accounts")
        found: dict[str, Path] = {}
        for folder in folders:
            for path in sorted(folder.glob("*.json")) if folder.is_dir() else []:
                found.setdefault(path.stem, path)
        return found

    def account(self, name: str) -> KeyFile:
        """The key of account *name*. Raises Mistake naming those that there are."""
        found = self.account_names()
        if name not in found:
            if name == VOUCHER:
                raise Mistake(
                    f"{self.path} has no voucher: only a home that joined with an invite that brought one has"
                )
            known = f"there are {', '.join(sorted(found))}" if found else f"{self._nobody()}: allting keys new NAME"
            raise Mistake(f"there is no account {name!r} in {self.accounts}; {known}")
        return KeyFile.load(found[name], kind="account")

    def only_account(self) -> str:
        """The account to use where none was named: that of init, the only one, or a devnet's first."""
        found = sorted(self.account_names())
        if OPERATOR in found:
            return OPERATOR
        if len(found) == 1 or (found and (self.path.parent / DEVNET_FILE).exists()):
            return found[0]
        raise Mistake(
            f"say who pays with --from NAME ({', '.join(found)})"
            if found
            else "make an account first: allting keys new NAME"
        )

    def public_key(self, name: str) -> bytes | None:
        """The public key of this home's ``validator`` or ``node``, or of the account with this name; None otherwise."""
        own = {"validator": self.home.validator_key, "node": self.home.node_key}
        if name in own and own[name].exists():
            return KeyFile.load(own[name], kind=name).public_key
        return self.account(name).public_key if name in self.account_names() else None

    def address(self, text: str) -> bytes:
        """The address that *text* is, or that of the account with this name. Raises Mistake."""
        try:
            return from_text(text)
        except BadAddress as error:
            if text in self.account_names():
                return self.account(text).address
            here = "" if self.account_names() else f"; {self._nobody()}"
            raise Mistake(f"{text!r} is neither an account here nor an address: {error}{here}") from None

    def _nobody(self) -> str:
        """What to do where this home has no accounts, which may be because it is not the one that was meant."""
        return (
            "make one with" if self.home.config.exists() else f"{self.path} is no home: name one with --home, or make"
        )


def _listens(url: str) -> bool:
    """Whether something accepts connections at *url* of this machine."""
    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname or "", parts.port or 80), timeout=DIAL_SECONDS).close()
    except OSError:
        return False
    return True


def new_account_path(place: Place, name: str) -> Path:
    """Where the key of a new account *name* goes. Raises Mistake for a name that is no file name."""
    if not name or not set(name) <= NAME_CHARACTERS:
        raise Mistake(f"{name!r} can't be the name of an account: use a-z, 0-9, - and _")
    path = place.accounts / f"{name}.json"
    if path.exists():
        raise Mistake(f"there is an account {name!r} already; choose another name")
    return path


def unlock(key: KeyFile) -> bytes:
    """The seed of *key*; asks for its password if it has one and ALLTING_PASSWORD doesn't give it."""
    try:
        return key.unlock(os.environ.get(PASSWORD_VARIABLE))
    except PasswordNeeded:
        return key.unlock(ask_password(f"Password of {key.source}"))


def ask_password(question: str, *, twice: bool = False) -> str:
    """What the person at the terminal types, unseen. Raises Mistake where there is no terminal."""
    if not sys.stdin.isatty():
        raise Mistake(f"a password is needed, and there is no terminal to type it: set {PASSWORD_VARIABLE}")
    typed: str = click.prompt(question, hide_input=True, confirmation_prompt=twice, err=True)
    return typed


def default_home(*, new: bool = False) -> Path:
    """Which home is meant where none is given: this folder if a node lives in it, else ~/.allting.

    *new*: a home is to be made, for which an empty folder is meant too.
    """
    here = Path.cwd()
    own = Home(here)
    if own.config.exists() and own.node_key.exists():  # other programs have a config.toml as well
        return here
    if new and next(here.iterdir(), None) is None:
        return here
    return Path(DEFAULT_HOME)


def home_option(command: F) -> F:
    """Gives a command ``--home``; it receives a `Place` as *place*."""
    return _with_place(command, _home_parameter("if a node lives in it"), new=False)


def new_home_option(command: F) -> F:
    """The same for a command that makes a home, for which an empty folder is meant too."""
    return _with_place(command, _home_parameter("if it is empty or a node lives in it"), new=True)


def place_options(command: F) -> F:
    """Gives a command ``--home`` and ``--node``; it receives a `Place` as *place*."""
    decorated: F = node_parameter(home_option(command))
    return decorated


def _with_place(command: F, home_parameter: Callable[[F], F], *, new: bool) -> F:
    @functools.wraps(command)
    def wrapped(*args: Any, home: Path | None, node: str | None = None, **options: Any) -> Any:
        path = default_home(new=new) if home is None else home
        return command(*args, place=Place(path.expanduser().resolve(), node), **options)

    return home_parameter(wrapped)  # type: ignore[arg-type]  # click's own type


def _home_parameter(when_here: str) -> Callable[[F], F]:
    return click.option(
        "--home",
        type=click.Path(path_type=Path, file_okay=False),
        envvar=HOME_VARIABLE,
        show_envvar=True,
        help=f"The folder of the node, with its keys; without it this folder {when_here}, else {DEFAULT_HOME}.",
    )


node_parameter = click.option(
    "--node", metavar="URL", envvar="ALLTING_NODE", help="The node to talk to; without it the one in --home."
)
