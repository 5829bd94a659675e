"""How a node is, for whoever runs it: `/livez`, `/readyz` and `/metrics` on a Unix socket.

Rules: there is no port. The socket belongs to the node's user with mode 0600, and the kernel says
who has connected (SO_PEERCRED): that user, or root. A request is one GET with a bounded head, a
connection is one request, and there are few connections at a time, each for a few seconds.
"""

import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from stat import S_ISSOCK
from typing import Final

import structlog
import trio

from appliance.errors import ConfigurationError
from appliance.limits import HEALTH_PATIENCE_S, MAX_HEALTH_CONNECTIONS, MAX_HEALTH_HEAD_BYTES

_CREDENTIALS: Final = struct.Struct("3i")
_ROOT: Final = 0
_END_OF_HEAD: Final = b"\r\n\r\n"
_TEXT: Final = "text/plain; charset=utf-8"
METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_log: Final[structlog.typing.FilteringBoundLogger] = structlog.get_logger(__name__)


class HealthSocket:
    """Serves one node's health from `bind` on."""

    def __init__(
        self, path: Path, *, is_ready: Callable[[], bool], metrics: Callable[[], bytes]
    ) -> None:
        """`is_ready` says whether clients are served; `metrics` gives Prometheus' text."""
        self._path = path
        self._is_ready = is_ready
        self._metrics = metrics
        self._connections = 0

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listens until cancelled. Raises ConfigurationError when the path cannot be used."""
        listener = self._bound()
        try:
            async with trio.open_nursery() as nursery:
                task_status.started()
                while True:
                    accepted, _ = await listener.accept()
                    if self._connections >= MAX_HEALTH_CONNECTIONS or not _is_owner(accepted):
                        accepted.close()
                        continue
                    self._connections += 1
                    nursery.start_soon(self._serve, trio.SocketStream(accepted))
        finally:
            listener.close()
            self._path.unlink(missing_ok=True)

    def _bound(self) -> trio.socket.SocketType:
        """The socket, which nobody else could open at any moment."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)
        try:
            if self._path.exists() and S_ISSOCK(self._path.lstat().st_mode):
                self._path.unlink()  # of a life before, which was killed
            listener.bind(str(self._path))
            listener.listen(MAX_HEALTH_CONNECTIONS)
        except OSError as error:
            listener.close()
            raise ConfigurationError(
                f"node.health_socket: cannot listen on {self._path}: {error.strerror or error}"
            ) from None
        finally:
            os.umask(before)
        listener.setblocking(False)
        return trio.socket.from_stdlib_socket(listener)

    async def _serve(self, stream: trio.SocketStream) -> None:
        try:
            with trio.move_on_after(HEALTH_PATIENCE_S):
                async with stream:
                    target = _target(await _head(stream))
                    await stream.send_all(self._answer(target))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return
        finally:
            self._connections -= 1

    def _answer(self, target: str | None) -> bytes:
        match target:
            case None:
                return _response("400 Bad Request", b"one GET, and no more\n")
            case "/livez":
                return _response("200 OK", b"alive\n")
            case "/readyz":
                if self._is_ready():
                    return _response("200 OK", b"ready\n")
                return _response("503 Service Unavailable", b"not serving: see the node's log\n")
            case "/metrics":
                return _response("200 OK", self._metrics(), METRICS_TYPE)
            case _:
                return _response("404 Not Found", b"/livez, /readyz, /metrics\n")


async def _head(stream: trio.SocketStream) -> bytes:
    """A request's head; what does not end within the bound comes back without its end."""
    head = bytearray()
    while _END_OF_HEAD not in head and len(head) < MAX_HEALTH_HEAD_BYTES:
        received = await stream.receive_some(MAX_HEALTH_HEAD_BYTES - len(head))
        if not received:
            break
        head += received
    return bytes(head)


def _target(head: bytes) -> str | None:
    """What is asked for, or None of what is no request."""
    if not head.endswith(_END_OF_HEAD):
        return None
    words = head.split(b"\r\n", 1)[0].split(b" ")
    if len(words) != 3 or words[0] != b"GET" or words[2] not in {b"HTTP/1.1", b"HTTP/1.0"}:
        return None
    return words[1].decode("ascii", "replace")


def _response(status: str, body: bytes, content_type: str = _TEXT) -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
        "Cache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


def _is_owner(accepted: trio.socket.SocketType) -> bool:
    """Whether the process at the other end is this node's user, or root."""
    held = accepted.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    user = _CREDENTIALS.unpack(held)[1]
    if user not in {os.geteuid(), _ROOT}:
        _log.warning("a connection for the node's health was refused", user=user)
        return False
    return True
