"""Methods about evidence that waits: hand a piece in, and see what is there."""

from __future__ import annotations

from typing import Any

from consensus.codec import BadMessage
from consensus.evidence import Uncounted
from consensus.light_attack import LightClientAttack, proof_from_bytes
from node.rpc import shapes
from node.rpc.errors import InvalidParams
from node.rpc.methods import method
from node.rpc.parameters import Base64
from node.services import Services


class EvidenceMethods:
    """The way in for proof that a validator lied, for whoever found some and runs no node that votes."""

    def __init__(self, services: Services) -> None:
        self._services = services

    @method
    async def broadcast_evidence(self, evidence: Base64) -> Any:
        """Hands evidence in (the codec's bytes of [kind, fields]) and says whether it is kept and passed on (code "").

        Kind 0, two votes of one round, then waits for a block. Kind 1, an attack on a light client, is judged by this
        node's chain: what it proves of single validators becomes evidence of kind 0, the rest stands in the log.
        """
        try:
            piece = proof_from_bytes(evidence)
            if isinstance(piece, LightClientAttack):
                self._services.divergences.add(piece)
            else:
                self._services.evidence.add(piece)
        except BadMessage as false:
            raise InvalidParams(f"evidence proves nothing: {false}", false.code, parameter="evidence") from None
        except Uncounted as reason:
            return {"hash": piece.id.hex(), "code": reason.code, "text": str(reason)}
        return {"hash": piece.id.hex(), "code": "", "text": ""}

    @method
    async def unconfirmed_evidence(self) -> Any:
        """Evidence that waits for a block, one piece for each validator."""
        return {"evidence": [shapes.evidence_json(piece) for piece in self._services.evidence.ripe()]}
