"""Every answer of the broker, refusals included, can be said in every served version."""

import pytest

from appliance.errors import ErrorCode
from appliance.wire.kafka.apis.registry import APIS
from appliance.wire.kafka.codec import Call, encode
from appliance.wire.requests import (
    CommitPartition,
    CommitTopic,
    CreateTopics,
    DeleteTopics,
    Fetch,
    FetchPartition,
    FetchTopic,
    FindCoordinator,
    GroupProtocol,
    Heartbeat,
    InitProducerId,
    JoinGroup,
    LeaveGroup,
    ListOffsets,
    ListOffsetsPartition,
    ListOffsetsTopic,
    Metadata,
    NewTopic,
    OffsetCommit,
    OffsetFetch,
    OffsetFetchGroup,
    SyncGroup,
)

ASKED = {
    1: Fetch(0, 0, 100, 0, (FetchTopic("orders", (FetchPartition(0, 0, 100),)),)),
    2: ListOffsets(0, (ListOffsetsTopic("orders", (ListOffsetsPartition(0, -1),)),)),
    3: Metadata(("orders", "absent")),
    8: OffsetCommit("readers", -1, "", (CommitTopic("orders", (CommitPartition(0, 0),)),)),
    9: OffsetFetch((OffsetFetchGroup("readers", (("orders", (0,)),)),)),
    10: FindCoordinator(0, ("readers",)),
    11: JoinGroup("readers", 10_000, 10_000, "", "consumer", (GroupProtocol("range", b""),)),
    12: Heartbeat("readers", 1, "member"),
    13: LeaveGroup("readers", (("member", None),)),
    14: SyncGroup("readers", 1, "member"),
    19: CreateTopics((NewTopic("new"),), 1000, True),
    20: DeleteTopics(("absent",), 1000),
    22: InitProducerId(None, 1000),
}


@pytest.mark.parametrize("who", ["admin", "nobody"])
def test_every_answer_can_be_encoded_in_every_served_version(world, run, who):
    async def main():
        async with world.running() as broker:
            await broker.create()
            asked = ASKED | {0: world.produce_request(world.batch(b"a"))}
            for api in APIS:
                request = asked.get(api.key)
                if request is None:
                    continue
                answer = await broker.ask(who, request)
                handler = broker.dispatcher._handlers[type(request)]
                broken = handler.refuse(request, ErrorCode.KAFKA_STORAGE_ERROR)
                for version in api.versions():
                    for response in (answer, broken):
                        encode(Call(api.key, version, 1, "client", request), response)

    run(main)
