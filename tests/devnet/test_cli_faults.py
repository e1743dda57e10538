"""What commands for single nodes and links say of numbers that mean no node, and how much of a log they show."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from devnet import record
from devnet.cli import devnet
from devnet.cli.faults import Growing
from devnet.fleet import tail
from tests.devnet.test_record import example


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["split", "abc"], "these are no groups of node numbers; write it as 0,1/2,3"),
        (["split", "0,/1"], "these are no groups of node numbers"),
        (["split", "0/9"], "there is no node 9"),
        (["slow", "--node", "9"], "there is no node 9"),
        (["kill", "x"], "no list of node numbers"),
        (["logs", "9"], "there is no node 9"),
    ],
)
def test_a_number_of_no_node_is_said_to_be_none(arguments: list[str], text: str, tmp_path: Path) -> None:
    record.save(example(tmp_path))
    ended = CliRunner().invoke(devnet, [*arguments, "--dir", str(tmp_path)])
    assert ended.exit_code in (1, 2)
    assert text in ended.output


def test_as_many_lines_of_a_log_are_shown_as_were_asked_for(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    lines = [f"{number} {'x' * 300}" for number in range(2000)]
    log.write_text("\n".join(lines) + "\n")
    assert tail(log, 500).splitlines() == lines[-500:]
    assert tail(log, 5000).splitlines() == lines
    assert tail(log, 0) == ""


def test_following_a_log_goes_on_after_it_was_full(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text("old\n")
    with closing(Growing(log)) as lines:
        assert lines.news() == ""
        with log.open("a") as file:
            file.write("one\n")
        assert lines.news() == "one\n"
        log.rename(tmp_path / "log.jsonl.1")
        assert lines.news() == ""
        log.write_text("two\n")
        assert lines.news() == "two\n"
