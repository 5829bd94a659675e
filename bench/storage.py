"""The sealed storage beside this machine's cipher and disk, in one process and one run.

Each row is a ratio with its target, so it travels between machines: appends and reads against
AES-GCM and against write and sync of the same bytes, many partitions against one large frame,
opening and memory for a thousand files. `python bench/storage.py` prints the table, or JSON with
`--json`; every directory it makes is removed.
"""

import argparse
import gc
import json
import os
import resource
import statistics
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import msgspec
import trio
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from rich.console import Console
from rich.table import Table

from appliance.assembly import garbage
from appliance.limits import TAIL_CACHE_BYTES
from appliance.observe.system import keep_freed_memory
from appliance.ports import DataKey, KeyHealth, SecretKey, WrappedKey
from appliance.storage import log as log_module
from appliance.storage.blockfile import PosixDisk
from appliance.storage.log import SealedLog
from appliance.storage.node import NodeDirectory
from appliance.types import (
    ClusterId,
    Entry,
    EntryHeader,
    EntryKind,
    Index,
    KeyDomainId,
    NodeId,
    Offset,
    PartitionId,
    Term,
    TimestampMs,
)

KIB, MIB = 1024, 1024 * 1024
DOMAIN = KeyDomainId(UUID(int=2))


class Row(msgspec.Struct, frozen=True):
    """One figure, its unit, what it is held to and how (`at least`, `at most`)."""

    name: str
    value: float
    unit: str
    bound: str = ""
    target: float = 0.0

    @property
    def met(self) -> bool:
        """Whether the target is reached; a row without one always is."""
        if self.bound == "at least":
            return self.value >= self.target
        return self.bound == "" or self.value <= self.target


class Keys:
    """Wraps data keys with a key of this process: no server takes part in these figures."""

    def __init__(self) -> None:
        self._cipher = AESGCM(os.urandom(32))

    async def create_domain(self, domain: KeyDomainId) -> None:
        """Nothing to make."""

    def epoch(self, domain: KeyDomainId) -> int:
        """Keys are not rotated here."""
        return 1

    async def new_data_key(self, place: object) -> DataKey:
        """See `ports.KeyProvider`."""
        material, nonce = os.urandom(32), os.urandom(12)
        return DataKey(
            SecretKey(material),
            WrappedKey("bench", nonce + self._cipher.encrypt(nonce, material, None)),
        )

    async def unwrap(self, place: object, wrapped: WrappedKey) -> SecretKey:
        """See `ports.KeyProvider`."""
        sealed = wrapped.ciphertext
        return SecretKey(self._cipher.decrypt(sealed[:12], sealed[12:], None))

    async def unwrap_all(self, wraps: list) -> list[SecretKey]:
        """See `ports.KeyProvider`."""
        return [await self.unwrap(wrap.place, wrap.wrapped) for wrap in wraps]

    async def health(self) -> KeyHealth:
        """Always there."""
        return KeyHealth(serving=True)


class SystemEntropy:
    """The operating system's."""

    def random_bytes(self, count: int) -> bytes:
        """See `ports.Entropy`."""
        return os.urandom(count)


KEYS = Keys()


def stamp(payload: memoryview, header: EntryHeader) -> None:
    """As a batch's base offset is written."""
    payload[:8] = header.base_offset.to_bytes(8, "big")


async def created(path: Path) -> NodeDirectory:
    """A new node in a directory of its own."""
    return await NodeDirectory.create(
        PosixDisk(path), cluster=ClusterId(UUID(int=1)), node=NodeId(1), domain=DOMAIN,
        keys=KEYS, entropy=SystemEntropy(), stamp=stamp,
    )  # fmt: skip


async def opened(path: Path) -> NodeDirectory:
    """A node that was made before."""
    return await NodeDirectory.open(
        PosixDisk(path), keys=KEYS, entropy=SystemEntropy(), stamp=stamp
    )


