"""Where ``allting`` begins and ends: nothing is loaded before Ctrl-C is listened for, and Ctrl-C is no traceback."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

INTERRUPTED = 130
"""What shells say of a command that Ctrl-C ended."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The command line, with *arguments* (those of the process if None). Ends in SystemExit."""
    try:
        from node.cli import command  # half a second of imports, in which a person may change their mind

        command.run(list(sys.argv[1:] if arguments is None else arguments))
    except (KeyboardInterrupt, BaseExceptionGroup) as stop:
        if not _interrupts(stop):
            raise
        with suppress(OSError):  # the terminal may be gone
            sys.stderr.write("interrupted\n")
            sys.stderr.flush()
        raise SystemExit(INTERRUPTED) from None


def _interrupts(error: BaseException) -> bool:
    """Whether *error* is nothing but Ctrl-C, in as many nurseries as it went through."""
    if isinstance(error, BaseExceptionGroup):
        return all(_interrupts(each) for each in error.exceptions)
    return isinstance(error, KeyboardInterrupt)


if __name__ == "__main__":
    main()
