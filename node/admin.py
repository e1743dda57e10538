"""What only the operator of this machine may ask of a running node: a Unix socket in its home, JSON by lines."""

from __future__ import annotations

import json
import math
import os
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
import trio

from node.backup import write_backup
from node.home import Home
from node.invite import PEERS_MAX, Invite, Terms
from node.store_environment import StoreFailed
from p2p.address import PeerAddress
from p2p.scores import BAN_SECONDS_MAX

if TYPE_CHECKING:
    from node.services import Services  # the whole node, which a command that only calls one need not load

_log = structlog.get_logger("admin")

SOCKET_NAME = "admin.sock"
LINE_BYTES_MAX = 64 * 1024
ANSWER_BYTES_MAX = 16 * 2**20
"""Of the longest list of peers and bans, several times over."""
CONNECTIONS_MAX = 8
CALL_SECONDS = 30
PROGRESS_SECONDS = 1


class AdminRefused(Exception):
    """The node can't do what the operator asks; says why."""


class NotRunning(Exception):
    """No node runs in this home; says what to do."""


class Admin:
    """Answers the operator's commands."""

    def __init__(self, services: Services, stop: Callable[[], None]) -> None:
        """*stop* begins the node's orderly end; it must return at once."""
        self._services = services
        self._stop = stop
        self._commands = {
            "stop": self._do_stop,
            "invite": self._invite,
            "peers": self._peers,
            "backup": self._bad_backup,
            "ban": self._ban,
            "unban": self._unban,
        }

    async def serve(self, *, task_status: trio.TaskStatus[Path] = trio.TASK_STATUS_IGNORED) -> None:
        """Serves HOME/admin.sock (mode 0600) until cancelled. The caller holds the lock on the home's data."""
        path = self._services.home / SOCKET_NAME
        listener = _listen(path)
        try:
            task_status.started(path)
            await trio.serve_listeners(self._client, [listener])
        finally:
            listener.socket.close()
            path.unlink(missing_ok=True)

    async def _client(self, stream: trio.SocketStream) -> None:
        with trio.move_on_after(CALL_SECONDS) as scope:
            try:
                async with stream:
                    line = await _read_line(stream)
                    backup = _backup_file(line)
                    if backup is not None:
                        scope.deadline = math.inf  # it takes as long as the disk; a command that goes away ends it
                        await self._back_up(stream, backup)
                        return
                    answer, then = self.answer(line)
                    await stream.send_all(json.dumps(answer).encode() + b"\n")
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return  # the operator's command went away
            if then is not None:
                then()

    async def _back_up(self, stream: trio.SocketStream, file: Path) -> None:
        """A backup of this node is in *file*; the operator is told of progress, line by line, and of the end.

        A command that goes away ends it. Raises StoreFailed, BrokenResourceError.
        """
        services = self._services
        told: tuple[int, int] = (0, 0)
        answer: dict[str, Any] = {}

        def tell(done: int, total: int) -> None:
            nonlocal told
            told = (done, total)

        async def say() -> None:
            try:
                while True:
                    await trio.sleep(PROGRESS_SECONDS)
                    await stream.send_all(json.dumps({"progress": told}).encode() + b"\n")
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                nursery.cancel_scope.cancel()

        _log.info("backup_started", file=str(file))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(say)
            try:
                answer = {"result": await write_backup(services.store, Home(services.home), file, tell)}
            except StoreFailed:
                raise  # our own disk: the node stops
            except OSError as error:
                answer = _refusal(f"no backup was written: {error}")
            nursery.cancel_scope.cancel()
        if "result" in answer:
            _log.info("backup_written", file=str(file), height=answer["result"]["height"])
        else:
            _log.warning(
                "backup_failed", file=str(file), why=answer["error"]["message"] if answer else "the command ended"
            )
        await stream.send_all(json.dumps(answer).encode() + b"\n")

    def answer(self, line: bytes) -> tuple[dict[str, Any], Callable[[], None] | None]:
        """The answer to one command, and what to do once it was sent."""
        try:
            request = json.loads(line)
            command = self._commands.get(request["command"])
            arguments = {name: value for name, value in request.items() if name != "command"}
        except (ValueError, RecursionError, KeyError, TypeError):
            return _refusal("a command is a JSON object with the member command"), None
        if command is None:
            return _refusal(f"there is no such command; there are {', '.join(self._commands)}"), None
        try:
            result = command(arguments)
        except AdminRefused as error:
            return _refusal(str(error)), None
        return {"result": result}, self._stop if command == self._do_stop else None

    def _do_stop(self, arguments: dict[str, Any]) -> Any:
        _log.info("stop_requested")
        return {"stopping": True}

    def _bad_backup(self, arguments: dict[str, Any]) -> Any:
        raise AdminRefused("backup needs the absolute path of a file that is not there yet")

    def _peers(self, arguments: dict[str, Any]) -> Any:
        """All that is known of peers and bans, private ones included."""
        return self._services.network.net_info(private=True)

    def _ban(self, arguments: dict[str, Any]) -> Any:
        network, node_id = self._services.network, self._known_node(arguments)
        seconds = arguments.get("seconds")
        if type(seconds) is not int or not 1 <= seconds <= BAN_SECONDS_MAX:
            raise AdminRefused(f"a ban lasts 1…{BAN_SECONDS_MAX} seconds")
        if network.named.is_welcome(node_id):
            raise AdminRefused("config.toml names this node as persistent or unconditional; take it out there first")
        network.ban(node_id, seconds)
        _log.info("peer_banned_by_operator", peer=node_id, seconds=seconds)
        return {"node_id": node_id.hex(), "seconds": seconds}

    def _unban(self, arguments: dict[str, Any]) -> Any:
        node_id = self._known_node(arguments)
        if not self._services.network.unban(node_id):
            raise AdminRefused("this node has neither a ban nor points")
        return {"node_id": node_id.hex()}

    def _known_node(self, arguments: dict[str, Any]) -> bytes:
        """The node that ``node_id`` means: the whole id, or the beginning of that of one peer or ban."""
        network, text = self._services.network, arguments.get("node_id")
        if not isinstance(text, str) or not re.fullmatch(r"[0-9a-f]{8,64}", text):
            raise AdminRefused("a node id is 64 hex digits; the first 8 will do if it is connected or banned")
        known = {*network.peers, *(ban.node_id for ban in network.bans())}
        found = [node_id for node_id in known if node_id.hex().startswith(text)]
        if len(found) == 1:
            return found[0]
        if len(text) == 64:
            return bytes.fromhex(text)
        raise AdminRefused(f"{'several nodes begin' if found else 'no peer and no ban begins'} with {text}")

    def _invite(self, arguments: dict[str, Any]) -> Any:
        """A link to this node and its peers, with the latest block as its trust root."""
        services = self._services
        chain = services.store.chain_state()
        assert chain is not None, "the node serves once the genesis is stored"
        now_ms = services.now_ms()
        terms = Terms(
            chain_id=services.chain_id,
            genesis_hash=services.genesis.hash,
            height=chain.height,
            block_id=chain.block_id,
            time_ms=chain.time_ms,
            issued_ms=now_ms,
            expires_ms=now_ms + chain.params.trusting_period_ms,
            peers=self._invite_peers(),
            voucher=_seed(arguments.get("voucher")),
            issuer=services.network.node_id,
        )
        link = Invite.issue(terms, services.node_seed).link()
        return {"link": link, "expires_ms": terms.expires_ms, "height": terms.height, "peers": list(terms.peers)}

    def _invite_peers(self) -> tuple[str, ...]:
        """This node first, then peers that listen and that it reached itself, so that the link outlives one machine."""
        services = self._services
        own = own_address(services)
        network = services.network
        others = [
            str(peer.address)
            for peer in network.peers.values()
            if peer.outbound and peer.address and peer.id not in network.named.private
        ]
        return tuple(dict.fromkeys([str(own), *others]))[:PEERS_MAX]


