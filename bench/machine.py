"""What this machine can do without any of our code: the cipher alone, and the disk alone."""

import os
import statistics
import tempfile
import time
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KIB = 1024
MIB = 1024 * KIB


def seal_mb_s(seconds: float = 0.5) -> float:
    """AES-256-GCM over 1 MiB into a buffer of its own, MB/s on one core."""
    cipher, data, out = AESGCM(os.urandom(32)), os.urandom(MIB), bytearray(MIB + 16)
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        cipher.encrypt_into(count.to_bytes(12, "big"), data, None, out)
        count += 1
    return count * MIB / (time.perf_counter() - began) / 1e6


def fdatasync_ms(directory: Path, size: int, count: int) -> float:
    """The median of appends of `size` bytes to reserved space, each followed by fdatasync."""
    taken = []
    data = os.urandom(size)
    with tempfile.TemporaryFile(dir=directory) as file:
        os.posix_fallocate(file.fileno(), 0, size * count)
        for number in range(count):
            began = time.perf_counter()
            os.pwrite(file.fileno(), data, number * size)
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - began)
    return statistics.median(taken) * 1e3


def append_mb_s(directory: Path, size: int, count: int) -> float:
    """MB/s of such appends, the disk's limit for flushes of `size` bytes."""
    return size / fdatasync_ms(directory, size, count) / 1e3
