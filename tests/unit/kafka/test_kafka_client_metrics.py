"""What clients push is read within bounds, or refused whole."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import ErrorCode, RequestError
from appliance.limits import MAX_PUSHED_METRICS
from appliance.wire.kafka.client_metrics import ClientMetric, read_client_metrics


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def inner(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def metric(name: str, *points: float, kind: int = 5) -> bytes:
    told = b""
    for point in points:
        number, packed = (4, "<d") if isinstance(point, float) else (6, "<q")
        told += inner(1, varint(number << 3 | 1) + struct.pack(packed, point) + inner(7, b"\x0a\0"))
    return inner(2, inner(1, name.encode()) + inner(2, b"words") + inner(kind, told))


def push(*metrics: bytes) -> memoryview:
    scope = inner(1, inner(1, b"scope")) + b"".join(metrics)
    return memoryview(inner(1, inner(1, b"resource") + inner(2, scope)))


def refused(data: memoryview) -> bool:
    with pytest.raises(RequestError) as caught:
        read_client_metrics(data)
    return caught.value.code is ErrorCode.INVALID_RECORD


def test_gauges_and_sums_are_read_and_other_kinds_are_not() -> None:
    data = push(
        metric("org.apache.kafka.producer.a", 1.5),
        metric("org.apache.kafka.producer.b", 1, 2, kind=7),
        metric("org.apache.kafka.producer.c", 3, kind=9),
        metric("org.apache.kafka.producer.d"),
    )
    assert read_client_metrics(data) == (
        ClientMetric("org.apache.kafka.producer.a", 1.5),
        ClientMetric("org.apache.kafka.producer.b", 2.0),
    )
    assert read_client_metrics(memoryview(b"")) == ()


@pytest.mark.parametrize("name", ["A", "", "a b", "a\n", "ä", "1a", "a" * 129, "a{b}"])
def test_a_name_of_another_form_is_refused(name: str) -> None:
    assert refused(push(metric(name, 1)))


def test_too_many_metrics_are_refused() -> None:
    many = [metric(f"m{number}", 1) for number in range(MAX_PUSHED_METRICS + 1)]
    assert len(read_client_metrics(push(*many[:-1]))) == MAX_PUSHED_METRICS
    assert refused(push(*many))


def test_every_cut_is_refused_or_is_a_push_without_what_was_cut_off() -> None:
    data = push(metric("a.b", 1.5), metric("c.d", 2))
    for end in range(1, len(data)):
        assert refused(data[:end])
    assert refused(memoryview(b"\xff" * 20))
    assert refused(memoryview(inner(1, b"\x0b\x0c")))  # groups, which nobody sends any more


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        found = read_client_metrics(memoryview(inner(1, inner(2, data))))
    except RequestError:
        return
    assert len(found) <= len(data)
