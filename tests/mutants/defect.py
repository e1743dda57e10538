"""A defect, and what must notice it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
"""Of the project."""


@dataclass(frozen=True, slots=True)
class Defect:
    """One place in the code, made wrong."""

    name: str
    """What goes wrong, in words."""
    path: str
    """The file, from the project's root."""
    before: str
    """A text that stands there exactly once."""
    after: str
    checks: tuple[str, ...]
    """Test files, one of which must fail; or ``worlds``: a violation in the core worlds (`WORLD_SEEDS`)."""

    def put_into(self, root: Path) -> None:
        """The copy of the project at *root* has the defect. Raises LookupError unless its place is found once."""
        file = root / self.path
        text = file.read_text()
        if text.count(self.before) != 1:
            raise LookupError(f"{self.name}: its text stands {text.count(self.before)} times in {self.path}")
        file.write_text(text.replace(self.before, self.after))


WORLDS = "worlds"
WORLD_SEEDS = "0..400"
