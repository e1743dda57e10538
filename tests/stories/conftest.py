"""Networks of real processes for stories; nothing of them outlives its story."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stories.network import Network


@pytest.fixture
def network() -> Iterator[Network]:
    """A place for a devnet; what runs there in the end is stopped."""
    # A Unix socket's path may have 107 bytes, so not in pytest's own deep folder.
    with tempfile.TemporaryDirectory(prefix="allting-") as folder:
        net = Network(Path(folder) / "net")
        try:
            yield net
        finally:
            net.end()
