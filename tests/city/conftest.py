"""Towns for the tests of the city."""

from __future__ import annotations

import pytest

from city.testing import Town
from tests.city.tools import ToolLibrary


@pytest.fixture
def town() -> Town:
    """A town with the installed modules and the tool library, without fees."""
    return Town(ToolLibrary)
