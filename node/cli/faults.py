"""One sentence for whatever goes wrong. Loaded only then: it knows faults of every part, and so loads them all."""

from __future__ import annotations

from consensus.application import QueryRefused
from node.admin import AdminRefused, NotRunning
from node.applications import ApplicationMissing
from node.backup import BadBackup
from node.cli.screen import FAILED, USER_MISTAKE, Mistake, SystemRefused, die
from node.client import RpcFailed, Unreachable
from node.disk import DiskFailed
from node.export import CannotExport
from node.invite import BadInvite
from node.keys import KeyFault
from node.light.faults import BadBeginning, BadSource, MemoryDamaged, NoRoot
from node.proofs import NotProved
from node.rpc.errors import RpcError
from node.signer_state import SignerStateDamaged
from node.store_environment import StoreFailed, StoreInUse
from node.toml import BadToml
from node.trust_root import BadTrustRoot

MISTAKES: dict[type[Exception], str] = {
    BadToml: "cli.bad_file",
    KeyFault: "cli.key",
    BadInvite: "cli.invite",
    ApplicationMissing: "cli.application_missing",
    NotRunning: "cli.not_running",
    BadTrustRoot: "cli.bad_file",
    BadBackup: "cli.bad_file",
    CannotExport: "cli.export",
    StoreInUse: "node.in_use",
    MemoryDamaged: "cli.bad_file",
    BadSource: "cli.bad_url",
    BadBeginning: "light.no_root",
}
"""Families whose texts are sentences for the user, with the code that --json gives; exit code 2."""
FAILURES: dict[type[Exception], str] = {
    Unreachable: "cli.unreachable",
    NotProved: "cli.not_proved",
    AdminRefused: "cli.refused",
    StoreFailed: "node.store",
    DiskFailed: "cli.disk",
    NoRoot: "light.no_root",
    SignerStateDamaged: "cli.signer_state",
}
"""The same where the fault lies elsewhere; exit code 1."""


def say(error: Exception, *, as_json: bool) -> None:
    """Ends the process with a sentence, if *error* is of a family whose text is one; else returns: it is a defect."""
    if isinstance(error, Mistake):
        die(error, code=error.code, exit_code=error.exit_code, as_json=as_json)
    if isinstance(error, QueryRefused):
        die(error, code=error.code, exit_code=USER_MISTAKE, as_json=as_json)
    if isinstance(error, RpcError):  # the light client could not begin
        die(error, code=error.code, exit_code=FAILED, as_json=as_json)
    if isinstance(error, RpcFailed):
        code = USER_MISTAKE if error.number == -32602 or error.code.startswith("query.") else FAILED
        die(error, code=error.code, exit_code=code, as_json=as_json)
    for families, exit_code in ((MISTAKES, USER_MISTAKE), (FAILURES, FAILED)):
        for family, name in families.items():
            if isinstance(error, family):
                die(error, code=name, exit_code=exit_code, as_json=as_json)
    if isinstance(error, OSError) and error.errno is not None:
        die(SystemRefused(error), code="cli.system", exit_code=USER_MISTAKE, as_json=as_json)
