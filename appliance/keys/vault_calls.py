"""Calls to Vault, each of which comes to an answer or a `Failure`; the only module that knows hvac.

Rules:
- no exception of hvac, requests or urllib3 leaves this module, as text, cause or context: after a
  failed call it may hold a reply, and a reply may hold keys (a half-bad batch holds the good items'
  keys). A call in a worker thread therefore returns a `Failure` as a value, and what is raised is
  raised by the callers, outside every `except`;
- requests are raw writes and reads, with nothing of hvac's own idea of an engine's parameters;
- paths are put together by callers from settings and UUIDs, never from bytes of a data directory;
- calls block, so they run in worker threads, a few at a time, and are bounded in time.
"""

from collections.abc import Callable, Mapping
from typing import TypeVar

import hvac
import msgspec
import requests
import trio
import urllib3

from appliance.keys.vault_failures import Failure
from appliance.keys.vault_settings import VaultServer

CALLS_AT_ONCE = 4
CONNECT_S, READ_S = 2.0, 5.0
BATCH_READ_S = 30.0

Answer = TypeVar("Answer")
Reader = Callable[[object], Answer]
"""Makes an answer of a reply's JSON; whatever it raises makes the call a failure."""


class VaultClient:
    """One pool of connections to one Vault, with one token."""

    def __init__(self, server: VaultServer, session: requests.Session, token: str = "") -> None:
        """Calls nothing yet. Without a token until a login, or with one that was handed over."""
        self._server = server
        self._session = session
        self._limiter = trio.CapacityLimiter(CALLS_AT_ONCE)
        # An empty token and an explicit `verify` keep hvac from looking into the environment.
        self._hvac = hvac.Client(
            url=server.address,
            token=token,
            verify=True,
            timeout=(CONNECT_S, READ_S),
            allow_redirects=False,
            session=session,
            namespace=server.namespace,
        )

    async def run(self, call: Callable[[], Answer | Failure]) -> Answer | Failure:
        """Runs one of the calls below in a worker thread; leaves it behind when cancelled."""
        return await trio.to_thread.run_sync(call, abandon_on_cancel=True, limiter=self._limiter)

    def with_token(self, token: str) -> "VaultClient":
        """The same connections under another token."""
        return VaultClient(self._server, self._session, token)

    def close(self) -> None:
        """Closes the connections."""
        self._session.close()

    # The calls below block.

    def read(
        self, path: str, read: Reader[Answer], params: Mapping[str, str] | None = None
    ) -> Answer | Failure:
        """Reads a path."""
        return _attempt(lambda: self._hvac.adapter.get(f"/v1/{path}", params=params), read)

    def write(
        self, path: str, body: Mapping[str, object], read: Reader[Answer], *, read_s: float = READ_S
    ) -> Answer | Failure:
        """Writes to a path."""
        return _attempt(
            lambda: self._hvac.adapter.post(
                f"/v1/{path}", json=dict(body), timeout=(CONNECT_S, read_s)
            ),
            read,
        )

    def delete(self, path: str) -> bool | Failure:
        """Deletes a path."""
        return _attempt(lambda: self._hvac.adapter.delete(f"/v1/{path}"), lambda _: True)

    def log_in(
        self, path: str, body: Mapping[str, object], read: Reader[Answer]
    ) -> Answer | Failure:
        """Logs in, and sends the new token from here on."""
        return _attempt(lambda: self._hvac.adapter.login(f"/v1/{path}", json=dict(body)), read)

    def health(self) -> Failure | None:
        """None when Vault is unsealed and answers, be it as a standby."""
        outcome = _attempt(
            lambda: self._hvac.sys.read_health_status(method="GET", standby_ok=True),
            lambda reply: not isinstance(reply, requests.Response),
        )
        if isinstance(outcome, Failure):
            return outcome
        return None if outcome else Failure.SEALED


def _attempt(call: Callable[[], object], read: Reader[Answer]) -> Answer | Failure:
    """Calls, reads the reply, and turns whatever a library raises into a Failure."""
    try:
        return read(call())
    except (hvac.exceptions.Forbidden, hvac.exceptions.Unauthorized):
        return Failure.REFUSED
    except hvac.exceptions.InvalidPath:
        return Failure.MISSING
    except hvac.exceptions.InvalidRequest:
        return Failure.INVALID
    except (hvac.exceptions.VaultDown, hvac.exceptions.VaultNotInitialized):
        return Failure.SEALED
    except requests.exceptions.SSLError:
        return Failure.UNTRUSTED
    except (
        hvac.exceptions.VaultError,
        requests.RequestException,
        urllib3.exceptions.HTTPError,
        msgspec.MsgspecError,
        LookupError,
        TypeError,
        ValueError,
        OSError,
    ):
        return Failure.AWAY
