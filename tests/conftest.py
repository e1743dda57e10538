"""What holds for all tests."""

import os

from hypothesis import Phase, settings

# A shared or busy machine is no reason for a property to fail; pytest's own limits catch what hangs.
# CI judges the change that it was given, with the same examples each time; people's runs look for new ones.
# Where a test is meant to fail (`tests.mutants`), nobody waits for the smallest example.
settings.register_profile(
    "allting",
    deadline=None,
    derandomize=os.environ.get("CI") == "true",
    phases=[phase for phase in Phase if phase is not Phase.shrink or "ALLTING_UNSHRUNK" not in os.environ],
)
settings.load_profile("allting")


def pytest_make_parametrize_id(val: object) -> str | None:
    """A name that can be typed: what is not plain text is shown as hex, of bytes the first eight."""
    if isinstance(val, bytes):
        return val[:8].hex()
    if isinstance(val, str) and not (val.isascii() and val.isprintable()):
        return val.encode(errors="surrogatepass")[:8].hex()
    return None
