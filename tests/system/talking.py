"""A Kafka client of a few lines, on the standard library's TLS: bytes that are not our own.

Requests are written by hand from the protocol's guide, in versions before tagged fields.
"""

import socket
import ssl
import struct

import google_crc32c


def string(text):
    return struct.pack(">h", len(text)) + text.encode()


def array(*items):
    return struct.pack(">i", len(items)) + b"".join(items)


NULL = struct.pack(">h", -1)


def one_record():
    """A batch v2 of one record whose value is `h`."""
    record = b"\x0e\0\0\0\x01\x02h\0"
    covered = struct.pack(">hiqqqhii", 0, 0, 0, 0, -1, -1, -1, 1) + record
    crc = google_crc32c.value(covered)
    return struct.pack(">qiibI", 0, 9 + len(covered), -1, 2, crc) + covered


def requests(topic):
    """(API key, version, body) for each way in which a topic may be named."""
    name, group = string(topic), string("a-group")
    part = struct.pack(">i", 0)
    batch = struct.pack(">i", len(one_record())) + one_record()
    at = part + struct.pack(">qi", 0, 1_000_000)
    join = group + struct.pack(">ii", 6_000, 6_000) + string("") + string("consumer")
    committed = part + struct.pack(">q", 1) + string("")
    created = name + struct.pack(">ih", 1, 1) + array() + array()
    return {
        "produce": (0, 3, NULL + struct.pack(">hi", -1, 900) + array(name + array(part + batch))),
        "fetch": (1, 4, struct.pack(">iiiib", -1, 0, 0, 1 << 20, 0) + array(name + array(at))),
        "list offsets": (2, 1, struct.pack(">i", -1) + array(name + array(part + b"\xff" * 8))),
        "metadata": (3, 4, array(name) + b"\1"),
        "metadata of all": (3, 4, struct.pack(">i", -1) + b"\1"),
        "commit": (
            8,
            2,
            group
            + struct.pack(">i", -1)
            + string("")
            + struct.pack(">q", -1)
            + array(name + array(committed)),
        ),
        "committed": (9, 1, group + array(name + array(part))),
        "join": (11, 1, join + array(string("range") + struct.pack(">i", 0))),
        "create": (19, 2, array(created) + struct.pack(">i", 900) + b"\0"),
        "delete": (20, 1, array(name) + struct.pack(">i", 900)),
    }


class Client:
    """One connection."""

    def __init__(self, port, *, ca, certificate=None, key=None):
        context = ssl.create_default_context(cafile=ca)
        if certificate is not None:
            context.load_cert_chain(certificate, key)
        self._socket = context.wrap_socket(
            socket.create_connection(("127.0.0.1", port), timeout=20), server_hostname="127.0.0.1"
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._socket.close()

    def ask(self, api_key, version, body):
        """The response's body; ssl.SSLError when the peer answers by an alert."""
        header = struct.pack(">hhi", api_key, version, 7) + string("raw")
        frame = header + body
        self._socket.sendall(struct.pack(">i", len(frame)) + frame)
        (size,) = struct.unpack(">i", self._exactly(4))
        correlation, *_ = struct.unpack(">i", self._exactly(4))
        assert correlation == 7
        return self._exactly(size - 4)

    def send(self, data):
        self._socket.sendall(data)

    def end_after(self, data):
        """Whether the peer ends the connection after these bytes, answering nothing."""
        self.send(data)
        try:
            return self._socket.recv(1) == b""
        except ConnectionError:
            return True

    def _exactly(self, count):
        received = b""
        while len(received) < count:
            chunk = self._socket.recv(count - len(received))
            assert chunk, "the peer ended the connection"
            received += chunk
        return received
