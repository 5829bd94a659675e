"""A quota set over the Kafka protocol is felt by a stock producer, and told of by librdkafka."""

import time
import warnings

import pytest
from confluent_kafka import Producer

from .reading import settings

with warnings.catch_warnings():
    # It reads its own resources in a way that Python has deprecated.
    warnings.simplefilter("ignore", DeprecationWarning)
    from kafka import KafkaAdminClient
    from kafka.protocol.admin import AlterClientQuotasRequest, DescribeClientQuotasRequest

pytestmark = pytest.mark.system

RATE = 40_000
"""Bytes a second; ten times as many are let through at once, as in Kafka's first window."""
SENT = 600_000


def _admin(quickstart):
    own = settings(quickstart.client("admin"))
    return KafkaAdminClient(
        bootstrap_servers=own["bootstrap.servers"],
        security_protocol="SSL",
        ssl_cafile=own["ssl.ca.location"],
        ssl_certfile=own["ssl.certificate.location"],
        ssl_keyfile=own["ssl.key.location"],
    )


def _altered(*, value, remove):
    entry, op = AlterClientQuotasRequest.EntryData, AlterClientQuotasRequest.EntryData.OpData
    entity = AlterClientQuotasRequest.EntryData.EntityData
    return AlterClientQuotasRequest(
        entries=[
            entry(
                entity=[entity(entity_type="user", entity_name="producer")],
                ops=[op(key="producer_byte_rate", value=value, remove=remove)],
            )
        ],
        validate_only=False,
    )


def _produced_s(quickstart):
    """Seconds for SENT bytes, and what the client was told of its being held back."""
    told = []
    producer = Producer(
        settings(quickstart.client("producer"))
        | {"throttle_cb": told.append, "linger.ms": "0", "batch.size": "20000", "acks": "all"}
    )
    begun = time.monotonic()
    for _ in range(SENT // 10_000):
        producer.produce("held-back", b"x" * 10_000)
        producer.poll(0)
    assert producer.flush(120) == 0
    return time.monotonic() - begun, [event.throttle_time for event in told if event.throttle_time]


def test_a_producer_is_held_to_the_quota_of_its_user(quickstart):
    assert quickstart.command("topic", "create", "held-back").returncode == 0
    admin = _admin(quickstart)
    set_to = admin._manager.run(admin._manager.send, _altered(value=float(RATE), remove=False))
    assert [entry.error_code for entry in set_to.entries] == [0]
    component = DescribeClientQuotasRequest.ComponentData
    asked = DescribeClientQuotasRequest(
        components=[component(entity_type="user", match_type=0, match="producer")], strict=True
    )
    described = admin._manager.run(admin._manager.send, asked)
    ((value,),) = [entry.values for entry in described.entries]
    assert (value.key, value.value) == ("producer_byte_rate", float(RATE))
    held_s, told = _produced_s(quickstart)
    assert held_s >= (SENT - 10 * RATE) / RATE * 0.9
    assert told, "the client was told"
    admin._manager.run(admin._manager.send, _altered(value=0.0, remove=True))
    _, told = _produced_s(quickstart)
    assert not told, "and nothing holds it back any more"
    admin.close()
