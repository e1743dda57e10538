"""Which application a chain runs: by entry-point name and version, never by import path."""

from __future__ import annotations

from importlib.metadata import entry_points

import structlog

from consensus.application import Application
from node.genesis import GenesisFile

log = structlog.get_logger("application")

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
    installed = {point.name: point for point in entry_points(group=MODULE_GROUP)}
    missing = sorted(set(genesis.modules) - set(installed))
    if missing:
        raise ApplicationMissing(
            f"this town uses modules that are not installed here: {', '.join(missing)}; "
            f"install the packages that provide them (entry-point group {MODULE_GROUP})"
        )
    modules = []
    for name in sorted(genesis.modules):
        module, wanted = installed[name].load(), genesis.modules[name]
        modules.append(module)
        if module.name != name:
            raise ApplicationMissing(
                f"the module installed as “{name}” calls itself “{module.name}”; its package is broken: tell its author"
            )
        if module.version != wanted:
            raise ApplicationMissing(
                f"this town began with version {wanted} of the module “{module.name}”, installed is {module.version}; "
                "install the version that the town uses"
            )
    application: Application = found[genesis.application].load()(modules=modules, report=_log_fault)
    if application.version != genesis.application_version:
        raise ApplicationMissing(
            f"this town runs version {genesis.application_version} of “{genesis.application}”, "
            f"installed is {application.version}; install the version that the town uses"
        )
    return application


def _log_fault(module: str, error: Exception) -> None:
    """A defect of a module stands in the log with its traceback; the chain goes on with the result ``module.fault``."""
    log.error("module_fault", module=module, exc_info=error)
