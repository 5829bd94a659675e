"""AlterConfigs and IncrementalAlterConfigs: settings of topics, recorded first, then in force.

Rules: what is asked of one thing is done whole or not at all. A thing that is named twice is
refused both times, as Kafka does.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import TypeVar

from appliance.authz.gate import Authorized
from appliance.broker.auditor import Auditor
from appliance.broker.caller import Caller
from appliance.broker.handlers.describe_configs import refusals, whose
from appliance.broker.node_settings import CHANGED_IN_THE_FILE
from appliance.broker.topic_settings import BY_NAME, KEY_DOMAIN, check_settings, has_own_key
from appliance.broker.topics import LiveTopic, Topics
from appliance.errors import ErrorCode, RequestError
from appliance.types import TopicName
from appliance.wire.requests import (
    AlterConfigs,
    AlterConfigsResult,
    AlteredSettings,
    IncrementalAlterConfigs,
    SettingKind,
    SettingOperation,
    SettingsOf,
    SettingsToChange,
    SettingsToReplace,
)

_Settings = tuple[tuple[str, str], ...]
_Q = TypeVar("_Q", AlterConfigs, IncrementalAlterConfigs)
_Change = SettingsToReplace | SettingsToChange


class _Altering:
    """What both requests have in common."""

    def __init__(self, topics: Topics, auditor: Auditor) -> None:
        self._topics = topics
        self._auditor = auditor

    async def alter(
        self,
        caller: Caller,
        authorized: Authorized[_Q],
        wanted: Callable[[LiveTopic, _Change], _Settings],
    ) -> AlterConfigsResult:
        """One answer for each thing that is asked for."""
        codes = refusals(authorized)
        asked: Iterable[_Change] = authorized.asked.resources
        times = Counter((each.kind, each.name) for each in asked)
        results = []
        for each in asked:
            code = codes.get(whose(each.kind, each.name))
            message = None
            if code is None and times[each.kind, each.name] > 1:
                code, message = ErrorCode.INVALID_REQUEST, "it is named twice"
            if code is not None:
                results.append(AlteredSettings(each.kind, each.name, code, message))
                continue
            try:
                await self._alter(caller, authorized, each, wanted)
                results.append(AlteredSettings(each.kind, each.name))
            except RequestError as error:
                results.append(AlteredSettings(each.kind, each.name, error.code, str(error)))
        return AlterConfigsResult(tuple(results))

    async def _alter(
        self,
        caller: Caller,
        authorized: Authorized[_Q],
        change: _Change,
        wanted: Callable[[LiveTopic, _Change], _Settings],
    ) -> None:
        if change.kind == SettingsOf.BROKER:
            raise RequestError(ErrorCode.INVALID_REQUEST, CHANGED_IN_THE_FILE)
        if change.kind != SettingsOf.TOPIC:
            raise RequestError(ErrorCode.INVALID_REQUEST, "only topics have settings to change")
        live = self._topics.find(TopicName(change.name))
        if live is None:
            raise RequestError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "there is no such topic")
        settings = wanted(live, change)
        if has_own_key(settings) != has_own_key(live.topic.settings):
            raise RequestError(
                ErrorCode.INVALID_CONFIG,
                f"{KEY_DOMAIN}: is fixed when a topic is made; make another topic",
            )
        if authorized.request.validate_only or settings == live.topic.settings:
            return
        detail = ", ".join(f"{name}={value}" for name, value in settings) or "defaults"
        await self._auditor.changing(caller, authorized, (change.name,), detail)
        await self._topics.alter(live, settings)


class AlterConfigsHandler:
    """Replaces the settings of topics as a whole."""

    request = AlterConfigs

    def __init__(self, topics: Topics, auditor: Auditor) -> None:
        self._altering = _Altering(topics, auditor)

    def refuse(self, request: AlterConfigs, code: ErrorCode) -> AlterConfigsResult:
        """Everything refused."""
        return _all_refused(request.resources, code)

    async def handle(
        self, caller: Caller, authorized: Authorized[AlterConfigs]
    ) -> AlterConfigsResult:
        """Puts what is given in place of what there was."""
        return await self._altering.alter(caller, authorized, _replaced)


class IncrementalAlterConfigsHandler:
    """Changes single settings of topics."""

    request = IncrementalAlterConfigs

    def __init__(self, topics: Topics, auditor: Auditor) -> None:
        self._altering = _Altering(topics, auditor)

    def refuse(self, request: IncrementalAlterConfigs, code: ErrorCode) -> AlterConfigsResult:
        """Everything refused."""
        return _all_refused(request.resources, code)

    async def handle(
        self, caller: Caller, authorized: Authorized[IncrementalAlterConfigs]
    ) -> AlterConfigsResult:
        """Changes what is given, and leaves the rest."""
        return await self._altering.alter(caller, authorized, _changed)


def _all_refused(resources: Iterable[_Change], code: ErrorCode) -> AlterConfigsResult:
    return AlterConfigsResult(
        tuple(AlteredSettings(each.kind, each.name, code) for each in resources)
    )


def _replaced(_: LiveTopic, change: _Change) -> _Settings:
    if not isinstance(change, SettingsToReplace):
        raise RequestError(ErrorCode.INVALID_REQUEST, "no settings to put in place")
    for name, value in change.settings:
        if value is None:
            raise RequestError(ErrorCode.INVALID_REQUEST, f"{name[:64]}: null is no value")
    return check_settings(change.settings)


def _changed(live: LiveTopic, change: _Change) -> _Settings:
    if not isinstance(change, SettingsToChange):
        raise RequestError(ErrorCode.INVALID_REQUEST, "no settings to change")
    values = dict(live.topic.settings)
    seen = set()
    for name, operation, value in change.settings:
        if name in seen:
            raise RequestError(ErrorCode.INVALID_REQUEST, f"{name[:64]}: it is named twice")
        seen.add(name)
        if operation == SettingOperation.DELETE:
            values.pop(name, None)
            continue
        if value is None:
            raise RequestError(ErrorCode.INVALID_REQUEST, f"{name[:64]}: null is no value")
        if operation == SettingOperation.SET:
            values[name] = value
        else:
            values[name] = _listed(name, operation, value, values.get(name))
    return check_settings(values.items())


def _listed(name: str, operation: int, value: str, before: str | None) -> str:
    """A list with elements more or fewer."""
    known = BY_NAME.get(name)
    if operation not in {SettingOperation.APPEND, SettingOperation.SUBTRACT}:
        raise RequestError(ErrorCode.INVALID_REQUEST, f"there is no operation {operation}")
    if known is None or known.kind is not SettingKind.LIST:
        raise RequestError(ErrorCode.INVALID_CONFIG, f"{name[:64]}: it is no list")
    held = [each for each in (before or known.value or "").split(",") if each]
    given = value.split(",")
    if operation == SettingOperation.APPEND:
        return ",".join((*held, *(each for each in given if each not in held)))
    return ",".join(each for each in held if each not in given)
