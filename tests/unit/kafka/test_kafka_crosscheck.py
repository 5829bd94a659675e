"""Our declarations against two independent ones: kio's and kafka-python's, byte for byte."""

import dataclasses
import importlib
import io
import typing
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kafka_declared import EVERY_SIDE, label, read, values_of, whole, write
from kio.schema.index import api_key_map
from kio.serial import entity_reader, entity_writer

from appliance.errors import ErrorCode
from appliance.wire.kafka.schema import Api, Array, Fields, Scalar

PARAMETERS = pytest.mark.parametrize(("api", "version", "side"), EVERY_SIDE, ids=label)

# What kio, after Kafka, calls what we name otherwise.
OTHER_NAMES = {
    "acls": {"creations", "matching_acls"},
    "adding": {"adding_replicas"},
    "allow_factor_change": {"allow_replication_factor_change"},
    "apis": {"api_keys"},
    "asked": {"topics"},
    "assignment": {"member_assignment"},
    "batch": {"records"},
    "changes": {"ops"},
    "batches": {"records"},
    "cluster_operations": {"include_cluster_authorized_operations"},
    "compression_types": {"accepted_compression_types"},
    "credentials": {"credential_infos"},
    "deltas": {"delta_temporality"},
    "directories": {"results"},
    "diverging": {"diverging_epoch"},
    "documentation": {"include_documentation"},
    "endpoints": {"node_endpoints"},
    "epoch": {"leader_epoch"},
    "error": {"error_code"},
    "features": {"results"},
    "features_epoch": {"finalized_features_epoch"},
    "fenced_brokers": {"include_fenced_brokers"},
    "finalised": {"finalized_features"},
    "forgotten_topics": {"forgotten_topics_data"},
    "generation_id": {"generation_id_or_member_epoch"},
    "group": {"group_id"},
    "groups": {"groups_names", "results"},
    "highest": {"max_version", "max_version_level"},
    "host": {"host_filter"},
    "in_sync_replicas": {"isr_nodes"},
    "index": {"partition", "partition_id", "partition_index"},
    "indexes": {"partition_indexes"},
    "is_read_only": {"read_only"},
    "key": {"api_key"},
    "keys": {"coordinator_keys"},
    "kinds": {"resource_types"},
    "kind": {"config_type", "entity_type", "resource_type", "resource_type_filter"},
    "last_caught_up_ms": {"last_caught_up_timestamp"},
    "last_fetch_ms": {"last_fetch_timestamp"},
    "leader": {"current_leader"},
    "leader_epoch": {"committed_leader_epoch"},
    "level": {"max_version_level"},
    "lowest": {"min_version", "min_version_level"},
    "max_bytes": {"partition_max_bytes", "telemetry_max_bytes"},
    "match": {"match_type"},
    "message": {"batch_index_error_message", "error_message"},
    "metadata": {"committed_metadata", "member_metadata"},
    "metrics": {"requested_metrics"},
    "name": {
        "entity_name",
        "feature",
        "log_dir",
        "match",
        "resource_name",
        "resource_name_filter",
        "topic",
        "topic_name",
        "user",
    },
    "names": {"configuration_keys", "topic_names"},
    "node_id": {"broker_id", "leader_id"},
    "nodes": {"broker_ids"},
    "offset": {"committed_offset", "fetch_offset"},
    "operation": {"config_operation"},
    "operations": {
        "authorized_operations",
        "cluster_authorized_operations",
        "include_authorized_operations",
        "topic_authorized_operations",
    },
    "partition": {"partition_index"},
    "partition_count": {"num_partitions"},
    "partition_limit": {"response_partition_limit"},
    "partitions": {
        "partition_data",
        "partition_indexes",
        "partition_responses",
        "partition_result",
    },
    "pattern": {"pattern_type", "pattern_type_filter", "resource_pattern_type"},
    "permission": {"permission_type"},
    "principal": {"principal_filter"},
    "producers": {"active_producers"},
    "protocol": {"protocol_data"},
    "removing": {"removing_replicas"},
    "replicas": {"replica_nodes"},
    "resources": {"config_resources", "responses", "results"},
    "results": {"filter_results"},
    "settings": {"configs"},
    "settings_error": {"topic_config_error_code"},
    "size_bytes": {"partition_size"},
    "snapshot": {"snapshot_id"},
    "software_name": {"client_software_name"},
    "software_version": {"client_software_version"},
    "source": {"config_source"},
    "state": {"group_state"},
    "states": {"states_filter"},
    "supported": {"supported_features"},
    "synonyms": {"include_synonyms"},
    "topic": {"topic_name"},
    "topic_operations": {"include_topic_authorized_operations"},
    "topics": {
        "replica_election_results",
        "responses",
        "results",
        "topic_data",
        "topic_partitions",
    },
    "transaction_start_offset": {"current_txn_start_offset"},
    "types": {"types_filter"},
    "updates": {"feature_updates"},
    "users": {"results"},
    "voters": {"current_voters"},
}


