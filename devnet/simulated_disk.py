"""A disk whose power can be cut: what was not synced is lost, in part or whole, and in any order, as the dice say.

Its files lie in a scratch folder of the real file system, where everybody can read them; the books of what is not yet
durable are kept here. One `SimulatedDisk` lasts for one life of a node: when it is cut, the files are what a restart
finds, and nothing can be done with it any more.
"""

from __future__ import annotations

import os
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from node.disk import Act, Disk, File, Step


class PowerCut(BaseException):
    """The machine is off. No handler of the node may go on from here, so it is no Exception."""


@dataclass(frozen=True, slots=True, order=True)
class Moment:
    """Right before or right after a step."""

    step: Step
    after: bool

    def __str__(self) -> str:
        return f"{'after' if self.after else 'before'} {self.step}"


class Watching:
    """A `node.disk.Watch` that counts how often each moment came, and calls *at_moment* with it and its number."""

    def __init__(self, at_moment: Callable[[Moment, int], None] = lambda moment, number: None) -> None:
        self.counts: Counter[Moment] = Counter()
        self._at_moment = at_moment

    def before(self, step: Step) -> None:
        """As `node.disk.Watch`."""
        self._came(Moment(step, after=False))

    def after(self, step: Step) -> None:
        """As `node.disk.Watch`."""
        self._came(Moment(step, after=True))

    def _came(self, moment: Moment) -> None:
        self.counts[moment] += 1
        self._at_moment(moment, self.counts[moment])


def cut_at(wanted: Moment, number: int = 1) -> Watching:
    """A watch that cuts the power when *wanted* comes for the time *number* (from 1)."""

    def act(moment: Moment, count: int) -> None:
        if moment == wanted and count == number:
            raise PowerCut(str(moment))

    return Watching(act)


def refuse_at(wanted: Step, error: int, number: int = 1) -> Watching:
    """A watch that lets *wanted* fail with the system's *error* from its time *number* (from 1) on."""

    def act(moment: Moment, count: int) -> None:
        if moment == Moment(wanted, after=False) and count >= number:
            raise OSError(error, os.strerror(error))

    return Watching(act)


class SimulatedDisk(Disk):
    """A `Disk` that knows what a power cut takes. Nothing waits for the real disk; an LMDB commit is one step."""

    def __init__(
        self, dice: random.Random, watch: Watching | None = None, *, on_cut: Callable[[], None] = lambda: None
    ) -> None:
        """*on_cut* is called in the instant of the cut: whatever else belongs to the machine goes with it."""
        super().__init__(watch)
        self.syncs = False
        self.is_cut = False
        self._dice = dice
        self._on_cut = on_cut
        self._unsynced: dict[Path, list[_Change]] = {}
        self._names: list[_NameChange] = []

    def cut_power(self) -> None:
        """The machine is off; the files are what a restart will find."""
        if self.is_cut:
            return
        self.is_cut = True
        for path, changes in self._unsynced.items():
            _lose(path, changes, self._dice)
        surviving = self._dice.randint(0, len(self._names))  # a file system's journal keeps their order
        for change in reversed(self._names[surviving:]):
            change.undo()
        self._on_cut()

    @contextmanager
    def step(self, act: Act, path: Path, label: str = "") -> Iterator[None]:
        """As `Disk.step`. Raises PowerCut, then and from then on, when the watch does."""
        if self.is_cut:
            raise PowerCut("the machine is off")
        try:
            with super().step(act, path, label):
                yield
        except PowerCut:
            self.cut_power()
            raise

    def _create(self, path: Path, mode: int, label: str) -> File:
        self._names.append(_NameChange(path.parent, _restorer(path)))
        self._unsynced.pop(path, None)
        return super()._create(path, mode, label)

    def _written_by_another(self, path: Path) -> None:
        self._names.append(_NameChange(path.parent, path.unlink))
        self._unsynced[path] = [_Change(0, path.read_bytes(), b"", 0)]

    def _replace(self, source: Path, target: Path) -> None:
        restore_target = _restorer(target)

        def undo() -> None:
            source.write_bytes(target.read_bytes())
            restore_target()

        self._names.append(_NameChange(target.parent, undo))
        self._unsynced[target] = self._unsynced.pop(source, [])
        super()._replace(source, target)

    def _link(self, source: Path, target: Path) -> None:
        super()._link(source, target)
        self._unsynced[target] = list(self._unsynced.get(source, ()))
        self._names.append(_NameChange(target.parent, target.unlink))

    def _unlink(self, path: Path) -> None:
        self._names.append(_NameChange(path.parent, _restorer(path)))
        self._unsynced.pop(path, None)
        super()._unlink(path)

    def _make_folder(self, path: Path) -> None:
        self._names.append(_NameChange(path.parent, partial(shutil.rmtree, path)))
        super()._make_folder(path)

    def _sync_folder(self, path: Path) -> None:
        self._names = [change for change in self._names if change.folder != path]

    def _write(self, file: File, data: bytes | bytearray, at: int) -> None:
        former = os.pread(file.descriptor, len(data), at)
        change = _Change(at, bytes(data), former, os.fstat(file.descriptor).st_size)
        self._unsynced.setdefault(file.path, []).append(change)
        super()._write(file, data, at)

    def _truncate(self, file: File, size: int) -> None:
        former_size = os.fstat(file.descriptor).st_size
        former = os.pread(file.descriptor, max(0, former_size - size), size)
        self._unsynced.setdefault(file.path, []).append(_Change(size, None, former, former_size))
        super()._truncate(file, size)

    def _sync(self, file: File) -> None:
        self._unsynced.pop(file.path, None)


@dataclass(frozen=True, slots=True)
class _Change:
    """Bytes that were handed to the system and are not durable."""

    at: int
    data: bytes | None
    """None: the file ends at `at`."""
    former: bytes
    """What stood there."""
    former_size: int

    def undo(self, content: bytearray) -> None:
        content[self.at : self.at + len(self.data or self.former)] = self.former
        del content[self.former_size :]

    def redo(self, content: bytearray, size: int | None = None) -> None:
        """The change reaches the disk, a write perhaps only with its first *size* bytes."""
        content.extend(bytes(max(0, self.at - len(content))))  # what was to stand before it never came
        if self.data is None:
            del content[self.at :]
            return
        part = self.data[:size]
        content[self.at : self.at + len(part)] = part


@dataclass(frozen=True, slots=True)
class _NameChange:
    folder: Path
    undo: Callable[[], None] = field(compare=False)


def _restorer(path: Path) -> Callable[[], None]:
    """What brings back whatever stands at *path* now."""
    former = path.read_bytes() if path.exists() else None

    def restore() -> None:
        if former is None:
            path.unlink(missing_ok=True)
        else:
            path.write_bytes(former)

    return restore


def _lose(path: Path, changes: list[_Change], dice: random.Random) -> None:
    """The file at *path* holds what was durable, and what of *changes* reached the disk by chance."""
    content = bytearray(path.read_bytes())
    for change in reversed(changes):
        change.undo(content)
    fate = dice.choice(("lost", "first ones kept", "any"))
    if fate == "first ones kept":
        for change in changes[: dice.randint(0, len(changes))]:
            change.redo(content)
    elif fate == "any":
        for change in changes:
            if dice.random() < 0.5:
                size = dice.randint(0, len(change.data or b"")) if dice.random() < 0.5 else None
                change.redo(content, size)
    path.write_bytes(content)
