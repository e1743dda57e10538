"""The log, configured once: lines for people, or one JSON object a line. docs/messages.md lists the message names."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, BinaryIO

import structlog

FORMATS = ("console", "json")
LEVELS = ("debug", "info", "warning", "error")


def configure(*, format: str = "console", level: str = "info", stream: BinaryIO | None = None) -> None:
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
        logger_factory=structlog.BytesLoggerFactory(file=stream),
        cache_logger_on_first_use=True,
    )


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
