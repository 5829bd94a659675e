"""ListConfigResources: topics and nodes, which are what has settings here (KIP-1142)."""

from typing import Final

from appliance.authz.actions import Action, ResourceKind
from appliance.authz.gate import Authorized
from appliance.broker.caller import Caller
from appliance.broker.catalogue import Catalogue
from appliance.errors import ErrorCode, RequestError
from appliance.wire.requests import (
    ConfigResource,
    ListConfigResources,
    ListConfigResourcesResult,
    SettingsOf,
)

_KINDS: Final = frozenset({SettingsOf.TOPIC, SettingsOf.BROKER, 8, 16, 32})
"""Kafka's; of the levels of loggers, of clients' metrics and of groups there are none here."""


class ListConfigResourcesHandler:
    """Lists names, each topic only if its settings may be described."""

    request = ListConfigResources

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def refuse(self, _: ListConfigResources, code: ErrorCode) -> ListConfigResourcesResult:
        """Says why not."""
        return ListConfigResourcesResult(error=code)

    async def handle(
        self, _: Caller, authorized: Authorized[ListConfigResources]
    ) -> ListConfigResourcesResult:
        """Topics first, then nodes."""
        kinds = frozenset(authorized.request.kinds) or _KINDS
        if not kinds <= _KINDS:
            raise RequestError(ErrorCode.UNSUPPORTED_VERSION, "there is no such kind of resource")
        found: list[ConfigResource] = []
        if SettingsOf.TOPIC in kinds:
            names = self._catalogue.topic_names()
            granted = authorized.granted(Action.DESCRIBE_CONFIGS, ResourceKind.TOPIC, names)
            found += [ConfigResource(name, SettingsOf.TOPIC) for name in granted]
        if SettingsOf.BROKER in kinds:
            nodes = sorted(self._catalogue.state.nodes)
            found += [ConfigResource(str(node), SettingsOf.BROKER) for node in nodes]
        return ListConfigResourcesResult(tuple(found))
