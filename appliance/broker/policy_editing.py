"""Changes of the policy by part, made on the text that is in force and put in force whole."""

from collections.abc import Callable

from appliance.authz.enforcer import check
from appliance.authz.gate import Authorized
from appliance.broker.auditor import Auditor
from appliance.broker.caller import Caller
from appliance.broker.catalogue import Catalogue
from appliance.errors import ConfigurationError, ErrorCode, RequestError
from appliance.wire.requests import Request

_ATTEMPTS = 5
"""Somebody else may change the policy between reading it and putting a change in force."""


class PolicyEditing:
    """One way to change the policy for all who change parts of it."""

    def __init__(self, catalogue: Catalogue, auditor: Auditor) -> None:
        self._catalogue = catalogue
        self._auditor = auditor

    @property
    def text(self) -> str:
        """The policy in force."""
        return self._catalogue.policy()[1]

    async def change(
        self,
        caller: Caller,
        authorized: Authorized[Request],
        edited: Callable[[str], str],
        detail: str,
    ) -> None:
        """Records the change and puts it in force; nothing happens if there is none.

        Raises RequestError: INVALID_REQUEST, naming the line, if the result is no policy.
        """
        for attempt in range(_ATTEMPTS):
            version, text = self._catalogue.policy()
            changed = edited(text)
            if changed == text:
                return
            try:
                check(changed)
                await self._auditor.changing(caller, authorized, ("policy",), detail)
                await self._catalogue.set_policy(changed, expected_version=version)
            except ConfigurationError as error:
                raise RequestError(ErrorCode.INVALID_REQUEST, str(error)) from None
            except RequestError as error:
                crossed = error.code is ErrorCode.INVALID_UPDATE_VERSION
                if not crossed or attempt == _ATTEMPTS - 1:
                    raise
            else:
                return
