"""How a module is declared. A module file imports everything from here (`city/README.md` says how to write one)."""

from city.sdk.context import TREASURY, Context, key_address, module_address
from city.sdk.declare import (
    Param,
    Uses,
    end_of_block,
    genesis,
    invariant,
    message,
    migration,
    misbehaviour,
    query,
    resume,
    scheduled,
    shared,
)
from city.sdk.fees import FeePolicy
from city.sdk.module import Module
from city.sdk.refusal import Refusal, Refused
from city.sdk.table import Cell, Index, Page, Table
from city.sdk.types import (
    AMOUNT_MAX,
    PPM,
    Address,
    Amount,
    Count,
    Hash,
    Length,
    Limit,
    Millis,
    ModuleName,
    Ppm,
    PublicKey,
    Range,
    Record,
    Signature,
    Size,
    Weight,
    event,
    replace,
)
from consensus.application import Founder, Inadmissible
from consensus.shape import U63
from consensus.signing import sha256
from consensus.transaction import Message

DAY_MS = 86_400_000
HOUR_MS = 3_600_000

__all__ = [
    "AMOUNT_MAX",
    "DAY_MS",
    "HOUR_MS",
    "PPM",
    "TREASURY",
    "U63",
    "Address",
    "Amount",
    "Cell",
    "Context",
    "Count",
    "FeePolicy",
    "Founder",
    "Hash",
    "Inadmissible",
    "Index",
    "Length",
    "Limit",
    "Message",
    "Millis",
    "Module",
    "ModuleName",
    "Page",
    "Param",
    "Ppm",
    "PublicKey",
    "Range",
    "Record",
    "Refusal",
    "Refused",
    "Signature",
    "Size",
    "Table",
    "Uses",
    "Weight",
    "end_of_block",
    "event",
    "genesis",
    "invariant",
    "key_address",
    "message",
    "migration",
    "misbehaviour",
    "module_address",
    "query",
    "replace",
    "resume",
    "scheduled",
    "sha256",
    "shared",
]
