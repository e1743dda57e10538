"""``allting keys``: the keys of accounts, in files of this home."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import click

from consensus.address import to_text
from node.cli.place import PASSWORD_VARIABLE, Place, ask_password, home_option, new_account_path, unlock
from node.cli.screen import Mistake, Screen, json_option
from node.keys import BadKeyFile, KeyFile, new_seed, words_of

open_option = click.option("--open", "is_open", is_flag=True, help="Don't protect the file with a password.")


@click.group()
def keys() -> None:
    """Make, recover, list and move the keys of accounts."""


@keys.command()
@click.argument("name")
@open_option
@json_option
@home_option
def new(name: str, is_open: bool, place: Place, screen: Screen) -> None:
    """Make a key for the account NAME, and show its 24 words once."""
    path = new_account_path(place, name)
    seed = new_seed()
    key = KeyFile.create("account", seed=seed, password=_new_password(is_open))
    key.write(path)
    words = words_of(seed)
    screen.show(
        {**_shown(name, key), "words": words},
        [
            f"{name}: {to_text(key.address)}",
            "",
            "Write these 24 words down, in order, on paper. They are the only way to recover the key:",
            "",
            *_numbered(words),
        ],
    )


@keys.command()
@click.argument("name")
@click.option("--words", help="The 24 words; asked for if absent (safer: they stay out of the shell's history).")
@open_option
@json_option
@home_option
def recover(name: str, words: str | None, is_open: bool, place: Place, screen: Screen) -> None:
    """Bring back a key as account NAME from its 24 words."""
    path = new_account_path(place, name)
    key = KeyFile.recover("account", _spoken() if words is None else words, password=_new_password(is_open))
    key.write(path)
    screen.show(_shown(name, key), [f"{name}: {to_text(key.address)}"])


@keys.command("list")
@json_option
@home_option
def list_(place: Place, screen: Screen) -> None:
    """List the accounts of this home."""
    found = {name: KeyFile.load(path, kind="account") for name, path in place.account_names().items()}
    lines = [
        f"{name:<16} {to_text(key.address)}{'  (password)' if key.is_sealed else ''}" for name, key in found.items()
    ]
    screen.show(
        [_shown(name, key) for name, key in found.items()],
        lines or ["no accounts yet; make one: allting keys new NAME"],
    )


@keys.command()
@click.argument("name")
@click.option("--words", "with_words", is_flag=True, help="Show the 24 words too. Whoever sees them has the key.")
@json_option
@home_option
def show(name: str, with_words: bool, place: Place, screen: Screen) -> None:
    """Show the address and public key of the account NAME."""
    key = place.account(name)
    shown: dict[str, Any] = _shown(name, key)
    if with_words:
        shown["words"] = words_of(unlock(key))
    screen.show(shown, [f"{field}: {value}" for field, value in shown.items()])


@keys.command("export")
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@json_option
@home_option
def export(name: str, file: Path, place: Place, screen: Screen) -> None:
    """Copy the key file of the account NAME to FILE, as it is: with its password, if it has one."""
    place.account(name).write(file)
    screen.show({"name": name, "file": str(file)}, [f"{name} copied to {file}; keep it as safe as money"])


@keys.command("import")
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@json_option
@home_option
def import_(name: str, file: Path, place: Place, screen: Screen) -> None:
    """Copy the key file FILE into this home as the account NAME."""
    path = new_account_path(place, name)
    try:
        key = KeyFile.load(file, kind="account")
    except OSError as error:
        raise BadKeyFile(f"{file} can't be read: {error.strerror}") from error
    key.write(path)
    screen.show(_shown(name, key), [f"{name}: {to_text(key.address)}"])


@keys.command("unlock")
@click.option(
    "--accept-double-sign-risk",
    "at_risk",
    is_flag=True,
    help="Sign at once. For a chain that stands still without this key; what it signed before may be contradicted.",
)
@json_option
@home_option
def unlock_(at_risk: bool, place: Place, screen: Screen) -> None:
    """Let this home's validator key sign again, after its last-sign state was lost, damaged or locked.

    Only once no other machine has the key. The node then waits, signing nothing, for a block that is proposed from now
    on and decided without it. The node must be stopped meanwhile.
    """
    from node.cli.unlocking import unlock_validator  # the store is loaded only by those who need it

    height = unlock_validator(place.home, now_ms=time.time_ns() // 1_000_000, at_risk=at_risk)
    if at_risk:
        lines = [f"The validator key signs from height {height} on. If another machine has it, stop that one now."]
    else:
        lines = [
            "The validator key signs again once a block that is proposed from now on is decided without it.",
            "Where the chain stands still without it: allting keys unlock --accept-double-sign-risk",
        ]
    screen.show({"height": height, "at_once": at_risk}, [*lines, f"Next: allting start --home {place.path}"])


def _spoken() -> str:
    """The words that were typed, or that stand on standard input."""
    try:
        typed: str = click.prompt("The 24 words", err=True)
    except click.Abort as stop:
        if isinstance(stop.__context__, EOFError):
            raise Mistake("the 24 words are needed: type them, or give them with --words") from None
        raise
    return typed


def _new_password(is_open: bool) -> str | None:
    if is_open:
        return None
    given = os.environ.get(PASSWORD_VARIABLE)
    if given is None:
        if not sys.stdin.isatty():
            raise Mistake(f"a password is needed for the new key: set {PASSWORD_VARIABLE}, or say --open for none")
        given = ask_password("Password for the new key", twice=True)
    if not given:
        raise Mistake("an empty password protects nothing; choose one, or say --open")
    return given


def _shown(name: str, key: KeyFile) -> dict[str, Any]:
    return {
        "name": name,
        "address": to_text(key.address),
        "public_key": key.public_key.hex(),
        "password": key.is_sealed,
    }


def _numbered(words: str) -> list[str]:
    split = words.split()
    return [
        "  ".join(f"{place + 1:>2}. {split[place]:<10}" for place in range(start, start + 6))
        for start in range(0, 24, 6)
    ]


COMMANDS = (keys,)
