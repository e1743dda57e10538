"""Promises of the log: one line an event, readable by people or machines, whatever strangers put into it."""

from __future__ import annotations

import io
import json
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from node.log import LOSSES, BoundedFile, configure


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


def test_a_log_file_is_bounded_and_keeps_whole_lines(tmp_path: Path, stream: io.BytesIO) -> None:
    file = BoundedFile(tmp_path / "log.jsonl", 10_000, redirect=False)
    configure(format="json", stream=file)
    for number in range(1_000):
        structlog.get_logger("x").info("height_decided", height=number)
    file.close()
    found = sorted(tmp_path.iterdir())
    assert [path.name for path in found] == ["log.jsonl", "log.jsonl.1"]
    assert all(path.stat().st_size <= 10_000 for path in found)
    heights = [json.loads(line)["height"] for path in reversed(found) for line in path.read_text().splitlines()]
    assert heights == list(range(heights[0], 1_000)), "nothing between the oldest kept and the last is missing"


def test_a_log_file_goes_on_after_a_restart_and_when_it_cannot_be_renamed(tmp_path: Path) -> None:
    (tmp_path / "log.1").mkdir()
    (tmp_path / "log.1" / "in_the_way").touch()
    for _ in range(2):
        file = BoundedFile(tmp_path / "log", 100, redirect=False)
        for _ in range(10):
            assert file.write(b"x" * 30 + b"\n") == 31
        file.close()
    assert (tmp_path / "log").read_bytes() == (b"x" * 30 + b"\n") * 20


def test_lines_that_a_full_disk_refused_are_counted_and_told_once_there_is_room(
    tmp_path: Path, stream: io.BytesIO
) -> None:
    file = BoundedFile(tmp_path / "log", 10_000, redirect=False)
    configure(format="json", stream=file)
    log = structlog.get_logger("x")
    log.info("fits", text="x" * 100)
    before, (soft, hard) = LOSSES.lines, resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / "log").stat().st_size + 20, hard))
    try:
        for _ in range(3):
            log.info("lost", text="x" * 100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert LOSSES.lines == before + 3
    log.info("room")
    log.info("more")
    file.close()
    first, part, *rest = (tmp_path / "log").read_text().splitlines()
    assert (json.loads(first)["event"], len(part)) == ("fits", 20)
    told, *others = map(json.loads, rest)
    assert told == {"level": "warning", "event": "log_lines_lost", "lines": 3}
    assert [other["event"] for other in others] == ["room", "more"]


def test_what_a_process_says_after_its_log_is_told_to_whoever_started_it(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib; from node.log import BoundedFile\n"
        "file = BoundedFile(pathlib.Path(sys.argv[1]), 1000, redirect=True)\n"
        "print('while it runs', flush=True); file.give_back(); file.write(b'a line\\n')\n"
        "raise SystemExit('the end')"
    )
    log = tmp_path / "log"
    ended = subprocess.run([sys.executable, "-c", program, str(log)], capture_output=True, text=True, check=False)
    assert (ended.stdout, ended.stderr) == ("", "the end\n")
    assert log.read_text() == "while it runs\na line\n"


def test_what_a_process_says_at_its_end_stands_in_its_log_file(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib; from node.log import BoundedFile\n"
        "file = BoundedFile(pathlib.Path(sys.argv[1]), 1000, redirect=True)\n"
        "for _ in range(50): file.write(b'y' * 99 + b'\\n')\n"
        "raise SystemExit('the end')"
    )
    log = tmp_path / "log"
    ended = subprocess.run([sys.executable, "-c", program, str(log)], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", "")
    assert log.read_text().endswith("the end\n")
