"""Frames that real clients send, and what is made of them."""

import pytest

from appliance.errors import ProtocolViolation
from appliance.wire.kafka.codec import decode
from appliance.wire.requests import Metadata

ALL_TOPICS_BY_LIBRDKAFKA = bytes.fromhex("0003000d00000003000772646b61666b610000000000010000")
"""Version 13, as librdkafka 2.16 sends it: three bytes too many."""


def test_all_topics_may_be_asked_for_as_librdkafka_does():
    call = decode(memoryview(ALL_TOPICS_BY_LIBRDKAFKA))
    assert isinstance(call.request, Metadata)
    assert call.request.topics is None


@pytest.mark.parametrize("extra", [b"\0", b"\0" * 100])
def test_more_than_that_is_refused(extra):
    with pytest.raises(ProtocolViolation, match="bytes follow"):
        decode(memoryview(ALL_TOPICS_BY_LIBRDKAFKA + extra))


def test_no_other_request_may_have_bytes_left_over():
    api_versions = bytes.fromhex("0012000000000001000474657374")
    assert decode(memoryview(api_versions)).api_key == 18
    with pytest.raises(ProtocolViolation, match="bytes follow"):
        decode(memoryview(api_versions + b"\0"))
