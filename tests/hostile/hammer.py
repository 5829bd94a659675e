"""Hostile requests over real TLS, one after another, at a steady pace; a process of its own.

A connection is used until the node ends it. What is counted: requests sent, connections that the
node ended for one, answers, and requests for which there was neither in time.
"""

import socket
import ssl
import struct
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import cramjam
import google_crc32c

from appliance.wire.kafka.apis.registry import APIS
from appliance.wire.kafka.compression import Codec, compress
from appliance.wire.kafka.records import Record, encode_batch
from tests.hostile.attackers import Attackers, Reins
from tests.hostile.frames import COUNTS, NATIVE, SPACE_BYTES, crowded, deep_token, with_counts

sys.path.append(str(Path(__file__).parents[1] / "unit" / "kafka"))
from kafka_declared import request_frame

COMPACTED: Final = "compacted"
FIELDS: Final = ("sent", "ended", "answered", "unanswered", "cpu_ms")
PATIENCE_S: Final = 10.0
_BOMB_BYTES: Final = 256 << 20
_CODECS: Final = (Codec.GZIP, Codec.SNAPPY, Codec.LZ4, Codec.ZSTD)

Hostile = tuple[str, str, bytes]
"""Listener, user, and a frame without its size."""


def counts() -> Iterator[Hostile]:
    """Each count and length of each version of each API, as 2^31-1, -2 and one beyond."""
    for api in APIS:
        for version in api.versions():
            flexible = api.is_flexible(version)
            for number in COUNTS.values():
                for start in with_counts(api.request, version, flexible, number):
                    yield "kafka", "nobody", request_frame(api, version, start + bytes(SPACE_BYTES))


def narrow() -> Iterator[Hostile]:
    """A megabyte of the narrowest elements, for each array."""
    for api in APIS:
        for version in {api.lowest, api.highest}:
            size = min(1 << 20, api.max_request_bytes - 512)
            for body in crowded(api.request, version, api.is_flexible(version), size):
                yield "kafka", "nobody", request_frame(api, version, body)


def depths() -> Iterator[Hostile]:
    """Values within values, where the native dialect and a token's JSON could nest."""
    for frame in NATIVE.values():
        yield "native", "nobody", frame
    handshake = b"\0\x0bOAUTHBEARER"
    yield "login", "", struct.pack(">hhih", 17, 1, 0, -1) + handshake
    token = deep_token()
    yield "login", "", struct.pack(">hhihi", 36, 0, 0, -1, len(token)) + token


def bombs() -> Iterator[Hostile]:
    """Batches for a compacted topic that would become 256 MiB, in each codec; snappy both ways."""
    plain = bytes(_BOMB_BYTES)
    packed = [
        (codec, bytes(compress(codec, plain))) for codec in _CODECS if codec is not Codec.SNAPPY
    ]
    packed.append((Codec.SNAPPY, bytes(compress(Codec.SNAPPY, plain[: 60 << 20]))))
    packed.append((Codec.SNAPPY, bytes(cramjam.snappy.compress_raw(plain[: 60 << 20]))))
    for codec, data in packed:
        batch = _with_records(codec, data)
        if len(batch) < (8 << 20):
            name = struct.pack(">h", len(COMPACTED)) + COMPACTED.encode()
            part = struct.pack(">iii", 1, 0, len(batch)) + batch
            body = struct.pack(">hhii", -1, -1, 900, 1) + name + part
            yield "kafka", "admin", struct.pack(">hhih", 0, 3, 0, -1) + body


def _with_records(codec: Codec, data: bytes) -> bytes:
    """A batch whose compressed records are `data`, its CRC right."""
    head = bytearray(encode_batch([Record(b"k", b"v", (), 0, 0)], codec=codec)[:61])
    struct.pack_into(">i", head, 8, 49 + len(data))
    struct.pack_into(">I", head, 17, google_crc32c.value(bytes(head[21:]) + data))
    return bytes(head) + data


def telemetry() -> Iterator[Hostile]:
    """Pushes that would become 256 MiB; the instance and its subscription are asked for first."""
    plain = bytes(_BOMB_BYTES)
    for codec in _CODECS:
        data = bytes(compress(codec, plain if codec is not Codec.SNAPPY else plain[: 16 << 20]))
        yield "kafka", f"admin push {int(codec)}", data


WAYS: Final[dict[str, Callable[[], Iterator[Hostile]]]] = {
    way.__name__: way for way in (counts, narrow, depths, bombs, telemetry)
}


class Hammer(Attackers):
    """Sends one way's requests over and over."""

    def __init__(self, way: str, ports: dict[str, int], folder: Path, per_s: float) -> None:
        """`folder` holds the certificates of the appliance's clients."""
        super().__init__(FIELDS, _hammer, [(way, ports, folder, per_s)])


def _hammer(reins: Reins, way: str, ports: dict[str, int], folder: Path, per_s: float) -> None:
    open_ones: dict[tuple[str, str], ssl.SSLSocket] = {}
    prepared = list(WAYS[way]())
    reins.wait_for_start()
    told, until = reins.told, reins.until
    number, due = 0, time.monotonic()
    while not until.is_set():
        for listener, user, frame in prepared:
            if until.is_set():
                break
            name, *push = user.split(" push ")
            connection = open_ones.get((listener, name))
            number += 1
            try:
                if connection is None:
                    connection = _connect(ports[listener], folder, name, number)
                    open_ones[listener, name] = connection
                sent = _push(connection, int(push[0]), frame) if push else frame
                connection.sendall(struct.pack(">I", len(sent)) + sent)
                told[0] += 1
                outcome = 2 if _answer(connection) else 1
            except TimeoutError:
                outcome = 3
            except OSError:
                outcome = 1
            told[outcome] += 1
            if outcome != 2:
                open_ones.pop((listener, name), None)
                if connection is not None:
                    connection.close()
            told[4] = int(time.process_time() * 1000)
            due = max(due + 1 / per_s, time.monotonic() - 1)
            time.sleep(max(0.0, due - time.monotonic()))


def _connect(port: int, folder: Path, user: str, number: int) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=folder / "ca.pem")
    if user:
        context.load_cert_chain(folder / f"{user}.pem", folder / f"{user}.key")
    source = (f"127.60.{number // 250 % 250}.{1 + number % 250}", 0)
    raw = socket.create_connection(("127.0.0.1", port), PATIENCE_S, source)
    return context.wrap_socket(raw, server_hostname="127.0.0.1")


def _answer(connection: ssl.SSLSocket) -> bytes:
    """An answer's bytes without their size; none if the node has ended the connection."""
    head = _exactly(connection, 4)
    return head and _exactly(connection, struct.unpack(">I", head)[0])


def _exactly(connection: ssl.SSLSocket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = connection.recv(size - len(data))
        if not chunk:
            return b""
        data += chunk
    return data


def _push(connection: ssl.SSLSocket, codec: int, data: bytes) -> bytes:
    """A push of a new instance's."""
    ask = struct.pack(">hhih", 71, 0, 1, -1) + b"\0" + bytes(16) + b"\0"
    connection.sendall(struct.pack(">I", len(ask)) + ask)
    told = _answer(connection)
    instance, subscription = told[11:27], told[27:31]
    size = bytearray()
    left = len(data) + 1
    while left > 0x7F:
        size.append(left & 0x7F | 0x80)
        left >>= 7
    size.append(left)
    head = struct.pack(">hhih", 72, 0, 2, -1) + b"\0" + instance + subscription + b"\0"
    return head + bytes((codec,)) + bytes(size) + data + b"\0"
