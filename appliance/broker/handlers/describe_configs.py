"""DescribeConfigs: settings of topics, and of the node that is asked."""

from collections.abc import Collection, Iterable

from appliance.authz.actions import CLUSTER, ResourceKind
from appliance.authz.gate import Authorized
from appliance.broker.caller import Caller
from appliance.broker.node_settings import NodeFacts, node_settings
from appliance.broker.told_settings import settings_of_topic
from appliance.broker.topics import Topics
from appliance.errors import ErrorCode, RequestError
from appliance.types import TopicName
from appliance.wire.requests import (
    AskedSettings,
    DescribeConfigs,
    DescribeConfigsResult,
    DescribedSettings,
    Request,
    Setting,
    SettingsOf,
    SettingSource,
    SettingSynonym,
)


class DescribeConfigsHandler:
    """Tells what is in force; a setting that is refused here is not told of."""

    request = DescribeConfigs

    def __init__(self, topics: Topics, facts: NodeFacts) -> None:
        self._topics = topics
        self._facts = facts

    def refuse(self, request: DescribeConfigs, code: ErrorCode) -> DescribeConfigsResult:
        """Everything refused."""
        return DescribeConfigsResult(
            tuple(DescribedSettings(each.kind, each.name, code) for each in request.resources)
        )

    async def handle(
        self, _: Caller, authorized: Authorized[DescribeConfigs]
    ) -> DescribeConfigsResult:
        """One answer for each thing."""
        codes = refusals(authorized)
        return DescribeConfigsResult(
            tuple(
                self._described(each, authorized.request, codes)
                for each in authorized.asked.resources
            )
        )

    def _described(
        self,
        asked: AskedSettings,
        request: DescribeConfigs,
        codes: dict[tuple[bool, str], ErrorCode],
    ) -> DescribedSettings:
        code = codes.get(whose(asked.kind, asked.name))
        if code is not None:
            return DescribedSettings(asked.kind, asked.name, code)
        try:
            found = self._settings(asked)
        except RequestError as error:
            return DescribedSettings(asked.kind, asked.name, error.code, str(error))
        return DescribedSettings(
            asked.kind,
            asked.name,
            settings=tuple(_told(each, request) for each in _named(found, asked.names)),
        )

    def _settings(self, asked: AskedSettings) -> list[Setting]:
        if asked.kind == SettingsOf.TOPIC:
            return self._of_topic(TopicName(asked.name))
        if asked.kind != SettingsOf.BROKER:
            raise RequestError(
                ErrorCode.INVALID_REQUEST, "only topics and nodes have settings that are served"
            )
        if asked.name not in {"", str(self._facts.node)}:
            raise RequestError(
                ErrorCode.INVALID_REQUEST, f"this is node {self._facts.node}: ask the one you mean"
            )
        if not asked.name:
            return []  # settings that all nodes share over the wire: there are none
        return self._of_node()

    def _of_topic(self, name: TopicName) -> list[Setting]:
        live = self._topics.find(name)
        if live is None:
            raise RequestError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "there is no such topic")
        return list(settings_of_topic(dict(live.topic.settings)))

    def _of_node(self) -> list[Setting]:
        settings = []
        for known in node_settings(self._facts):
            source = SettingSource.NODE if known.from_file else SettingSource.DEFAULT
            synonym = SettingSynonym(known.name, known.value, source)
            settings.append(
                Setting(known.name, known.value, True, source, (synonym,), known.kind, known.why)
            )
        return settings


def whose(kind: int, name: str) -> tuple[bool, str]:
    """What a resource was judged as: a topic by its name, or the cluster."""
    return (True, name) if kind == SettingsOf.TOPIC else (False, CLUSTER.name)


def refusals(authorized: Authorized[Request]) -> dict[tuple[bool, str], ErrorCode]:
    """The refused topics, and the cluster if it is, as `whose` names them."""
    topics = authorized.refused_codes(ResourceKind.TOPIC)
    cluster = authorized.refused_codes(ResourceKind.CLUSTER)
    return {(True, name): code for name, code in topics.items()} | {
        (False, name): code for name, code in cluster.items()
    }


def _named(settings: Iterable[Setting], names: Collection[str] | None) -> Iterable[Setting]:
    """All settings if no names are given, be it null or an empty list, as in Kafka."""
    return [each for each in settings if not names or each.name in names]


def _told(setting: Setting, request: DescribeConfigs) -> Setting:
    return Setting(
        setting.name,
        setting.value,
        setting.read_only,
        setting.source,
        setting.synonyms if request.synonyms else (),
        setting.kind,
        setting.documentation if request.documentation else None,
    )
