"""DescribeUserScramCredentials and AlterUserScramCredentials: who can log in by a password.

Rules: whoever sets a credential can be its user from then on, so this needs the right to change the
policy itself. Only the kind and the iterations of a credential are ever told.
"""

from collections import Counter
from typing import Final

from appliance.authn.sasl_scram import (
    MIN_ITERATIONS,
    SCRAM_NUMBERS,
    SHA_256,
    SHA_512,
    credential,
    is_user_name,
)
from appliance.authz.gate import Authorized
from appliance.broker.auditor import Auditor
from appliance.broker.caller import Caller
from appliance.broker.catalogue import Catalogue
from appliance.coordination.credentials import CredentialCommand, RemoveScram, SetScram
from appliance.errors import ErrorCode, RequestError
from appliance.limits import MAX_SCRAM_ITERATIONS, MAX_SCRAM_SALT_BYTES
from appliance.wire.requests import (
    AlteredScramUser,
    AlterUserScramCredentials,
    AlterUserScramCredentialsResult,
    DescribeUserScramCredentials,
    DescribeUserScramCredentialsResult,
    ScramDeletion,
    ScramInfo,
    ScramUpsertion,
    ScramUser,
)

MECHANISMS: Final = {number: name for name, number in SCRAM_NUMBERS.items()}
_SALTED_BYTES: Final = {SHA_256: 32, SHA_512: 64}


class DescribeUserScramCredentialsHandler:
    """Tells kinds and iterations."""

    request = DescribeUserScramCredentials

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def refuse(
        self, _: DescribeUserScramCredentials, code: ErrorCode
    ) -> DescribeUserScramCredentialsResult:
        """Says why not."""
        return DescribeUserScramCredentialsResult(error=code)

    async def handle(
        self, _: Caller, authorized: Authorized[DescribeUserScramCredentials]
    ) -> DescribeUserScramCredentialsResult:
        """One answer a user."""
        found: dict[str, list[ScramInfo]] = {}
        for (user, number), kept in sorted(self._catalogue.state.credentials.held.items()):
            found.setdefault(user, []).append(ScramInfo(number, kept.iterations))
        asked = authorized.request.users
        times = Counter(asked or list(found))
        users = []
        for name in times:
            if times[name] > 1:
                twice = "the user is named twice"
                users.append(ScramUser(name, ErrorCode.DUPLICATE_RESOURCE, twice))
            elif name not in found:
                users.append(ScramUser(name, ErrorCode.RESOURCE_NOT_FOUND, "no credentials"))
            else:
                users.append(ScramUser(name, credentials=tuple(found[name])))
        return DescribeUserScramCredentialsResult(tuple(users))


class AlterUserScramCredentialsHandler:
    """Sets and removes credentials, user by user."""

    request = AlterUserScramCredentials

    def __init__(self, catalogue: Catalogue, auditor: Auditor) -> None:
        self._catalogue = catalogue
        self._auditor = auditor

    def refuse(
        self, request: AlterUserScramCredentials, code: ErrorCode
    ) -> AlterUserScramCredentialsResult:
        """Every user refused."""
        changes: list[ScramDeletion | ScramUpsertion] = [*request.deletions, *request.upsertions]
        names = dict.fromkeys(each.name for each in changes)
        return AlterUserScramCredentialsResult(tuple(AlteredScramUser(n, code) for n in names))

    async def handle(
        self, caller: Caller, authorized: Authorized[AlterUserScramCredentials]
    ) -> AlterUserScramCredentialsResult:
        """One answer a user, whose first fault is all of theirs."""
        request = authorized.request
        changes: list[ScramDeletion | ScramUpsertion] = [*request.deletions, *request.upsertions]
        times = Counter((each.name, each.mechanism) for each in changes)
        results: dict[str, AlteredScramUser] = {}
        for each in changes:
            if each.name in results and results[each.name].error is not ErrorCode.NONE:
                continue
            try:
                _check_once(times[each.name, each.mechanism])
                await self._alter(caller, authorized, each)
                results[each.name] = AlteredScramUser(each.name)
            except RequestError as error:
                results[each.name] = AlteredScramUser(each.name, error.code, str(error))
        return AlterUserScramCredentialsResult(tuple(results.values()))

    async def _alter(
        self,
        caller: Caller,
        authorized: Authorized[AlterUserScramCredentials],
        change: ScramDeletion | ScramUpsertion,
    ) -> None:
        command = _command(change)
        held = self._catalogue.state.credentials.held
        if isinstance(command, RemoveScram) and (command.user, command.mechanism) not in held:
            _refuse(ErrorCode.RESOURCE_NOT_FOUND, "there is no such credential")
        verb = "set" if isinstance(command, SetScram) else "remove"
        detail = f"{verb} {MECHANISMS[change.mechanism]}"
        await self._auditor.changing(caller, authorized, (change.name,), detail)
        await self._catalogue.change_credential(command)


def _command(change: ScramDeletion | ScramUpsertion) -> CredentialCommand:
    """What is kept of a change; raises RequestError for one that cannot be had."""
    mechanism = MECHANISMS.get(change.mechanism)
    if mechanism is None:
        raise RequestError(ErrorCode.UNSUPPORTED_SASL_MECHANISM, "there is no such mechanism")
    if not is_user_name(change.name):
        _refuse(
            ErrorCode.UNACCEPTABLE_CREDENTIAL,
            "a user's name has letters, digits, dots, hyphens and underscores only",
        )
    if isinstance(change, ScramDeletion):
        return RemoveScram(change.name, change.mechanism)
    if not MIN_ITERATIONS <= change.iterations <= MAX_SCRAM_ITERATIONS:
        _refuse(
            ErrorCode.UNACCEPTABLE_CREDENTIAL,
            f"iterations are {MIN_ITERATIONS} to {MAX_SCRAM_ITERATIONS}",
        )
    if not 0 < len(change.salt) <= MAX_SCRAM_SALT_BYTES:
        _refuse(ErrorCode.UNACCEPTABLE_CREDENTIAL, f"a salt has 1 to {MAX_SCRAM_SALT_BYTES} bytes")
    if len(change.salted_password) != _SALTED_BYTES[mechanism]:
        _refuse(ErrorCode.UNACCEPTABLE_CREDENTIAL, f"a password was not salted for {mechanism}")
    kept = credential(
        mechanism, change.salted_password, salt=change.salt, iterations=change.iterations
    )
    return SetScram(
        change.name,
        change.mechanism,
        kept.iterations,
        kept.salt,
        kept.stored_key,
        kept.server_key,
    )


def _check_once(times: int) -> None:
    if times > 1:
        _refuse(ErrorCode.DUPLICATE_RESOURCE, "a credential is named twice")


def _refuse(code: ErrorCode, message: str) -> None:
    raise RequestError(code, message)
