"""Nodes that lie to their clients: an HTTP server before a real node, which changes answers on the way."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from consensus.signing import sign
from consensus.vote import VoteKind, vote_sign_bytes
from node.rpc import shapes
from tests.stories.network import Network

Tamper = Callable[[str, Any], Any]
"""Method and honest answer in, what is said instead out."""


@contextmanager
def lying(node: str, tamper: Tamper) -> Iterator[str]:
    """The URL of a server that passes calls on to *node*, and answers what *tamper* makes of the results."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            request = urllib.request.Request(node, body, {"Content-Type": "application/json"})
            try:
                with urllib.request.urlopen(request, timeout=40) as reply:
                    answer = json.load(reply)
            except urllib.error.HTTPError as error:
                with error:
                    answer = json.load(error)
            if "result" in answer:
                answer["result"] = tamper(json.loads(body)["method"], answer["result"])
            data = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *arguments: Any) -> None:
            """Nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)


class Fork:
    """A `Tamper` of two validators, more than a third of *network*'s power, who show blocks of a chain of their own.

    It convinces a light client that skips: the block after one that was shown honestly must follow from it, so it is
    shown as it is.
    """

    def __init__(self, network: Network, *numbers: int) -> None:
        self.on = False
        self.liars = [network.validator_key(number).public_key for number in numbers]
        seeds = [network.validator_key(number).unlock() for number in numbers]
        self._seeds = dict(zip(self.liars, seeds, strict=True))
        self._chain_id = network.record.chain_id
        self._shown = 0
        """The latest height that was shown as it is."""

    def __call__(self, method: str, answer: Any) -> Any:
        """The forged light block; everything else as it is."""
        if method != "light_block":
            return answer
        height = answer["header"]["height"]
        if not self.on or height < self._shown + 2:
            self._shown = max(self._shown, height)
            return answer
        return self._forged(answer)

    def _forged(self, answer: Any) -> Any:
        members = [each for each in answer["validators"] if bytes.fromhex(each["public_key"]) in self._seeds]
        hash_ = shapes.validators_from_json(members).hash.hex()
        answer["header"].update(app_hash="ab" * 32, validators_hash=hash_, next_validators_hash=hash_)
        header = shapes.header_from_json(answer["header"])
        round_ = answer["commit"]["round"]
        message = vote_sign_bytes(self._chain_id, VoteKind.PRECOMMIT, header.height, round_, header.id)
        signatures = [sign(self._seeds[bytes.fromhex(each["public_key"])], message).hex() for each in members]
        entries = [{"for_block": True, "signature": signature} for signature in signatures]
        commit = {**answer["commit"], "block_id": header.id.hex(), "entries": entries}
        return {**answer, "commit": commit, "validators": members, "next_validators": members}
