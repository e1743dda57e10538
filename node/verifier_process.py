"""The helper process: reads frames of signatures on its input, writes frames of answers, ends as its input closes."""

from __future__ import annotations

import contextlib
import os
import signal
import struct
import sys
from typing import BinaryIO

import msgpack

from consensus.signing import verify

FRAME_HEADER = struct.Struct(">I")


def main() -> None:
    """Serves until the node closes the pipe, or is gone. To stop is the node's business; it then closes the pipe."""
    for order in (signal.SIGINT, signal.SIGTERM):  # given to the whole group by terminals and service managers
        signal.signal(order, signal.SIG_IGN)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # the node is gone: end without a word
    _yield_to_the_node()
    serve(sys.stdin.buffer, sys.stdout.buffer)


def _yield_to_the_node() -> None:
    """On a full machine no frame interrupts the node: its caches stay warm, and frames fill up."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # a container may forbid it; it is a wish, not a need
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def serve(questions: BinaryIO, answers: BinaryIO) -> None:
    """Answers frame by frame: for each [public key, message, signature] a byte, 1 if it holds, else 0."""
    while len(header := questions.read(FRAME_HEADER.size)) == FRAME_HEADER.size:
        (size,) = FRAME_HEADER.unpack(header)
        payload = questions.read(size)
        if len(payload) < size:
            return
        verdicts = bytes([verify(key, message, signature) for key, message, signature in msgpack.unpackb(payload)])
        answers.write(FRAME_HEADER.pack(len(verdicts)) + verdicts)
        answers.flush()


if __name__ == "__main__":
    main()
