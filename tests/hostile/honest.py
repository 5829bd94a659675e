"""An honest client beside the attack: small produces and fetches at a steady rate, each timed.

It is a process of its own. Requests are due at fixed times, and a request's time is counted from
when it was due, so that one that is held up makes those behind it late as well, as users see it.
"""

import multiprocessing
import socket
import ssl
import struct
import threading
import time
from collections.abc import Sequence
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Final

from tests.hostile.appliance_under_attack import TOPIC, Target
from tests.system.conftest import spent_s
from tests.system.talking import array, requests, string

_FIRST_BATCH: Final = struct.pack(">iqi", 0, 0, 1)
_REQUESTS: Final = {
    "produce": requests(TOPIC)["produce"],
    "fetch": (
        1,
        4,
        struct.pack(">iiiib", -1, 0, 0, 1, 0) + array(string(TOPIC) + array(_FIRST_BATCH)),
    ),
}
_SAMPLE: Final = struct.Struct("dd")
RATE: Final = 200
"""Requests a second, together."""
_MOST_BEHIND_S: Final = 2.0
"""What is due longer than that is left out, or one stop would be all that is seen from then on."""
_KINDS: Final = tuple(_REQUESTS)


class HonestClient:
    """Runs from `start` to `stop`; `latencies` may be read at any time."""

    def __init__(self, target: Target, folder: Path) -> None:
        """Keeps its samples in `folder`."""
        self._files = {kind: folder / f"samples-{kind}" for kind in _KINDS}
        self._stop: Event = multiprocessing.get_context("spawn").Event()
        self._process = multiprocessing.get_context("spawn").Process(
            target=_ask_steadily,
            args=(target.ports["kafka"], target.certificates, self._files, self._stop),
            daemon=True,
        )

    def start(self) -> None:
        """Begins to ask; returns when the first answers are there."""
        self._process.start()
        deadline = time.monotonic() + 30
        while not all(file.exists() and file.stat().st_size for file in self._files.values()):
            assert time.monotonic() < deadline, "an honest client is not answered"
            time.sleep(0.05)

    def stop(self) -> None:
        """Ends it."""
        self._stop.set()
        self._process.join(10)

    @property
    def spent_s(self) -> float:
        """Processor time of the client."""
        return float(spent_s(self._process.pid)) if self._process.is_alive() else 0.0

    def latencies(
        self, windows: Sequence[tuple[float, float]], kinds: Sequence[str] = _KINDS
    ) -> list[float]:
        """Seconds that requests took which were due within the windows (monotonic time)."""
        found = []
        for kind in kinds:
            data = self._files[kind].read_bytes()
            whole = data[: len(data) // _SAMPLE.size * _SAMPLE.size]
            for due, took in _SAMPLE.iter_unpack(whole):
                if any(begin <= due < end for begin, end in windows):
                    found.append(took)
        return found


def _ask_steadily(port: int, certificates: Path, files: dict[str, Path], stop: Event) -> None:
    threads = [
        threading.Thread(target=_ask, args=(port, certificates, kind, file, stop, place))
        for place, (kind, file) in enumerate(files.items())
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _ask(port: int, certificates: Path, kind: str, file: Path, stop: Event, place: int) -> None:
    context = ssl.create_default_context(cafile=certificates / "ca.pem")
    context.load_cert_chain(certificates / "admin.pem", certificates / "admin.key")
    raw = socket.create_connection(("127.0.0.1", port), timeout=60)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection = context.wrap_socket(raw, server_hostname="127.0.0.1")
    api, version, body = _REQUESTS[kind]
    frame = struct.pack(">hhih", api, version, 7, -1) + body
    sent = struct.pack(">i", len(frame)) + frame
    interval = len(_KINDS) / RATE
    due = time.monotonic() + place / RATE
    answers = connection.makefile("rb")
    with file.open("ab", buffering=0) as samples:
        while not stop.is_set():
            time.sleep(max(0.0, due - time.monotonic()))
            connection.sendall(sent)
            (size,) = struct.unpack(">i", answers.read(4))
            answers.read(size)
            samples.write(_SAMPLE.pack(due, time.monotonic() - due))
            due = max(due + interval, time.monotonic() - _MOST_BEHIND_S)


def percentile(values: Sequence[float], part: float) -> float:
    """The value below which `part` of all lie; NaN of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else float("nan")
