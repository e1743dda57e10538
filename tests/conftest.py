"""What holds for all tests."""

from hypothesis import settings

# A shared or busy machine is no reason for a property to fail; pytest's own limits catch what hangs.
settings.register_profile("allting", deadline=None)
settings.load_profile("allting")
