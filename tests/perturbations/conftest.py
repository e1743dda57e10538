"""Networks as the stories have them."""

from tests.stories.conftest import network

__all__ = ["network"]
