"""Signs statements with the key of this node's certificate.

Both files are read at each signature: they may have been renewed.
"""

from pathlib import Path

import trio

from appliance.crypto import statement
from appliance.errors import ConfigurationError, ErrorCode, RequestError


class NodeSigner:
    """A `ports.Signer` on the files that the listeners use."""

    def __init__(self, certificate: Path, key: Path) -> None:
        """Reads nothing yet."""
        self._certificate = certificate
        self._key = key

    async def sign(self, text: str) -> str:
        """See `ports.Signer`."""
        try:
            return await trio.to_thread.run_sync(self._signed, text)
        except (OSError, ConfigurationError):
            raise RequestError(
                ErrorCode.KAFKA_STORAGE_ERROR,
                "tls.certificate and tls.key cannot be used to sign now: see to the files, and ask"
                " again",
            ) from None

    def _signed(self, text: str) -> str:
        return statement.sign(
            text, certificate_pem=self._certificate.read_bytes(), key_pem=self._key.read_bytes()
        )
