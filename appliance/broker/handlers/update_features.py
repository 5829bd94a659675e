"""UpdateFeatures: a level that is in force may be asked for again, and no other can be had."""

from appliance.authz.gate import Authorized
from appliance.broker.caller import Caller
from appliance.errors import ErrorCode
from appliance.wire.kafka.features import FEATURES
from appliance.wire.requests import (
    FeatureUpdate,
    UpdatedFeature,
    UpdateFeatures,
    UpdateFeaturesResult,
)

_LEVELS = {each.name: each for each in FEATURES}


class UpdateFeaturesHandler:
    """Levels come with releases of this appliance, all nodes' at once; clients do not move them."""

    request = UpdateFeatures

    def refuse(self, request: UpdateFeatures, code: ErrorCode) -> UpdateFeaturesResult:
        """Every feature refused."""
        features = tuple(UpdatedFeature(each.name, code) for each in request.updates)
        return UpdateFeaturesResult(code, features=features)

    async def handle(
        self, _: Caller, authorized: Authorized[UpdateFeatures]
    ) -> UpdateFeaturesResult:
        """All of them or none: the first fault is the whole's (KIP-1022)."""
        faults = {each.name: _fault(each) for each in authorized.request.updates}
        first = next(((n, f) for n, f in faults.items() if f is not None), None)
        if first is None:
            features = tuple(UpdatedFeature(name) for name in faults)
            return UpdateFeaturesResult(features=features)
        code = ErrorCode.INVALID_UPDATE_VERSION
        message = f"{first[0][:64]}: {first[1]}"
        features = tuple(UpdatedFeature(name, code, message) for name in faults)
        return UpdateFeaturesResult(code, message, features)


def _fault(update: FeatureUpdate) -> str | None:
    known = _LEVELS.get(update.name)
    if known is None:
        return "there is no such feature here"
    if update.level != known.finalised:
        return f"level {known.finalised} is in force, and comes with this release"
    return None
