"""`memorystreamer quickstart`: from an empty directory to a secured, serving appliance.

Steps: (1) look at ports and folders; (2) authority, certificates, policy; (3) the key provider;
(4) the node's configuration and, once, its data directory; (5) the node; (6) profiles, banner and
the `ready` line. On SIGTERM, on Ctrl-C and when its terminal is closed, the nodes stop before their
keys do.
"""

import signal
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated
from uuid import uuid4

import trio
import typer
from certs_tooling.authority import Authority
from certs_tooling.errors import AuthorityError
from msgspec import Struct

from appliance.cli.quickstart import banner, configuration, keyserver, preflight, profiles
from appliance.cli.quickstart.configuration import Ports
from appliance.cli.quickstart.layout import Layout, NodeFolder
from appliance.cli.quickstart.nodes import NodeEnded, Supervisor
from appliance.config import NodeConfig
from appliance.errors import ConfigurationError
from appliance.observe.log import LEVELS
from appliance.types import ClusterId


class Provider(StrEnum):
    """Where the nodes' keys come from."""

    OPENBAO = "openbao"
    LOCAL = "local"


class Options(Struct, frozen=True):
    """What was asked for; None where the command line did not say."""

    layout: Layout
    ports: Ports
    keys: Provider | None
    restart: bool
    passphrase_file: Path | None
    log_level: str


def register(app: typer.Typer) -> None:
    """Adds `quickstart`."""
    app.command("quickstart")(quickstart)


def quickstart(
    directory: Annotated[
        Path, typer.Option("--dir", help="Where everything is kept (0700).")
    ] = Path("memorystreamer-data"),
    nodes: Annotated[int, typer.Option("--nodes", min=1, help="How many nodes to run.")] = 1,
    kafka_port: Annotated[
        int | None, typer.Option(min=1, max=65_535, help="For Kafka clients.  [default: 9093]")
    ] = None,
    native_port: Annotated[
        int | None, typer.Option(min=1, max=65_535, help="For our own clients.  [default: 9193]")
    ] = None,
    keys: Annotated[
        Provider | None, typer.Option(help="Where keys come from.  [default: openbao]")
    ] = None,
    no_restart: Annotated[
        bool, typer.Option("--no-restart", help="Do not start a node again that dies.")
    ] = False,
    passphrase_file: Annotated[
        Path | None, typer.Option(help="Passphrase for `--keys local`; asked for otherwise.")
    ] = None,
    log_level: Annotated[
        str, typer.Option("--log-level", help="Of nodes: debug, info, warning or error.")
    ] = "warning",
) -> None:
    """Start a secured appliance here, making what is missing."""
    if log_level not in LEVELS:
        raise ConfigurationError(f"--log-level: choose one of {', '.join(LEVELS)}")
    if nodes != 1:
        raise ConfigurationError("--nodes: this version runs one node; leave it out")
    options = Options(
        layout=Layout(directory.absolute()),
        ports=Ports(kafka_port, native_port),
        keys=keys,
        restart=not no_restart,
        passphrase_file=passphrase_file,
        log_level=log_level,
    )
    try:
        raise typer.Exit(trio.run(_run, options))
    except AuthorityError as error:
        raise ConfigurationError(str(error)) from None


async def _run(options: Options) -> int:
    """Returns the exit code: 0 after a signal, 1 when a node refused to serve."""
    code = 0
    with (
        options.layout.claimed(1),
        trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals,
    ):
        async with trio.open_nursery() as nursery:

            async def stop_on_signal() -> None:
                async for _ in signals:
                    banner.step("stopping")
                    nursery.cancel_scope.cancel()

            nursery.start_soon(stop_on_signal)
            code = await _appliance(options)
            nursery.cancel_scope.cancel()
    return code


