"""The settings of a topic as they are told: what it was given, and the defaults of the rest.

A setting that is refused here is not told of.
"""

from collections.abc import Mapping

from appliance.broker.setting_kinds import Standing
from appliance.broker.topic_settings import TOPIC_SETTINGS
from appliance.wire.requests import Setting, SettingSource, SettingSynonym


def settings_of_topic(given: Mapping[str, str]) -> tuple[Setting, ...]:
    """Every setting that a topic has, with all that can be said of it."""
    settings = []
    for known in TOPIC_SETTINGS:
        if known.standing is Standing.REFUSED:
            continue
        usual = SettingSynonym(known.name, known.value, SettingSource.DEFAULT)
        own = given.get(known.name)
        synonyms: tuple[SettingSynonym, ...] = (usual,)
        if own is not None:
            synonyms = (SettingSynonym(known.name, own, SettingSource.TOPIC), usual)
        value, source = synonyms[0].value, synonyms[0].source
        settings.append(Setting(known.name, value, False, source, synonyms, known.kind, known.why))
    return tuple(settings)


def briefly(settings: tuple[Setting, ...]) -> tuple[Setting, ...]:
    """The same without what CreateTopics has no room for."""
    return tuple(Setting(each.name, each.value, False, each.source) for each in settings)
