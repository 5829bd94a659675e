"""Quotas: deterministic, the most exact one counts; a bucket tells the wait that windows tell."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.coordination.catalog import Catalog
from appliance.coordination.commands import CommandRefused
from appliance.coordination.quotas import (
    CLIENT_ID,
    CONNECTION_CREATION_RATE,
    CONSUMER_BYTE_RATE,
    CONTROLLER_MUTATION_RATE,
    DEFAULTS,
    IP,
    PRODUCER_BYTE_RATE,
    REQUEST_PERCENTAGE,
    USER,
    Applicable,
    Quotas,
    QuotasSet,
    SetQuotas,
)
from appliance.coordination.token_bucket import WINDOW_S, TokenBucket
from appliance.errors import ErrorCode

# The order of KIP-55, and who shares each: entity, shared by user, shared by client id.
PRECEDENCE = [
    (((CLIENT_ID, "app"), (USER, "alice")), True, True),
    (((CLIENT_ID, None), (USER, "alice")), True, True),
    (((USER, "alice"),), True, False),
    (((CLIENT_ID, "app"), (USER, None)), True, True),
    (((CLIENT_ID, None), (USER, None)), True, True),
    (((USER, None),), True, False),
    (((CLIENT_ID, "app"),), False, True),
    (((CLIENT_ID, None),), False, True),
]


@pytest.mark.parametrize("first", range(len(PRECEDENCE)))
def test_the_most_exact_quota_that_is_set_counts(first: int) -> None:
    quotas = Quotas()
    for place, (entity, _, _) in enumerate(PRECEDENCE[first:], first):
        quotas.apply(SetQuotas(entity, ((PRODUCER_BYTE_RATE, place + 1.0),)))
    _, by_user, by_client = PRECEDENCE[first]
    assert quotas.applicable("alice", "app", PRODUCER_BYTE_RATE) == Applicable(
        "alice" if by_user else None, "app" if by_client else None, first + 1.0
    )


def test_each_key_is_resolved_by_itself_and_the_release_has_the_last_word() -> None:
    quotas = Quotas()
    quotas.apply(SetQuotas(((USER, "alice"),), ((REQUEST_PERCENTAGE, 5.0),)))
    quotas.apply(SetQuotas(((CLIENT_ID, None),), ((CONSUMER_BYTE_RATE, 7.0),)))
    assert quotas.applicable("alice", "a", REQUEST_PERCENTAGE) == Applicable("alice", None, 5.0)
    assert quotas.applicable("alice", "a", CONSUMER_BYTE_RATE) == Applicable(None, "a", 7.0)
    assert quotas.applicable("alice", "a", PRODUCER_BYTE_RATE) == Applicable(
        "alice", None, DEFAULTS[PRODUCER_BYTE_RATE]
    )


def test_an_address_has_its_own_rate_or_the_common_one() -> None:
    quotas = Quotas()
    assert quotas.connection_rate("10.0.0.1") == (False, DEFAULTS[CONNECTION_CREATION_RATE])
    quotas.apply(SetQuotas(((IP, None),), ((CONNECTION_CREATION_RATE, 9.0),)))
    quotas.apply(SetQuotas(((IP, "10.0.0.1"),), ((CONNECTION_CREATION_RATE, 3.0),)))
    assert quotas.connection_rate("10.0.0.1") == (True, 3.0)
    assert quotas.connection_rate("10.0.0.2") == (False, 9.0)


def test_a_quota_goes_by_itself_and_the_entity_with_its_last_one() -> None:
    quotas = Quotas()
    entity = ((USER, "alice"),)
    quotas.apply(SetQuotas(entity, ((PRODUCER_BYTE_RATE, 1.0), (CONSUMER_BYTE_RATE, 2.0))))
    quotas.apply(SetQuotas(entity, ((PRODUCER_BYTE_RATE, None),)))
    assert dict(quotas.held) == {entity: {CONSUMER_BYTE_RATE: 2.0}}
    assert isinstance(quotas.apply(SetQuotas(entity, ((CONSUMER_BYTE_RATE, None),))), QuotasSet)
    assert not quotas.held
    before = quotas.version
    assert isinstance(quotas.apply(SetQuotas(entity, ((CONSUMER_BYTE_RATE, None),))), QuotasSet)
    assert quotas.version == before + 1


@pytest.mark.parametrize(
    ("entity", "changes"),
    [
        ((), ((PRODUCER_BYTE_RATE, 1.0),)),
        (((USER, "a"), (USER, "b")), ((PRODUCER_BYTE_RATE, 1.0),)),
        (((USER, "a"), (CLIENT_ID, "b")), ((PRODUCER_BYTE_RATE, 1.0),)),
        ((("host", "a"),), ((PRODUCER_BYTE_RATE, 1.0),)),
        (((IP, "::1"), (USER, "a")), ((CONNECTION_CREATION_RATE, 1.0),)),
        (((USER, ""),), ((PRODUCER_BYTE_RATE, 1.0),)),
        (((USER, "a" * 256),), ((PRODUCER_BYTE_RATE, 1.0),)),
        (((USER, "a"),), (("no_such_rate", 1.0),)),
        (((USER, "a"),), ((CONNECTION_CREATION_RATE, 1.0),)),
        (((IP, "::1"),), ((PRODUCER_BYTE_RATE, 1.0),)),
        (((USER, "a"),), ((PRODUCER_BYTE_RATE, 1.5),)),
        (((USER, "a"),), ((PRODUCER_BYTE_RATE, float(1 << 64)),)),
        (((IP, "::1"),), ((CONNECTION_CREATION_RATE, float(1 << 31)),)),
        *(
            (((USER, "a"),), ((CONTROLLER_MUTATION_RATE, value),))
            for value in (0.0, -1.0, math.nan, math.inf)
        ),
    ],
)
def test_what_kafka_refuses_is_refused_and_changes_nothing(entity, changes) -> None:
    catalog = Catalog()
    outcome = catalog.apply(SetQuotas(entity, changes))
    assert isinstance(outcome, CommandRefused)
    assert outcome.error is ErrorCode.INVALID_REQUEST
    assert not catalog.quotas.held
    assert catalog.quotas.version == 0


def test_entities_are_bounded_and_known_ones_can_still_be_changed(monkeypatch) -> None:
    monkeypatch.setattr("appliance.coordination.quotas.MAX_QUOTA_ENTITIES", 2)
    quotas = Quotas()
    for name in ("a", "b"):
        quotas.apply(SetQuotas(((USER, name),), ((PRODUCER_BYTE_RATE, 1.0),)))
    refused = quotas.apply(SetQuotas(((USER, "c"),), ((PRODUCER_BYTE_RATE, 1.0),)))
    assert isinstance(refused, CommandRefused)
    assert refused.error is ErrorCode.POLICY_VIOLATION
    quotas.apply(SetQuotas(((USER, "a"),), ((PRODUCER_BYTE_RATE, 5.0),)))
    assert quotas.held[(USER, "a"),][PRODUCER_BYTE_RATE] == 5.0


def test_a_bucket_tells_the_wait_of_kafkas_windows() -> None:
    """(observed rate - rate) / rate * window, for whoever used too much in a whole window."""
    bucket = TokenBucket(rate=100.0, now=0.0)
    used = 1_500.0
    observed = used / WINDOW_S
    assert bucket.take(used, 0.0) == pytest.approx((observed - 100.0) / 100.0 * WINDOW_S)


@given(
    st.lists(st.tuples(st.floats(0, 5), st.floats(0, 500)), max_size=50),
    st.floats(1.0, 1000.0),
)
def test_who_waits_as_told_never_gets_more_than_the_rate_and_one_window(steps, rate) -> None:
    bucket, now, used, last = TokenBucket(rate, 0.0), 0.0, 0.0, 0.0
    for pause, amount in steps:
        now += pause
        wait = bucket.take(amount, now)
        used, last = used + amount, amount
        now += wait
        assert used <= (now + WINDOW_S) * rate * (1 + 1e-9) + 1e-6
    assert last >= 0


def test_a_bucket_at_another_rate_goes_on_owing() -> None:
    bucket = TokenBucket(rate=10.0, now=0.0)
    assert bucket.take(200.0, 0.0) == pytest.approx(10.0)
    bucket.refit(100.0)
    assert bucket.take(0.0, 0.0) == pytest.approx(1.0)
    assert not bucket.is_full(10.9)
    assert bucket.is_full(11.1)
    bucket.refit(10.0)
    assert bucket.take(0.0, 0.0) == pytest.approx(10.0)
