"""Load for the TLS limits: one process, the standard library's OpenSSL straight on the sockets.

Usage: `tls_load.py JSON`; prints what it found as JSON.
"""

import json
import selectors
import socket
import ssl
import sys
import time

MIB = 1 << 20
REQUEST_BYTES = 1024


def connected(job: dict[str, str]) -> ssl.SSLSocket:
    """A mutual TLS 1.3 connection to the server of the limits."""
    context = ssl.create_default_context(cafile=job["ca"])
    context.check_hostname = False
    context.load_cert_chain(job["certificate"], job["key"])
    plain = socket.create_connection(("127.0.0.1", int(job["port"])))
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return context.wrap_socket(plain)


def sent(job: dict[str, str]) -> float:
    """MB/s that the server receives."""
    with connected(job) as connection:
        connection.sendall(b"r")
        time.sleep(0.1)  # The request is a record of its own: the server reads it alone.
        data, count = bytes(MIB), 0
        began = time.perf_counter()
        while time.perf_counter() - began < float(job["seconds"]):
            connection.sendall(data)
            count += MIB
        connection.unwrap()  # The server has read everything when it answers.
        return count / (time.perf_counter() - began) / 1e6


def received(job: dict[str, str]) -> float:
    """MB/s that the server sends."""
    with connected(job) as connection:
        connection.sendall(b"s")
        room, count = bytearray(MIB), 0
        connection.recv_into(room)
        began = time.perf_counter()
        while time.perf_counter() - began < float(job["seconds"]):
            count += connection.recv_into(room)
        return count / (time.perf_counter() - began) / 1e6


def echoed(job: dict[str, str]) -> float:
    """1 KiB requests/s that the server echoes, over several connections, some in flight on each."""
    selector, request = selectors.DefaultSelector(), bytes(REQUEST_BYTES)
    left = {}
    for _ in range(int(job["connections"])):
        connection = connected(job)
        connection.sendall(b"e")
        time.sleep(0.01)
        connection.setblocking(False)
        selector.register(connection, selectors.EVENT_READ)
        left[connection] = 0
        for _ in range(int(job["in_flight"])):
            connection.send(request)
    replies, began = 0, time.perf_counter()
    while time.perf_counter() - began < float(job["seconds"]):
        for key, _ in selector.select():
            connection = key.fileobj
            count, left[connection] = divmod(left[connection] + drained(connection), REQUEST_BYTES)
            replies += count
            for _ in range(count):
                connection.send(request)
    return replies / (time.perf_counter() - began)


def drained(connection: ssl.SSLSocket) -> int:
    """Bytes that have arrived."""
    size = 0
    while True:
        try:
            size += len(connection.recv(64 * REQUEST_BYTES))
        except ssl.SSLWantReadError:
            return size
        if not connection.pending():
            return size


def main() -> None:
    """Runs the job."""
    job = json.loads(sys.argv[1])
    began = time.process_time()
    rate = {"receive": sent, "send": received, "echo": echoed}[job["what"]](job)
    print(json.dumps({"rate": rate, "load_cpu_s": time.process_time() - began}))


if __name__ == "__main__":
    main()