def append(log: SealedLog, payload: bytes) -> None:
    """Stages one batch."""
    header = EntryHeader(
        EntryKind.BATCH, Index(log.last.index + 1), Term(1), TimestampMs(1), Offset(log.end_offset),
        0, len(payload),
    )  # fmt: skip
    log.append([Entry(header, payload)])


def nothing(_: Index) -> None:
    """Whom durability need not be told."""


def median_s(work: Callable[[], object], times: int) -> float:
    """The median of so many runs, in seconds."""
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


async def median_async_s(work: Callable[[], object], times: int) -> float:
    """As `median_s`, on the event loop."""
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        await work()
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


def sealing_s(size: int, times: int = 200) -> float:
    """AES-GCM over so many bytes, into a buffer that is used again."""
    cipher, plain, out = AESGCM(os.urandom(32)), os.urandom(size), bytearray(size + 16)
    return median_s(lambda: cipher.encrypt_into(os.urandom(12), plain, b"", out), times)


def writing_s(folder: Path, size: int, times: int = 60) -> float:
    """Write and fdatasync of so many bytes behind one another, in space reserved before."""
    descriptor = os.open(folder / "plain", os.O_RDWR | os.O_CREAT)
    os.posix_fallocate(descriptor, 0, (times + 1) * size)
    data, place = os.urandom(size), iter(range(0, (times + 1) * size, size))

    def once() -> None:
        os.pwrite(descriptor, data, next(place))
        os.fdatasync(descriptor)

    try:
        return median_s(once, times)
    finally:
        os.close(descriptor)
        (folder / "plain").unlink()


