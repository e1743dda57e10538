"""``make fuzz``: each decoder under a fuzzer guided by coverage (atheris, on libFuzzer); how many inputs it took.

``FUZZ_S`` seconds in all (240). A crash, a hang of 10 s or 1 GiB of memory ends it with exit code 1, and the input is
kept beside its name. What was learned is kept in ``.fuzz/`` and begins the next run.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

SECONDS = 240
HANG_SECONDS, MEMORY_MIB = 10, 1_024
MESSAGE_BYTES_MAX = 4_096
SEEDS = 50
FOLDER = Path(".fuzz")
DONE = re.compile(r"Done (\d+) runs|#(\d+)\s+DONE")


def main() -> int:
    """Every decoder in turn, in a process of its own; 0 if none of them broke."""
    from tests.fuzz.decoders import DECODERS

    seconds = max(1, int(os.environ.get("FUZZ_S", SECONDS)) // len(DECODERS))
    broken = 0
    total = 0
    for number, decoder in enumerate(DECODERS):
        command = [sys.executable, "-m", "tests.fuzz", str(number), str(seconds)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        found = DONE.search(done.stderr)
        runs = int(next(filter(None, found.groups()))) if found else 0
        total += runs
        failed = done.returncode != 0 or runs == 0
        broken += failed
        _say(f"{decoder.name:26s} {runs:10,d} inputs" + (f"  BROKEN\n{done.stderr[-3_000:]}" if failed else ""))
    _say(f"{total:,d} inputs to {len(DECODERS)} decoders, {broken} broke")
    return 1 if broken else 0


def fuzz(number: int, seconds: int) -> None:
    """Decoder *number* is under the fuzzer for *seconds*; ends the process."""
    import atheris

    with atheris.instrument_imports(include=["city", "consensus", "node", "p2p"]):
        from tests.fuzz.decoders import DECODERS

    decoder = DECODERS[number]
    folder = FOLDER / decoder.name.replace(" ", "-").replace(",", "")
    folder.mkdir(parents=True, exist_ok=True)
    for seed, sample in enumerate(_samples(decoder.samples)):
        (folder / f"seed-{seed}").write_bytes(sample)

    def one(data: bytes) -> None:
        try:
            value = decoder.read(data)
        except decoder.refusals:
            return
        if decoder.write is not None:
            assert decoder.write(value) == data, "one value has one encoding"

    options = [
        f"-max_total_time={seconds}",
        f"-timeout={HANG_SECONDS}",
        f"-rss_limit_mb={MEMORY_MIB}",
        f"-max_len={MESSAGE_BYTES_MAX}",
        f"-artifact_prefix={folder}-",
    ]
    atheris.Setup([sys.argv[0], *options, str(folder)], one)
    atheris.Fuzz()


def _samples(strategy: Any) -> list[bytes]:
    """Messages to begin with."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # hypothesis warns that examples outside of a test are not reproducible
        return [strategy.example() for _ in range(SEEDS)]


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    if len(sys.argv) == 3:
        fuzz(int(sys.argv[1]), int(sys.argv[2]))
    else:
        sys.exit(main())