def kio_type(api: Api, version: int, side: str) -> type:
    module = importlib.import_module(f"kio.schema.{api_key_map[api.key]}.v{version}.{side}")
    wanted = (api.name + side).lower()
    return next(
        value
        for name, value in vars(module).items()
        if name.lower() == wanted and dataclasses.is_dataclass(value)
    )


def nested(hint: object) -> type:
    """The entity inside a type such as `tuple[Entity, ...] | None`."""
    if dataclasses.is_dataclass(hint):
        return typing.cast("type", hint)
    found = [nested(argument) for argument in typing.get_args(hint)]
    return next((kind for kind in found if kind is not None), None)


def compare(fields: Fields, entity: type, version: int) -> None:
    hints = typing.get_type_hints(entity)
    theirs = sorted(dataclasses.fields(entity), key=lambda f: f.metadata.get("tag", -1))
    ours = [f for f in fields.fields if f.carried_by(version)]
    ours.sort(key=lambda f: -1 if f.tag is None else f.tag)
    assert len(ours) == len(theirs)
    for our, their in zip(ours, theirs, strict=True):
        bare = our.name.removesuffix("_ms")
        assert their.name in {our.name, bare} | OTHER_NAMES.get(our.name, set())
        nullable = type(None) in typing.get_args(hints[their.name])
        if our.kind is not Scalar.UUID and our.name != "log_append_time_ms":
            assert nullable == (version >= our.nullable_from), our.name
        if isinstance(our.kind, Array) and isinstance(our.kind.of, Fields):
            compare(our.kind.of, nested(hints[their.name]), version)
        elif isinstance(our.kind, Fields):
            compare(our.kind, nested(hints[their.name]), version)


@PARAMETERS
def test_fields_stand_in_the_order_and_under_the_names_that_kio_knows(api, version, side):
    compare(getattr(api, side), kio_type(api, version, side), version)


@PARAMETERS
def test_flexibility_and_header_versions_agree_with_kio(api, version, side):
    entity = kio_type(api, version, side)
    assert entity.__flexible__ == api.is_flexible(version)
    header = 1 if side == "request" else 0
    if api.is_flexible(version) and (side == "request" or api.name != "ApiVersions"):
        header += 1
    assert entity.__header_schema__.__version__ == header


@PARAMETERS
@settings(max_examples=3, deadline=None, derandomize=True)
@given(data=st.data())
def test_kio_reads_what_we_write_and_writes_it_alike(api, version, side, data):
    values = data.draw(values_of(whole(api, version, side)))
    ours = write(api, version, side, values)
    assert read(api, version, side, ours) == values
    entity_type = kio_type(api, version, side)
    entity, consumed = entity_reader(entity_type)(ours, 0)
    assert consumed == len(ours)
    stream = io.BytesIO()
    entity_writer(entity_type)(stream, entity)
    assert stream.getvalue() == ours


KAFKA_PYTHON = ("producer", "consumer", "metadata", "admin", "sasl")
# Each of our messages is in one of these, but for the few that it does not know.
UNKNOWN_TO_KAFKA_PYTHON = {"GetTelemetrySubscriptions", "PushTelemetry"}


def known_to_kafka_python(api: Api, version: int, side: str) -> bool:
    if api.name in UNKNOWN_TO_KAFKA_PYTHON:
        return False
    message = kafka_python(api, side)
    return message.min_version <= version <= message.max_version


def kafka_python(api: Api, side: str) -> type:
    name = api.name + side.capitalize()
    for package in KAFKA_PYTHON:
        with warnings.catch_warnings():
            # It reads its own resources in a way that Python has deprecated.
            warnings.simplefilter("ignore", DeprecationWarning)
            module = importlib.import_module(f"kafka.protocol.{package}")
        if hasattr(module, name):
            return getattr(module, name)
    raise AssertionError(f"kafka-python does not know {name}: say so above")


@pytest.mark.parametrize(
    ("api", "version", "side"),
    [entry for entry in EVERY_SIDE if known_to_kafka_python(*entry)],
    ids=label,
)
@settings(max_examples=3, deadline=None, derandomize=True)
@given(data=st.data())
def test_kafka_python_reads_what_we_write_and_writes_it_alike(api, version, side, data):
    values = data.draw(values_of(whole(api, version, side)))
    if (api.name, side) == ("ApiVersions", "response"):
        # One with an error is of version 0 to it, as brokers that know no other answer.
        values = (ErrorCode.NONE, *values[1:])
    ours = write(api, version, side, values)
    message = kafka_python(api, side).decode(ours, version=version)
    message._header = None  # its encoder asks for it, its decoder leaves it unset
    assert bytes(message.encode(version=version)) == ours
