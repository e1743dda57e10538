"""Promises of the log: one line an event, readable by people or machines, whatever strangers put into it."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from node.log import configure


@pytest.fixture
def stream() -> Iterator[io.BytesIO]:
    before = structlog.get_config()
    yield io.BytesIO()
    structlog.configure(**before)


def test_json_has_one_object_a_line(stream: io.BytesIO) -> None:
    configure(format="json", stream=stream)
    structlog.get_logger("x").info("block_decided", height=5, id=b"\x01\xff", moniker="Åsa\n“x”")
    (line,) = stream.getvalue().decode("utf-8").splitlines()
    record = json.loads(line)
    assert record.pop("time").endswith("Z")
    assert record == {
        "event": "block_decided",
        "level": "info",
        "height": 5,
        "id": "01ff",
        "moniker": "Åsa\n“x”",
    }


def test_an_exception_is_one_line_of_json(stream: io.BytesIO) -> None:
    configure(format="json", stream=stream)
    try:
        raise OSError("the disk is full")
    except OSError:
        structlog.get_logger("x").exception("node_failed")
    (line,) = stream.getvalue().decode().splitlines()
    assert "the disk is full" in json.loads(line)["exception"]


def test_what_a_stranger_says_can_neither_end_a_line_nor_drive_a_terminal(stream: io.BytesIO) -> None:
    configure(format="console", stream=stream)
    structlog.get_logger("x").warning("peer_broke_rules", why="\n2026 all is well\x1b[2J")
    (line,) = stream.getvalue().decode().splitlines()
    assert "\x1b" not in line
    assert "peer_broke_rules" in line


def test_lines_below_the_level_are_not_written(stream: io.BytesIO) -> None:
    configure(format="json", level="warning", stream=stream)
    log = structlog.get_logger("x")
    log.info("quiet")
    log.warning("loud")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["loud"]


def test_what_utf8_cannot_say_is_still_logged(stream: io.BytesIO) -> None:
    configure(format="json", stream=stream)
    structlog.get_logger("x").info("name", text="\ud800")
    assert rb"\ud800" in stream.getvalue()


ROOT = Path(__file__).parent.parent.parent
LEVELS = {"exception": "error", "critical": "error"}


def said() -> set[tuple[str, str]]:
    """Every message name in the source of a node, with its level."""
    found = set()
    for folder in ("node", "p2p"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for level, name in re.findall(
                r"\b_?log\.(debug|info|warning|error|exception|critical)\(\s*\"([a-z0-9_]+)\"", path.read_text()
            ):
                found.add((name, LEVELS.get(level, level)))
    return found


def listed() -> set[tuple[str, str]]:
    """The table of docs/messages.md."""
    text = (ROOT / "docs" / "messages.md").read_text()
    return set(re.findall(r"^\| `([a-z0-9_]+)` \| (debug|info|warning|error) \|", text, re.MULTILINE))


def test_every_error_and_warning_is_listed_with_its_cause_and_cure() -> None:
    assert {pair for pair in said() if pair[1] in ("error", "warning")} <= listed()
