"""What a command shows: lines for people, or one JSON value; and how it says what went wrong."""

from __future__ import annotations

import errno
import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

SENTENCE_MAX = 200
"""Characters of what --help says of one command in a list."""
USER_MISTAKE = 2
FAILED = 1


class Mistake(Exception):
    """The command can't do what was asked; the text is one sentence that says what to do. Exit code 2."""

    exit_code = USER_MISTAKE

    def __init__(self, text: str, *, code: str = "cli.mistake") -> None:
        super().__init__(text)
        self.code = code


class SystemRefused(Mistake):
    """The operating system refused a file or a port; the text says which, and why."""

    def __init__(self, error: OSError) -> None:
        where = f"{error.filename}: " if error.filename else ""
        name = errno.errorcode.get(error.errno or 0, error.errno)
        super().__init__(f"{where}{error.strerror} ({name})", code="cli.system")


class Failed(Mistake):
    """The request was sound, and was refused or could not be carried out elsewhere. Exit code 1."""

    exit_code = FAILED


@dataclass(frozen=True, slots=True)
class Screen:
    """Where a command's answer goes."""

    as_json: bool

    def show(self, value: Any, lines: Iterable[str]) -> None:
        """The answer: *value* as JSON if that was asked for, else *lines*."""
        if self.as_json:
            click.echo(json.dumps(value, indent=2, ensure_ascii=False))
            return
        for line in lines:
            click.echo(line)

    def progress(self, text: str) -> None:
        """A step of long work, on standard error; people see it, programs don't."""
        if not self.as_json:
            click.echo(text, err=True)

    def steps(self, text: str) -> Callable[[int, int], None]:
        """A counter of long work that stays on one line of a terminal: call it with (done, total)."""
        if self.as_json or not sys.stderr.isatty():
            return lambda done, total: None

        def step(done: int, total: int) -> None:
            click.echo(f"\r{text} {done}/{total}", err=True, nl=done >= total)

        return step


class ListedGroup(click.Group):
    """A group whose --help lists each command with its whole first sentence, on as many lines as that takes."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list."""
        named = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl([(name, each.get_short_help_str(SENTENCE_MAX)) for name, each in named if each])


def json_option(command: F) -> F:
    """Gives a command ``--json``; it receives a `Screen` as *screen*."""

    def convert(context: click.Context, parameter: click.Parameter, value: bool) -> Screen:
        return Screen(value)

    option = click.option(
        "--json", "screen", is_flag=True, expose_value=True, callback=convert, help="Print one JSON value."
    )
    return option(command)


def die(error: Exception, *, code: str, exit_code: int, as_json: bool) -> NoReturn:
    """Says *error* in one sentence (or as JSON) and ends the process."""
    text = str(error) or type(error).__name__
    if as_json:
        click.echo(json.dumps({"error": {"code": code, "message": text}}, ensure_ascii=False))
    else:
        click.echo(f"Error: {text}", err=True)
    raise SystemExit(exit_code)


def table(value: Any, indent: str = "") -> list[str]:
    """JSON-ready *value* as indented lines for people."""
    if isinstance(value, dict):
        lines = []
        for name, each in value.items():
            if isinstance(each, dict | list) and each:
                lines += [f"{indent}{name}:", *table(each, indent + "  ")]
            else:
                lines.append(f"{indent}{name}: {_plain(each)}")
        return lines
    if isinstance(value, list):
        lines = []
        for each in value:
            inner = table(each, indent + "  ")
            lines += [f"{indent}- {inner[0].strip()}", *inner[1:]] if inner else [f"{indent}-"]
        return lines
    return [f"{indent}{_plain(value)}"]


def _plain(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value in ({}, []):
        return "none"
    return str(value)
