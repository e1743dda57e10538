"""The log, configured once: lines for people, or one JSON object a line. docs/messages.md lists the message names.

It goes to standard error, or to a file of bounded size. With a file, the process's own standard output and error lead
there too while the node runs, so that nothing else grows without bound; why it ends is said where it was started, too.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
from collections.abc import MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import structlog

FORMATS = ("console", "json")
LEVELS = ("debug", "info", "warning", "error")


class Sink(Protocol):
    """Where finished lines go."""

    def write(self, data: bytes, /) -> int:
        """*data* is written."""

    def flush(self) -> None:
        """Nothing is held back."""

    def isatty(self) -> bool:
        """Whether a person sees it at a terminal."""


class BoundedFile:
    """A log file that is renamed to ``NAME.1`` when it is full: at most twice *bytes_max* on the disk, and a line.

    Each line is one append, so that a killed node leaves whole lines.
    """

    def __init__(self, path: Path, bytes_max: int, *, redirect: bool) -> None:
        """*redirect*: descriptors 1 and 2 of this process lead to the file from now on. Raises OSError."""
        self._path = path
        self._bytes_max = bytes_max
        self._redirect = redirect
        self._standard = [(standard, os.dup(standard)) for standard in (1, 2)] if redirect else []
        """Where descriptors 1 and 2 led before."""
        self._descriptor = -1
        self._is_torn = False
        """Whether the last line in the file has no end."""
        self._open()

    def write(self, data: bytes, /) -> int:
        """*data*, whole lines, stands in the file. Raises OSError; then what was written of it is a line of its own."""
        if self._size and self._size + len(data) > self._bytes_max:
            self._turn_over()
        written = os.write(self._descriptor, b"\n" + data if self._is_torn else data)
        self._size += written
        written -= self._is_torn
        self._is_torn = 0 < written < len(data)
        if written < len(data):
            raise OSError(errno.ENOSPC, "only a part was written", str(self._path))
        return written

    def flush(self) -> None:
        """Nothing is held back."""

    def isatty(self) -> bool:
        """Never."""
        return False

    def give_back(self) -> None:
        """Descriptors 1 and 2 lead where they led before: whoever started the process is told why it ends."""
        self._redirect = False
        for standard, before in self._standard:
            os.dup2(before, standard)
            os.close(before)
        self._standard = []

    def close(self) -> None:
        """The file is closed; for tests."""
        os.close(self._descriptor)

    def _turn_over(self) -> None:
        try:
            os.replace(self._path, self._path.with_name(self._path.name + ".1"))
            former = self._descriptor
            self._open()
            os.close(former)
        except OSError:
            self._size = 0  # the old file goes on; the next try comes after as many bytes again

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._descriptor = os.open(self._path, flags, 0o644)
        self._size = os.fstat(self._descriptor).st_size
        self._is_torn = False
        if self._redirect:
            for standard in (1, 2):
                os.dup2(self._descriptor, standard)


def configure(*, format: str = "console", level: str = "info", stream: Sink | BinaryIO | None = None) -> None:
    """Every structlog logger of this process writes to *stream* (None: standard error), UTF-8 whatever the locale."""
    assert format in FORMATS, format
    assert level in LEVELS, level
    stream = sys.stderr.buffer if stream is None else stream
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            hex_for_bytes,
            *(_json_chain() if format == "json" else _console_chain(colors=stream.isatty())),
            _to_utf8,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.BytesLoggerFactory(file=_Sparing(stream)),  # type: ignore[arg-type]  # write and flush
        cache_logger_on_first_use=True,
    )


_REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EAGAIN)
"""What a system says that has no room, or none that can be written."""


@dataclass(slots=True)
class Losses:
    """What the log could not say."""

    lines: int = 0
    """Lines, or parts of one."""


LOSSES = Losses()
"""Of this process since it began, which has one log."""


class _Sparing:
    """A stream of lines on a disk that may be full: lines are lost then, and counted, and the node goes on.

    Whether the node can go on is for its own disk to say; the log may lie on another.
    """

    def __init__(self, stream: Sink | BinaryIO) -> None:
        self._stream = stream
        self._lost = 0

    def write(self, line: bytes) -> int:
        """*line* is written, if there is room; before it, how many were lost."""
        try:
            if self._lost:
                self._stream.write(b'{"level": "warning", "event": "log_lines_lost", "lines": %d}\n' % self._lost)
                self._stream.flush()
                self._lost = 0
            return self._stream.write(line)
        except OSError as error:
            self._no_room(error)
            return 0

    def flush(self) -> None:
        """What was written is handed to the system, if there is room."""
        try:
            self._stream.flush()
        except OSError as error:
            self._no_room(error)

    def _no_room(self, error: OSError) -> None:
        if error.errno not in _REFUSALS:
            raise error
        self._lost += 1
        LOSSES.lines += 1


def hex_for_bytes(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: bytes (hashes, keys, ids) are shown as lower-case hex."""
    for key, value in event.items():
        if isinstance(value, bytes):
            event[key] = value.hex()
    return event


def _json_chain() -> list[structlog.typing.Processor]:
    return [
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(sort_keys=False, ensure_ascii=False),
    ]


def _console_chain(*, colors: bool) -> list[structlog.typing.Processor]:
    return [
        structlog.processors.TimeStamper(fmt="%H:%M:%S.%f", utc=False, key="timestamp"),
        structlog.dev.ConsoleRenderer(
            colors=colors,
            pad_event_to=28,
            # Values come from strangers too: quoted, so that none can write a line or drive the terminal.
            repr_native_str=True,
            exception_formatter=structlog.dev.plain_traceback,
        ),
    ]


def _to_utf8(logger: Any, method: str, line: Any) -> bytes:
    text: str = line
    return text.encode("utf-8", errors="backslashreplace")
