"""Which application a chain runs: by entry-point name and version, never by import path."""

from __future__ import annotations

from importlib.metadata import entry_points

from consensus.application import Application
from node.genesis import GenesisFile

GROUP = "allting.applications"
MODULE_GROUP = "allting.modules"


class ApplicationMissing(Exception):
    """What the genesis names is not installed here; the text says what is missing."""


def application_for(genesis: GenesisFile) -> Application:
    """The application that *genesis* names, with the modules that it names. Raises ApplicationMissing."""
    found = {point.name: point for point in entry_points(group=GROUP)}
    if genesis.application not in found:
        raise ApplicationMissing(
            f"this town runs the application “{genesis.application}”, which is not installed here; "
            f"install the package that provides it (entry-point group {GROUP})"
        )
    modules = {point.name for point in entry_points(group=MODULE_GROUP)}
    missing = sorted(set(genesis.modules) - modules)
    if missing:
        raise ApplicationMissing(
            f"this town uses modules that are not installed here: {', '.join(missing)}; "
            f"install the packages that provide them (entry-point group {MODULE_GROUP})"
        )
    application: Application = found[genesis.application].load()(modules=sorted(genesis.modules))
    if application.version != genesis.application_version:
        raise ApplicationMissing(
            f"this town runs version {genesis.application_version} of “{genesis.application}”, "
            f"installed is {application.version}; install the version that the town uses"
        )
    return application
