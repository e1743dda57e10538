"""Signatures verified in batches behind one interface: in this process (simulations), or in helper processes (nodes).

Not in a thread: PyNaCl gives up the interpreter lock for every call and then waits for it (DESIGN §11).
"""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Protocol, TypeAlias

import msgpack
import structlog
import trio
from trio.abc import ReceiveStream

from consensus.signing import public_key, sign, verify

log = structlog.get_logger("verifier")

Item: TypeAlias = "tuple[bytes, bytes, bytes]"
"""Public key (32 bytes), message, signature (64 bytes)."""

SLICE_SIGNATURES = 32
"""Verified inline between two yields: 3 to 5 ms. A count, not a clock: simulations must repeat."""
BATCH_SIGNATURES_MAX = 256
"""In one frame to a helper. When helpers are busy, calls gather, and frames are full."""
FRAMES_IN_FLIGHT_MAX = 2
"""Per helper: one in work, one ready for it."""
QUEUE_SIGNATURES_MAX = 8_192
"""That wait for a helper, about 0.8 s of one; whoever brings more waits, unless it is urgent."""
FRAME_HEADER = struct.Struct(">I")
EXIT_TIMEOUT_S = 2.0
_ROOT = str(Path(__file__).resolve().parent.parent)
"""Where the packages lie, so that a helper finds the same ones."""


class VerifierDied(ChildProcessError):
    """A helper process ended or answered nonsense: ours, the node stops."""


class Verifier(Protocol):
    """Whether signatures hold, as libsodium decides, on every node alike."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Works until cancelled; started once `verify` can be called. Raises VerifierDied."""

    async def verify(self, items: Sequence[Item], *, urgent: bool = False) -> list[bool]:
        """One answer for each of *items*, in their order. *urgent*: a block waits for it; goes before what is not."""


def new_verifier(processes: int) -> Verifier:
    """A verifier with that many helper processes; 0: inline."""
    return ProcessVerifier(processes=processes) if processes else InlineVerifier()


class InlineVerifier:
    """Verifies in the caller's task, and lets others run in between."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Nothing to run: waits to be cancelled."""
        task_status.started()
        await trio.sleep_forever()

    async def verify(self, items: Sequence[Item], *, urgent: bool = False) -> list[bool]:
        """One answer for each of *items*; yields at least once, and every few ms."""
        answers: list[bool] = []
        for start in range(0, max(1, len(items)), SLICE_SIGNATURES):
            await trio.lowlevel.checkpoint()
            answers += [verify(*item) for item in items[start : start + SLICE_SIGNATURES]]
        return answers


class _Job:
    """One call of `verify`, on its way through one or more frames."""

    __slots__ = ("answers", "done", "items", "missing", "sent")

    def __init__(self, items: Sequence[Item]) -> None:
        self.items = items
        self.sent = 0
        self.missing = len(items)
        self.answers = bytearray(len(items))
        self.done = trio.Event()


_Part: TypeAlias = "tuple[_Job, int, int]"
"""A job, and the range of its items that stands in a frame."""