def own_address(services: Services) -> PeerAddress:
    """Where peers reach this node: its external address if set, else where it listens."""
    network = services.network
    external = services.config.p2p.external_address
    if external:
        return PeerAddress.parse(f"{network.node_id.hex()}@{external}")
    bound = network.bound_address
    if bound is None:
        raise AdminRefused("this node does not listen for peers: set p2p.listen or p2p.external_address in config.toml")
    return PeerAddress(network.node_id, bound.host, bound.port)


def call(
    home: Path, command: str, *, progress: Callable[[int, int], None] = lambda done, total: None, **arguments: Any
) -> Any:
    """What the node that runs in *home* answers to *command*; long ones tell their *progress* first.

    Raises NotRunning or AdminRefused.
    """
    path = home / SOCKET_NAME
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
        channel.settimeout(CALL_SECONDS)
        try:
            with _short(path) as name:
                channel.connect(name)
            channel.sendall(json.dumps({"command": command, **arguments}).encode() + b"\n")
            with channel.makefile("rb") as file:
                answer = json.loads(file.readline(ANSWER_BYTES_MAX))
                while "progress" in answer:
                    progress(*answer["progress"])
                    answer = json.loads(file.readline(ANSWER_BYTES_MAX))
        except (FileNotFoundError, ConnectionRefusedError):
            raise NotRunning(f"no node runs in {home}; start it with: allting start --home {home}") from None
        except (OSError, ValueError) as error:
            raise NotRunning(f"the node in {home} does not answer ({error}); look at its log") from error
    if "error" in answer:
        raise AdminRefused(answer["error"]["message"])
    return answer["result"]


def _listen(path: Path) -> trio.SocketListener:
    path.unlink(missing_ok=True)  # left by a node that was killed: its lock is ours now
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    former = os.umask(0o177)
    try:
        with _short(path) as name:
            opened.bind(name)
    except OSError:
        opened.close()
        raise
    finally:
        os.umask(former)
    opened.listen(CONNECTIONS_MAX)
    return trio.SocketListener(trio.socket.from_stdlib_socket(opened))


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """A name for *path* that fits into the 108 bytes of a Unix socket's address, however deep the home lies."""
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{path.name}"
    finally:
        os.close(descriptor)


async def _read_line(stream: trio.SocketStream) -> bytes:
    line = bytearray()
    while not line.endswith(b"\n") and len(line) <= LINE_BYTES_MAX:
        part = await stream.receive_some(LINE_BYTES_MAX)
        if not part:
            break
        line += part
    return bytes(line)


def _backup_file(line: bytes) -> Path | None:
    """Where the command in *line* wants a backup written, None if it wants something else."""
    try:
        request = json.loads(line)
        file = request["file"] if request["command"] == "backup" else ""
        return Path(file) if isinstance(file, str) and Path(file).is_absolute() else None
    except (ValueError, RecursionError, KeyError, TypeError):
        return None


def _seed(value: Any) -> bytes | None:
    if value is None:
        return None
    try:
        seed = bytes.fromhex(value)
    except (TypeError, ValueError):
        raise AdminRefused("a voucher is 32 bytes in hex") from None
    if len(seed) != 32:
        raise AdminRefused("a voucher is 32 bytes in hex")
    return seed


def _refusal(text: str) -> dict[str, Any]:
    return {"error": {"message": text}}
