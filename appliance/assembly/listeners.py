"""The listeners of clients: two for certificates, one a dialect, and one for logins if wanted."""

from collections.abc import Awaitable, Callable
from typing import Final

import structlog
import trio
from msgspec import Struct

from appliance.assembly import garbage
from appliance.assembly.control import Control
from appliance.assembly.keys import NodeKeys
from appliance.assembly.logins import open_logins
from appliance.audit.sink import AuditLog
from appliance.authn.mtls import CertificatePrincipals
from appliance.authz.gate import Gate
from appliance.broker.dispatch import Dispatcher
from appliance.broker.node import BrokerNode
from appliance.broker.passwords import KeptPasswords
from appliance.config import NodeConfig
from appliance.limits import DECOY_SECRET_BYTES
from appliance.observe.system import SystemClock, SystemEntropy
from appliance.server.dialects import KafkaDialect, NativeDialect
from appliance.server.listener import Listener
from appliance.server.login_gate import ByLogin
from appliance.server.shares import Budgets
from appliance.wire.kafka import codec as kafka
from appliance.wire.native import codec as native

_log: Final[structlog.typing.FilteringBoundLogger] = structlog.get_logger(__name__)


class Serving(Struct, frozen=True):
    """What the listeners of a node share."""

    broker: BrokerNode
    gate: Gate
    audit: AuditLog
    budgets: Budgets


class Listeners(Struct, frozen=True):
    """Every listener of clients; `for_login` only where the configuration has one."""

    for_kafka: Listener[kafka.Call]
    for_native: Listener[native.NativeCall]
    for_login: Listener[kafka.Call] | None
    hand_over: Callable[[], Awaitable[None]]
    """Has other nodes lead what they can, while clients are still told where to go."""
    settled: Callable[[], Awaitable[None]]
    """Returns once the replicas that are to lie here are open."""


def client_listeners(
    config: NodeConfig,
    dispatcher: Dispatcher,
    serving: Serving,
    control: Control,
    login: Listener[kafka.Call] | None,
) -> Listeners:
    """Makes the listeners for certificates, and puts the one for logins beside them."""
    contexts, budgets = control.contexts[0], serving.budgets
    authenticate = CertificatePrincipals(config.tls.trust_domain, allow_nodes=False).principal
    return Listeners(
        Listener(
            "kafka", KafkaDialect(), dispatcher, authenticate, contexts=contexts, budgets=budgets
        ),
        Listener(
            "native", NativeDialect(), dispatcher, authenticate, contexts=contexts, budgets=budgets
        ),
        login,
        serving.broker.hand_over,
        serving.broker.settled,
    )


async def login_listener(
    config: NodeConfig,
    dispatcher: Dispatcher,
    control: Control,
    serving: Serving,
    nursery: trio.Nursery,
) -> Listener[kafka.Call] | None:
    """The listener for logins, if the configuration has one; its issuer's keys are kept fresh."""
    settings = config.listeners.login
    if settings is None:
        return None
    clock, entropy = SystemClock(), SystemEntropy()
    passwords = KeptPasswords(serving.broker.policies, entropy.random_bytes(DECOY_SECRET_BYTES))
    logins = await open_logins(settings, passwords, clock, entropy)
    nursery.start_soon(logins.refresh)
    return Listener(
        "login",
        KafkaDialect(),
        dispatcher,
        ByLogin(logins.begin),
        contexts=control.contexts[1],
        budgets=serving.budgets,
    )


async def serve(
    config: NodeConfig,
    listeners: Listeners,
    keys: NodeKeys,
    control: Control,
    announce: Callable[[str], None],
) -> None:
    """Serves until a signal, or the end of the keys' lease; then sees the connections off.

    The node is ready, and says so, once its replicas are open and have caught up: who stops the
    next node of a cluster then takes no quorum away.
    """
    settings = config.listeners
    for_kafka, for_native = listeners.for_kafka, listeners.for_native
    login = listeners.for_login

    async def stay_ready() -> None:
        await listeners.settled()
        control.ready = True
        announce(f"ready kafka={settings.kafka.public} native={settings.native.public}")
        await trio.sleep_forever()

    await for_kafka.bind(settings.kafka.bound.host, settings.kafka.bound.port)
    await for_native.bind(settings.native.bound.host, settings.native.bound.port)
    if login is not None and settings.login is not None:
        await login.bind(settings.login.bound.host, settings.login.bound.port)
    async with trio.open_nursery() as nursery:
        if login is not None:
            await nursery.start(login.serve)
        await nursery.start(for_kafka.serve)
        await nursery.start(for_native.serve)
        garbage.freeze()
        control.serving = True
        _log.info("serving", kafka=settings.kafka.bind, native=settings.native.bind)
        await _first(control.stopping.wait, keys.until_sealed, stay_ready, garbage.collect)
        control.ready = False
        control.serving = control.stopping.is_set()
        await listeners.hand_over()
        for_kafka.stop()
        for_native.stop()
        if login is not None:
            login.stop()


async def _first(*events: Callable[[], Awaitable[None]]) -> None:
    """Returns when one of the waits has returned."""

    async def one(event: Callable[[], Awaitable[None]], scope: trio.CancelScope) -> None:
        await event()
        scope.cancel()

    async with trio.open_nursery() as nursery:
        for event in events:
            nursery.start_soon(one, event, nursery.cancel_scope)
