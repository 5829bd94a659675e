"""One side of the comparison: a connection, what it answered, and what it has of its own."""

import socket
import ssl
import struct
from collections.abc import Callable
from typing import Final

from kafka_declared import request_frame
from messages import BY_NAME, Row, answer, body

from appliance.errors import ProtocolViolation
from appliance.wire.kafka.apis import api_versions

PATIENCE_S: Final = 1.5
"""For an answer, before there is said to be none."""

Outcome = Row | str
"""An answer, or `closed`, or `no answer`, or why it cannot be read."""


class Side:
    """Kafka, or the appliance."""

    def __init__(self, name: str, connect: Callable[[], socket.socket]) -> None:
        self.name = name
        self._connect = connect
        self._socket: socket.socket | None = None
        self.kept: dict[str, object] = {}
        """What cases of one scope remember."""
        self._ids: dict[str, object] = {}
        self.sessions: set[object] = set()
        """Numbers of sessions that were given here."""
        self.epoch = 0
        """Of the leader of every partition here; nothing moves in one node."""

    def topic_id(self, name: str) -> object:
        """A topic's id, as Metadata gives it; None if there is no such topic."""
        if name not in self._ids:
            asked = [{"name": name, "topic_id": None}]
            told = self.ask("Metadata", 12, {
                "topics": asked, "allow_auto_topic_creation": False, "topic_operations": False,
            })  # fmt: skip
            if not isinstance(told, dict):
                raise TypeError(told)
            topic = told["topics"][0]
            if topic["topic_id"] is None:
                return None
            self._ids[name] = topic["topic_id"]
            self.epoch = topic["partitions"][0]["leader_epoch"]
        return self._ids[name]

    def ask(
        self, name: str, version: int, values: Row, change: Callable[[bytes], bytes] | None = None
    ) -> Outcome:
        """Sends one request and waits for its answer."""
        self.send(name, version, values, change)
        return self.receive(name, version)

    def send(
        self, name: str, version: int, values: Row, change: Callable[[bytes], bytes] | None = None
    ) -> None:
        """Sends one request, its frame changed by `change`."""
        api = BY_NAME[name]
        frame = request_frame(api, version, body(api, version, values, self))
        if change is not None:
            frame = change(frame)
        self.send_raw(struct.pack(">i", len(frame)) + frame)

    def receive(self, name: str, version: int) -> Outcome:
        """The answer to what was sent last."""
        api = BY_NAME[name]
        answered = self.receive_raw()
        if isinstance(answered, str):
            return answered
        header = 4 + (api.is_flexible(version) and api is not api_versions.API)
        try:
            return answer(api, version, answered[header:])
        except ProtocolViolation as violation:
            return f"not readable: {violation}"

    def send_raw(self, data: bytes) -> None:
        """Sends bytes; what becomes of them, `receive_raw` tells."""
        try:
            if self._socket is None:
                self._socket = self._connect()
                self._socket.settimeout(PATIENCE_S)
            self._socket.sendall(data)
        except (OSError, ssl.SSLError):
            self.close()

    def receive_raw(self) -> bytes | str:
        """The next frame, or `closed`, or `no answer`."""
        try:
            (size,) = struct.unpack(">i", self._exactly(4))
            return self._exactly(size)
        except TimeoutError:
            self.close()
            return "no answer"
        except (ConnectionError, ssl.SSLError):
            self.close()
            return "closed"

    def _exactly(self, count: int) -> bytes:
        received = bytearray()
        while len(received) < count:
            chunk = self._socket.recv(count - len(received)) if self._socket else b""
            if not chunk:
                raise ConnectionError
            received += chunk
        return bytes(received)

    def close(self) -> None:
        """Ends the connection; the next request opens another."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
