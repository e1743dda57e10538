"""Networks of real processes for stories; nothing of them outlives its story."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stories.network import Network

LONGEST = ("test_readme.py", "test_devnet_up_and_down.py", "test_member_joins.py")
"""These begin first, so that none of them runs alone in the end, while the other workers have nothing to do."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest stories come first; else the order stays."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


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