async def appends(folder: Path) -> list[Row]:
    """Frames of 1 MiB, one flush each; then reading them back from the file."""
    count = 60
    node = await created(folder / "appends")
    log = await node.create_log(PartitionId(UUID(int=5)), DOMAIN)
    payload = os.urandom(MIB - 100)

    async def once() -> None:
        append(log, payload)
        await log.flush(nothing)

    # As on a node that has run for a while: the cache of tails is full, and its memory goes round.
    for _ in range(TAIL_CACHE_BYTES // MIB + 1):
        await once()
    first = log.end_offset
    frame_s = await median_async_s(once, count)
    lower_s = max(sealing_s(MIB), writing_s(folder, MIB))
    log._cache.forget(log._tail)  # noqa: SLF001 - what is measured is the file, not the cache
    at = iter(range(first, first + count))

    async def read() -> None:
        await log.read(Offset(next(at)), log.end_offset, 1)

    await log.read(Offset(first + count // 2), log.end_offset, 1)
    read_s = await median_async_s(read, count)
    whole = time.perf_counter()
    for start in range(first, first + count, 8):
        await log.read(Offset(start), Offset(min(start + 8, first + count)), 64 * MIB)
    scan_s = (time.perf_counter() - whole) / count
    await log.close()
    await node.close()
    return [
        Row("append of a 1 MiB frame, durable", frame_s * 1000, "ms"),
        Row("append against cipher or disk, the slower", lower_s / frame_s, "x", "at least", 0.7),
        Row("read of one 1 MiB frame against the cipher", sealing_s(MIB) / read_s, "x"),
        Row("read of 8 MiB slices against the cipher", sealing_s(MIB) / scan_s, "x",
            "at least", 0.6),
    ]  # fmt: skip


async def many(folder: Path, count: int, target: float) -> list[Row]:
    """One append of 1 KiB to each of so many partitions at once, against one 1 MiB frame."""
    node = await created(folder / f"many-{count}")
    logs = [await node.create_log(PartitionId(UUID(int=100 + n)), DOMAIN) for n in range(count)]
    payload = os.urandom(KIB)

    async def all_once() -> None:
        async with trio.open_nursery() as nursery:
            for log in logs:
                append(log, payload)
                nursery.start_soon(log.flush, nothing)

    await all_once()
    all_s = await median_async_s(all_once, 9)
    large = await node.create_log(PartitionId(UUID(int=99)), DOMAIN)
    large_payload = os.urandom(MIB - 100)

    async def one() -> None:
        append(large, large_payload)
        await large.flush(nothing)

    await one()
    frame_s = await median_async_s(one, 15)
    for log in (*logs, large):
        await log.close()
    await node.close()
    return [
        Row(f"1 KiB to each of {count} partitions, durable", all_s * 1000, "ms"),
        Row(f"the same against one 1 MiB frame ({frame_s * 1000:.2f} ms)", all_s / frame_s, "x",
            "at most", target),
    ]  # fmt: skip


async def thousand_files(folder: Path) -> list[Row]:
    """Opening a node whose one log has a thousand closed files, and what they take of memory."""
    count = 1000
    whole, log_module.MAX_SEGMENT_BYTES = log_module.MAX_SEGMENT_BYTES, 1
    node = await created(folder / "files")
    log = await node.create_log(PartitionId(UUID(int=5)), DOMAIN)
    for _ in range(count + 1):
        append(log, b"x" * KIB)
        await log.flush(nothing)
    await log.close()
    await node.close()
    log_module.MAX_SEGMENT_BYTES = whole
    gc.collect()
    begun = time.perf_counter()
    node = await opened(folder / "files")
    log = await node.open_log(PartitionId(UUID(int=5)))
    open_s = time.perf_counter() - begun
    await log.close()
    await node.close()
    tracemalloc.start()
    node = await opened(folder / "files")
    log = await node.open_log(PartitionId(UUID(int=5)))
    gc.collect()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    await log.close()
    await node.close()
    return [
        Row("opening a node with 1,000 segments", open_s, "s", "at most", 2.0),
        Row("memory of a closed segment", held / count, "bytes", "at most", 2 * KIB),
    ]


async def idle_partitions(folder: Path) -> list[Row]:
    """What an open partition takes that has been written to and read, and is idle now."""
    count = 300
    node = await created(folder / "idle")
    for number in range(count):
        await (await node.create_log(PartitionId(UUID(int=100 + number)), DOMAIN)).close()
    await node.close()
    node = await opened(folder / "idle")
    gc.collect()
    tracemalloc.start()
    logs = []
    for number in range(count):
        log = await node.open_log(PartitionId(UUID(int=100 + number)))
        append(log, b"x" * 100)
        await log.flush(nothing)
        logs.append(log)
    gc.collect()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    for log in logs:
        await log.close()
    await node.close()
    return [Row("storage's memory of an idle partition", held / count, "bytes", "at most",
                16 * KIB)]  # fmt: skip


async def measured(folder: Path) -> list[Row]:
    """Every row, in order."""
    rows = await appends(folder)
    rows += await many(folder, 16, 2.0)
    rows += await many(folder, 1000, 25.0)
    rows += await thousand_files(folder)
    return rows + await idle_partitions(folder)


def rows(folder: Path | None = None) -> list[Row]:
    """Runs it all in a directory of its own below `folder`."""
    keep_freed_memory()  # as a node does when it starts
    garbage.freeze()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4096)), hard))
    with tempfile.TemporaryDirectory(prefix="storage-bench-", dir=folder) as made:
        return trio.run(measured, Path(made))


def show(found: list[Row], console: Console) -> None:
    """The table, with what was missed in red."""
    table = Table(title="Sealed storage")
    for heading in ("what", "measured", "target", ""):
        table.add_column(heading, justify="left" if heading == "what" else "right")
    for row in found:
        target = f"{row.bound} {row.target:g}" if row.bound else ""
        verdict = "" if not row.bound else "[green]met[/]" if row.met else "[red]missed[/]"
        table.add_row(row.name, f"{row.value:,.2f} {row.unit}", target, verdict)
    console.print(table)


def main() -> int:
    """`--json` for machines, a table for people; 1 if a target was missed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--directory", type=Path, help="where to measure (default: the temporary)")
    chosen = parser.parse_args()
    found = rows(chosen.directory)
    if chosen.json:
        print(json.dumps([msgspec.to_builtins(row) | {"met": row.met} for row in found], indent=1))
    else:
        show(found, Console())
    return 0 if all(row.met for row in found) else 1


if __name__ == "__main__":
    sys.exit(main())
