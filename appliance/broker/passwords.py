"""What is kept of users' passwords, as logins ask the catalogue for it."""

from collections.abc import Mapping

from appliance.authn.sasl_scram import SCRAM_NUMBERS, ScramCredential
from appliance.broker.catalogue import Catalogue


class KeptPasswords:
    """The catalogue's credentials, by the names of mechanisms."""

    def __init__(self, catalogue: Catalogue, own_secret: bytes) -> None:
        """`own_secret` serves until the first user brings the cluster's."""
        self._catalogue = catalogue
        self._own_secret = own_secret

    def find(self, user: str, mechanism: str) -> ScramCredential | None:
        """See `Credentials.find`."""
        kept = self._catalogue.state.credentials.held.get((user, SCRAM_NUMBERS[mechanism]))
        if kept is None:
            return None
        return ScramCredential(kept.iterations, kept.salt, kept.stored_key, kept.server_key)

    def shapes(self, mechanism: str) -> Mapping[tuple[int, int], int]:
        """See `Credentials.shapes`."""
        return self._catalogue.state.credentials.shapes(SCRAM_NUMBERS[mechanism])

    def decoy_secret(self) -> bytes:
        """See `Credentials.decoy_secret`."""
        return self._catalogue.state.credentials.decoy_secret or self._own_secret