async def _appliance(options: Options) -> int:
    """Steps 1 to 6, then serves until cancelled; returns when the node never came to serve."""
    layout, node = options.layout, options.layout.node(1)
    stored = _look(options, node)
    authority = _certified(layout, node)
    cluster = stored.node.cluster if stored is not None else ClusterId(uuid4())
    if _provider(options, stored) is Provider.LOCAL:
        source = keyserver.local_keystore(layout, options.passphrase_file)
        return await _nodes(options, authority, cluster, source)
    vault = stored.keys.vault if stored is not None else None
    banner.step("starting OpenBao, the key server")
    async with keyserver.trial_vault(layout, authority, cluster, vault, _report) as source:
        return await _nodes(options, authority, cluster, source)


async def _nodes(
    options: Options, authority: Authority, cluster: ClusterId, source: keyserver.KeySource
) -> int:
    """Steps 4 to 6."""
    layout, node = options.layout, options.layout.node(1)
    config = configuration.write(
        layout,
        node,
        configuration.Wanted(
            cluster=cluster,
            ports=options.ports,
            trust_domain=authority.trust_domain,
            provider="vault" if source.passphrase is None else "local",
            keys=source.settings,
            login=source.login,
        ),
    )
    banner.step("starting node 1")
    supervisor = Supervisor(source.passphrase, options.restart, _report, options.log_level)
    try:
        if not node.data.exists():
            await supervisor.create(node)
        async with trio.open_nursery() as nursery:
            line = await nursery.start(supervisor.run, node)
            _announce(layout, authority, config, line)
            await trio.sleep_forever()
    except* NodeEnded as ended:
        for failure in ended.exceptions:
            if not (isinstance(failure, NodeEnded) and failure.explained):
                _report(str(failure))
    return 1


def _look(options: Options, node: NodeFolder) -> NodeConfig | None:
    """Step 1; returns the configuration of an earlier start."""
    preflight.check_stopped(node)
    stored = configuration.stored(node)
    _provider(options, stored)
    kafka = stored.listeners.kafka.bound.port if stored else configuration.DEFAULT_KAFKA_PORT
    native = stored.listeners.native.bound.port if stored else configuration.DEFAULT_NATIVE_PORT
    kafka, native = options.ports.kafka or kafka, options.ports.native or native
    if kafka == native:
        raise ConfigurationError(f"both listeners on port {kafka}: choose two different ports")
    preflight.check_port(configuration.HOST, kafka, "--kafka-port")
    preflight.check_port(configuration.HOST, native, "--native-port")
    return stored


def _provider(options: Options, stored: NodeConfig | None) -> Provider:
    """The provider that DIR was made with, or the one asked for; OpenBao by default."""
    if stored is None:
        return options.keys or Provider.OPENBAO
    known = Provider.LOCAL if stored.keys.provider == "local" else Provider.OPENBAO
    if options.keys not in {None, known}:
        raise ConfigurationError(
            f"--keys: {options.layout.root} was made with `--keys {known}`;"
            " leave the option out, or choose another --dir"
        )
    return known


def _certified(layout: Layout, node: NodeFolder) -> Authority:
    """Step 2: the authority, and the node's certificate; what is there is kept."""
    exists = Authority.exists(layout.authority)
    if not exists:
        banner.step("making a private authority and certificates")
    authority = Authority.open(layout.authority) if exists else Authority.create(layout.authority)
    if not (node.certificate.exists() and node.key.exists()):
        issued = authority.issue_node(node.id, [configuration.HOST, "localhost"])
        issued.save(certificate=node.certificate, key=node.key)
    return authority


def _announce(layout: Layout, authority: Authority, config: NodeConfig, line: str) -> None:
    """Step 6: profiles, banner, and the `ready` line, which is the last one on stdout."""
    kafka, native = config.listeners.kafka.public, config.listeners.native.public
    profiles.write_all(layout, authority, kafka, native)
    if config.keys.vault is not None:
        profiles.write_custodian(layout, config.node.cluster, config.keys.vault)
    banner.show(layout, trial_keys=config.keys.provider == "vault")
    print(f"{line} admin={layout.client / 'admin.properties'}", flush=True)


def _report(line: str) -> None:
    print(f"memorystreamer: {line}", file=sys.stderr, flush=True)
