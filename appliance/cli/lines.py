"""Lines from a pipe or a terminal, many at a time, bounded, without blocking the event loop."""

import os
from collections.abc import AsyncIterator

import trio

from appliance.errors import ErrorCode, RequestError
from appliance.limits import KIB

READ_BYTES = 256 * KIB

Pair = tuple[bytes | None, bytes]


async def read_lines(descriptor: int, longest_bytes: int) -> AsyncIterator[list[bytes]]:
    """The lines that have arrived, without their newlines; the last needs none.

    Raises RequestError if a line is longer than `longest_bytes`.
    """
    rest = b""
    while True:
        chunk = await trio.to_thread.run_sync(
            os.read, descriptor, READ_BYTES, abandon_on_cancel=True
        )
        if not chunk:
            break
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) > longest_bytes:
            raise RequestError(
                ErrorCode.MESSAGE_TOO_LARGE, f"a line is longer than {longest_bytes} bytes"
            )
        if lines:
            yield lines
    if rest:
        yield [rest]


def split_keys(lines: list[bytes], separator: bytes | None) -> list[Pair]:
    """Each line as (key, value); a line without the separator has no key."""
    if separator is None:
        return [(None, line) for line in lines]
    pairs: list[Pair] = []
    for line in lines:
        key, found, value = line.partition(separator)
        pairs.append((key, value) if found else (None, line))
    return pairs
