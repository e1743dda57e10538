"""Methods about evidence that waits: hand a piece in, and see what is there."""

from __future__ import annotations

from typing import Any

from consensus.codec import BadMessage, decode
from consensus.evidence import EVIDENCE_BYTES_MAX, Uncounted, from_wire
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
        """Hands evidence in (the codec's bytes of [kind, fields]) and says whether it waits for a block (code "")."""
        try:
            piece = from_wire(decode(evidence, bytes_max=EVIDENCE_BYTES_MAX))
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
