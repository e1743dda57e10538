"""The validator key of a home may sign again, as its operator says."""

from __future__ import annotations

from node.cli.screen import Mistake
from node.genesis import GenesisFile
from node.home import Home
from node.keys import KeyFile
from node.signer_state import may_sign, unlock, unlock_at_risk
from node.store import Store


def unlock_validator(home: Home, *, now_ms: int, at_risk: bool) -> int:
    """The last-sign state of *home* says so; returned: the height in progress.

    Raises Mistake, KeyFault, BadGenesis, StoreInUse while the node runs, SignerStateDamaged for a state of another key.
    """
    if not home.validator_key.exists():
        raise Mistake(f"{home.validator_key} is missing: this home has no validator key to unlock")
    key = KeyFile.load(home.validator_key, kind="validator").public_key
    chain_id = GenesisFile.load(home.genesis).chain_id
    store = Store.open(home.chain)
    try:
        chain = store.chain_state()
        if chain is None:
            raise Mistake(f"{home.chain} is empty: start the node once, so that it knows how far the chain is")
        if at_risk:
            unlock_at_risk(home.last_sign, key, chain_id, height=chain.height + 1)
        else:
            if may_sign(home.last_sign, key, chain_id):
                raise Mistake("this home's validator key is not locked: nothing to do")
            unlock(home.last_sign, key, chain_id, since_ms=max(now_ms, chain.time_ms))
        return chain.height + 1
    finally:
        store.close()
