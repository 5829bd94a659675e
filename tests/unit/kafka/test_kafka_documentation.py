"""The page on Kafka's protocol says what the declarations say, and leaves no API out."""

from kafka_documentation import NOT_SERVED, PAGE, page
from kio.schema.index import api_key_map

from appliance.wire.kafka.apis.registry import ADVERTISED, APIS


def test_the_page_is_what_the_declarations_say():
    assert PAGE.read_text() == page(), "run: python tests/unit/kafka/kafka_documentation.py"


def test_every_api_of_kafka_is_served_or_has_a_reason_and_not_both():
    refused = [key for apis in NOT_SERVED.values() for key in apis]
    served = [api.key for api in APIS]
    assert sorted(refused + served) == sorted(api_key_map)


def test_what_is_not_served_is_not_advertised_but_for_what_clients_insist_on():
    exact = {(api.key, api.lowest, api.highest) for api in APIS}
    assert set(ADVERTISED) - exact == {(0, 0, 13), (17, 0, 1)}
