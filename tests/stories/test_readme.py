"""Issue line 10: what the README tells a newcomer to type does what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.stories.network import Network

pytestmark = pytest.mark.story

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"<!-- story: (?P<story>[^>]*) -->\n```(?P<language>\w+)\n(?P<text>.*?)```", re.DOTALL)

PRELUDE = """\
set -eu
allting() { python -m node.cli.main "$@"; }
await() { for _ in $(seq 120); do if "$@" >/dev/null 2>&1; then return; fi; sleep 0.5; done; echo "never: $*"; exit 1; }
"""
"""The shell of a reader who has activated the environment, and who waits where the text tells to."""

BALLOT_MS = 25_000
"""Long enough for three votes by command on a machine that is busy with other tests."""

JOIN = """\
python -m node.cli.main join "$LINK" --home newcomer >join.log 2>&1 &
trap 'kill $(jobs -p); wait' EXIT
knows() { allting status --home newcomer >status.txt && ! grep -q 'catching up' status.txt; }
await knows
"""
LIGHT = """ >light.log 2>&1 &
trap 'kill $(jobs -p); wait' EXIT
await grep -q 'verified up to height' light.log
"""
VALIDATES = """\
validates() { allting status --home newcomer | grep -q 'validator yes, power 10'; }
await validates
"""


def script() -> str:
    """All marked blocks of the README as one shell script, in order, with shorter ballots."""
    parts = [PRELUDE]
    for block in BLOCK.finditer((ROOT / "README.md").read_text()):
        text = block["text"].replace(". .venv/bin/activate\n", "").replace('"value": 30000', f'"value": {BALLOT_MS}')
        match block["story"], block["language"]:
            case "citizen, refused", _:
                parts.append(f"if {text.partition('#')[0].strip()}; then echo 'this vote must be refused'; exit 1; fi")
            case "citizen, after the ballot", _:
                parts.append("executed() { allting query governance proposal --proposal 1 | grep -q executed; }")
                parts.append("await executed\n" + text)
            case "citizen, after the second ballot", _:
                parts.append("failed() { allting query governance proposal --proposal 2 | grep -q coin.short; }")
                parts.append("await failed\n" + text)
            case "light, begin", _:
                parts.append(text.replace("allting light", "python -m node.cli.main light").rstrip() + LIGHT)
            case "member, invite", _:
                parts.append(f"LINK=$({text.strip()})\n{JOIN}")
            case "member", _:
                parts.append(text + VALIDATES)
            case _, "python":
                parts.append(f"python - <<'END'\n{text}END")
            case _, _:
                parts.append(text)
    return "\n".join(parts)


def test_what_the_readme_says_works(network: Network) -> None:
    folder = network.directory.parent
    network.directory = folder / ".devnet"
    network.up("--set", f"governance.voting_period_ms={BALLOT_MS}")
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        ["bash", "-c", script()], cwd=folder, env=environment, capture_output=True, text=True, timeout=500, check=False
    )
    said = f"{done.stdout}\n{done.stderr}"
    assert done.returncode == 0, said
    assert "executed" in done.stdout, said
    assert "failed" in done.stdout, said
    assert "proved: height" in done.stdout, said
    assert "governance.not_a_person" in said
    assert "sign_bytes" in done.stdout, said