class ProcessVerifier:
    """Verifies in *processes* helpers over pipes; several frames are in flight, and queues are bounded."""

    def __init__(self, *, processes: int = 1) -> None:
        assert processes >= 1, processes
        self._processes = processes
        self._urgent: deque[_Job] = deque()
        self._waiting: deque[_Job] = deque()
        self._waiting_signatures = 0
        self._work = trio.lowlevel.ParkingLot()
        self._room = trio.lowlevel.ParkingLot()
        self._in_flight: set[_Job] = set()
        self._running = False
        self.pids: tuple[int, ...] = ()
        """Of the helpers, while they run."""

    async def verify(self, items: Sequence[Item], *, urgent: bool = False) -> list[bool]:
        """One answer for each of *items*. Raises VerifierDied if `run` has ended."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if not items:
            await trio.lowlevel.cancel_shielded_checkpoint()
            return []
        while not urgent and self._running and self._waiting_signatures >= QUEUE_SIGNATURES_MAX:
            await self._room.park()
        if not self._running:
            raise VerifierDied("the verifier does not run")
        job = _Job(items)
        (self._urgent if urgent else self._waiting).append(job)
        self._waiting_signatures += len(items)
        self._work.unpark_all()
        await job.done.wait()
        if job.missing:
            raise VerifierDied("the verifier ended before it answered")
        return [answer == 1 for answer in job.answers]

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Runs the helpers until cancelled; they end with it, and with the node however it ends."""
        async with AsyncExitStack() as helpers, trio.open_nursery() as nursery:
            try:
                processes = [await helpers.enter_async_context(_Helper()) for _ in range(self._processes)]
                self.pids = tuple(process.pid for process in processes)
                self._running = True
                for process in processes:
                    nursery.start_soon(self._feed, process)
                    nursery.start_soon(self._collect, process)
                log.debug("verifier_ready", pids=self.pids)
                task_status.started()
                await trio.sleep_forever()
            finally:
                self._running = False
                for job in (*self._urgent, *self._waiting, *self._in_flight):
                    job.done.set()
                self._room.unpark_all()

    async def _feed(self, helper: _Helper) -> None:
        """Sends what waits, as full frames as there are, with a bounded number in flight."""
        while True:
            while len(helper.in_flight) >= FRAMES_IN_FLIGHT_MAX or not (self._urgent or self._waiting):
                await self._work.park()
            parts = self._next_parts()
            helper.in_flight.append(parts)
            items = [job.items[index] for job, start, stop in parts for index in range(start, stop)]
            await helper.send(items)

    def _next_parts(self) -> list[_Part]:
        """Takes up to a frame full from what waits, urgent jobs first; a large job is cut."""
        parts: list[_Part] = []
        room = BATCH_SIGNATURES_MAX
        for queue in (self._urgent, self._waiting):
            while queue and room:
                job = queue[0]
                start = job.sent
                job.sent = min(len(job.items), start + room)
                room -= job.sent - start
                parts.append((job, start, job.sent))
                self._in_flight.add(job)
                if job.sent == len(job.items):
                    queue.popleft()
        self._waiting_signatures -= BATCH_SIGNATURES_MAX - room
        if self._waiting_signatures < QUEUE_SIGNATURES_MAX:
            self._room.unpark_all()
        return parts

    async def _collect(self, helper: _Helper) -> None:
        """Hands the helper's answers to those who wait for them."""
        while True:
            answers = await helper.receive()
            if not helper.in_flight:
                raise VerifierDied("a signature helper answered without a question")
            parts = helper.in_flight.popleft()
            if len(answers) != sum(stop - start for _, start, stop in parts):
                raise VerifierDied("a signature helper answered too much or too little")
            self._work.unpark_all()
            offset = 0
            for job, start, stop in parts:
                job.answers[start:stop] = answers[offset : offset + stop - start]
                offset += stop - start
                job.missing -= stop - start
                if not job.missing:
                    self._in_flight.discard(job)
                    job.done.set()


class _Helper:
    """One helper process and its pipes. Entering it starts it and asks it two questions with known answers."""

    def __init__(self) -> None:
        self.in_flight: deque[list[_Part]] = deque()
        self._buffer = bytearray()
        self._process: trio.Process

    @property
    def pid(self) -> int:
        return self._process.pid

    async def __aenter__(self) -> _Helper:
        path = os.pathsep.join([_ROOT, *filter(None, [os.environ.get("PYTHONPATH")])])
        self._process = await trio.lowlevel.open_process(
            [sys.executable, "-P", "-m", "node.verifier_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
        )
        try:
            seed = bytes(32)
            good = (public_key(seed), b"self-test", sign(seed, b"self-test"))
            await self.send([good, (good[0], b"another", good[2])])
            if await self.receive() != b"\x01\x00":
                raise VerifierDied("the signature helper verifies wrongly; is the installation of PyNaCl damaged?")
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *exception: object) -> None:
        """The process has ended: by itself as its input closes, else by force."""
        with trio.CancelScope(shield=True):
            assert self._process.stdin is not None
            await self._process.stdin.aclose()
            with trio.move_on_after(EXIT_TIMEOUT_S) as patience:
                await self._process.wait()
            if patience.cancelled_caught:
                self._process.kill()
                await self._process.wait()
            assert self._process.stdout is not None
            await self._process.stdout.aclose()

    async def send(self, items: Sequence[Item]) -> None:
        """The helper was asked for *items*."""
        payload: bytes = msgpack.packb(items)
        assert self._process.stdin is not None
        try:
            await self._process.stdin.send_all(FRAME_HEADER.pack(len(payload)) + payload)
        except trio.BrokenResourceError:
            raise await self._ended() from None

    async def receive(self) -> bytes:
        """Its next answer: for each signature a byte, 1 or 0."""
        assert self._process.stdout is not None
        header = await self._exactly(self._process.stdout, FRAME_HEADER.size)
        return await self._exactly(self._process.stdout, FRAME_HEADER.unpack(header)[0])

    async def _exactly(self, stream: ReceiveStream, count: int) -> bytes:
        while len(self._buffer) < count:
            chunk = await stream.receive_some(65_536)
            if not chunk:
                raise await self._ended()
            self._buffer += chunk
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data

    async def _ended(self) -> VerifierDied:
        with trio.move_on_after(EXIT_TIMEOUT_S):
            await self._process.wait()
        code = self._process.returncode
        how = "closed its pipe" if code is None else f"was ended by {signal.Signals(-code).name}" if code < 0 else ""
        return VerifierDied(f"a signature helper process {how or f'ended with code {code}'}")
