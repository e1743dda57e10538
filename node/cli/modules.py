"""Groups of commands: one subgroup for each module of the application, one command for each thing that it declares."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from node.cli.declared import Declared
from node.cli.place import HOME_VARIABLE, Place, default_home

Make = Callable[[str, str, Mapping[str, Any], Declared], click.Command]
"""A command for (module, name, declaration, arguments)."""


class Modules(click.Group):
    """``allting tx`` and ``allting query``: what the application of the home's chain declares, read when needed."""

    def __init__(self, *, kind: str, make: Make, **options: Any) -> None:
        """*kind* is ``messages`` or ``queries``."""
        super().__init__(**options)
        self._kind = kind
        self._make = make

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The modules that declare something of this kind, and commands of our own."""
        modules = [name for name, module in _modules(ctx).items() if module[self._kind]]
        return sorted([*modules, *self.commands])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The group of a module."""
        if cmd_name in self.commands:
            return self.commands[cmd_name]
        module = _modules(ctx).get(cmd_name)
        if module is None or not module[self._kind]:
            return None
        group = click.Group(cmd_name, help=module["text"], short_help=_first(module["text"]))
        for name, declaration in module[self._kind].items():
            group.add_command(self._make(cmd_name, name, declaration, Declared(declaration["args"])))
        return group


def help_text(declaration: Mapping[str, Any]) -> str:
    """What a command's --help says."""
    text = str(declaration["text"])
    if declaration.get("authority"):
        text += f" Only the authority of {declaration['authority']} can do this: propose it."
    return text


def summary(declaration: Mapping[str, Any]) -> str:
    """What the list of a module's commands says of one."""
    return _first(str(declaration["text"]))


def _modules(context: click.Context) -> Mapping[str, Mapping[str, Any]]:
    found: Mapping[str, Mapping[str, Any]] | None = context.meta.get("allting.modules")
    if found is None:
        found = Place(_home(context), None).application().describe()["modules"]
        context.meta["allting.modules"] = found
    return found


def _home(context: click.Context) -> Path:
    """The home whose application counts: --home may stand anywhere after, and is not parsed yet."""
    arguments = list(context.meta.get("allting.arguments", ()))
    for at, argument in enumerate(arguments):
        if argument == "--home" and at + 1 < len(arguments):
            return Path(arguments[at + 1]).expanduser().resolve()
        if argument.startswith("--home="):
            return Path(argument.removeprefix("--home=")).expanduser().resolve()
    given = os.environ.get(HOME_VARIABLE)
    return (Path(given) if given else default_home()).expanduser().resolve()


def _first(text: str) -> str:
    return text.split("\n")[0]
