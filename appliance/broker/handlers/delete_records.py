"""DeleteRecords: recorded first, then a command of the partition's log; files go after it."""

from appliance.authz.actions import ResourceKind
from appliance.authz.gate import Authorized
from appliance.broker.auditor import Auditor
from appliance.broker.caller import Caller
from appliance.broker.handlers.order import in_order
from appliance.broker.topics import Topics
from appliance.errors import ErrorCode, RequestError
from appliance.types import TopicName
from appliance.wire.requests import (
    DeletedRecords,
    DeletedRecordsTopic,
    DeleteRecords,
    DeleteRecordsPartition,
    DeleteRecordsResult,
    DeleteRecordsTopic,
)


class DeleteRecordsHandler:
    """Raises the start of partitions to an offset, or to the high watermark."""

    request = DeleteRecords

    def __init__(self, topics: Topics, auditor: Auditor) -> None:
        self._topics = topics
        self._auditor = auditor

    def refuse(self, request: DeleteRecords, code: ErrorCode) -> DeleteRecordsResult:
        """Every partition refused."""
        return DeleteRecordsResult(tuple(_refused(topic, code) for topic in request.topics))

    async def handle(
        self, caller: Caller, authorized: Authorized[DeleteRecords]
    ) -> DeleteRecordsResult:
        """One answer a partition."""
        results = []
        for topic in authorized.request.topics:
            parts = [
                await self._delete(caller, authorized, topic.name, part)
                for part in topic.partitions
            ]
            results.append(DeletedRecordsTopic(topic.name, tuple(parts)))
        codes = authorized.refused_codes(ResourceKind.TOPIC)
        return DeleteRecordsResult(in_order(authorized.asked.topics, codes, results, _refused))

    async def _delete(
        self,
        caller: Caller,
        authorized: Authorized[DeleteRecords],
        topic: TopicName,
        part: DeleteRecordsPartition,
    ) -> DeletedRecords:
        try:
            self._check_deletes(topic)
            partition = await self._topics.partition(topic, part.index)
            offset = partition.deletable(part.offset)
            if offset > partition.start_offset:
                resource = f"{topic}-{part.index}"
                await self._auditor.changing(
                    caller, authorized, (resource,), f"records below offset {offset}"
                )
            start = await partition.set_start(offset)
        except RequestError as error:
            return DeletedRecords(part.index, error=error.code)
        return DeletedRecords(part.index, start)

    def _check_deletes(self, topic: TopicName) -> None:
        live = self._topics.find(topic)
        if live is not None and not live.settings.deletes:
            raise RequestError(
                ErrorCode.POLICY_VIOLATION, "cleanup.policy of this topic is not 'delete'"
            )


def _refused(topic: DeleteRecordsTopic, code: ErrorCode) -> DeletedRecordsTopic:
    parts = tuple(DeletedRecords(part.index, error=code) for part in topic.partitions)
    return DeletedRecordsTopic(topic.name, parts)
