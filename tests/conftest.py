"""What holds for all tests."""

import os

from hypothesis import settings

# A shared or busy machine is no reason for a property to fail; pytest's own limits catch what hangs.
# CI judges the change that it was given, with the same examples each time; people's runs look for new ones.
settings.register_profile("allting", deadline=None, derandomize=os.environ.get("CI") == "true")
settings.load_profile("allting")
