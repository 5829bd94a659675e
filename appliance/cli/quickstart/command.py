"""`memorystreamer quickstart`: from an empty directory to a secured, serving appliance.

Steps: (1) look at ports and folders; (2) authority, certificates, policy; (3) the key provider;
(4) each node's configuration and, once, its data directory; (5) the nodes, of which the first makes
the cluster and adds the others; (6) banner and the `ready` line. On SIGTERM, on Ctrl-C and when its
terminal is closed, the nodes stop before their keys do.
"""

import signal
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated
from uuid import uuid4

import trio
import typer
from certs_tooling.authority import Authority
from certs_tooling.errors import AuthorityError
from msgspec import Struct

from appliance.cli.quickstart import (
    banner,
    cluster_start,
    configuration,
    keyserver,
    preflight,
    profiles,
)
from appliance.cli.quickstart.configuration import Ports
from appliance.cli.quickstart.layout import Layout, NodeFolder
from appliance.cli.quickstart.nodes import NodeEnded, Supervisor, unexplained
from appliance.config import NodeConfig
from appliance.errors import ConfigurationError
from appliance.observe.log import LEVELS
from appliance.types import ClusterId, NodeId

MAX_QUICKSTART_NODES = 9


class Provider(StrEnum):
    """Where the nodes' keys come from."""

    OPENBAO = "openbao"
    LOCAL = "local"


class Options(Struct, frozen=True):
    """What was asked for; None where the command line did not say."""

    layout: Layout
    nodes: int
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
    nodes: Annotated[
        int | None,
        typer.Option(
            "--nodes",
            min=1,
            max=MAX_QUICKSTART_NODES,
            help="How many nodes to run.  [default: as many as there are, at first 1]",
        ),
    ] = None,
    kafka_port: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=65_535,
            help="For Kafka clients; further nodes take the next ones.  [default: 9093]",
        ),
    ] = None,
    native_port: Annotated[
        int | None,
        typer.Option(min=1, max=65_535, help="For our own clients, likewise.  [default: 9193]"),
    ] = None,
    peer_port: Annotated[
        int | None,
        typer.Option(
            min=1, max=65_535, help="For nodes among themselves, likewise.  [default: 9293]"
        ),
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
    layout = Layout(directory.absolute())
    options = Options(
        layout=layout,
        nodes=_count(layout, nodes),
        ports=Ports(kafka_port, native_port, peer_port),
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
        options.layout.claimed(options.nodes),
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


def _count(layout: Layout, asked: int | None) -> int:
    """How many nodes there are to be; a cluster is not made smaller by leaving nodes out."""
    there = layout.node_count
    if asked is not None and asked < there:
        raise ConfigurationError(
            f"--nodes {asked}: {layout.root} has {there} nodes; leave the option out, and take"
            " nodes out with `memorystreamer cluster remove`"
        )
    return asked or there or 1


async def _appliance(options: Options) -> int:
    """Steps 1 to 6, then serves until cancelled; returns when a node never came to serve."""
    layout = options.layout
    folders = [layout.node(node) for node in range(1, options.nodes + 1)]
    stored = _look(options, folders)
    authority = _certified(layout, folders)
    cluster = stored.node.cluster if stored is not None else ClusterId(uuid4())
    if _provider(options, stored) is Provider.LOCAL:
        if options.nodes > 1:
            raise ConfigurationError(
                "--keys local serves one node alone: leave it out to run a cluster"
            )
        source = keyserver.local_keystore(layout, options.passphrase_file)
        return await _nodes(options, authority, cluster, source)
    vault = stored.keys.vault if stored is not None else None
    banner.step("starting OpenBao, the key server")
    ids = [NodeId(folder.id) for folder in folders]
    async with keyserver.trial_vault(layout, authority, cluster, ids, vault, _report) as source:
        return await _nodes(options, authority, cluster, source)


async def _nodes(
    options: Options, authority: Authority, cluster: ClusterId, source: keyserver.KeySource
) -> int:
    """Steps 4 to 6."""
    layout = options.layout
    folders = [layout.node(node) for node in range(1, options.nodes + 1)]
    configs = [
        configuration.write(
            layout,
            folder,
            configuration.Wanted(
                cluster=cluster,
                ports=options.ports.of(folder.id),
                trust_domain=authority.trust_domain,
                provider="vault" if source.passphrase is None else "local",
                keys=source.settings,
                login=source.logins.get(NodeId(folder.id), {}),
                with_peers=options.nodes > 1,
            ),
        )
        for folder in folders
    ]
    _write_profiles(layout, authority, configs)
    if configs[0].keys.vault is not None:
        profiles.write_custodian(layout, cluster, configs[0].keys.vault)
    supervisor = Supervisor(source.passphrase, options.restart, _report, options.log_level)
    try:
        for folder in folders:
            if not folder.data.exists():
                await supervisor.create(folder)
        async with trio.open_nursery() as nursery:
            lines = await cluster_start.start_all(nursery, supervisor, layout, configs)
            banner.show(layout, trial_keys=configs[0].keys.provider == "vault")
            ready = cluster_start.joined(lines)
            print(f"{ready} admin={layout.client / 'admin.properties'}", flush=True)
            await trio.sleep_forever()
    except* NodeEnded as ended:
        for line in unexplained(ended):
            _report(line)
    return 1


def _look(options: Options, folders: Sequence[NodeFolder]) -> NodeConfig | None:
    """Step 1; returns the first node's configuration of an earlier start."""
    taken: dict[int, str] = {}
    for folder in folders:
        preflight.check_stopped(folder)
        for name, port in _ports(options, folder).items():
            if port in taken:
                raise ConfigurationError(
                    f"{name} and {taken[port]} on port {port}: choose different ports"
                )
            taken[port] = name
            preflight.check_port(configuration.HOST, port, name.split()[0])
    stored = configuration.stored(folders[0])
    _provider(options, stored)
    return stored


def _ports(options: Options, folder: NodeFolder) -> dict[str, int]:
    """A node's ports, by the option that chooses them."""
    stored = configuration.stored(folder)
    usual = options.ports.of(folder.id).defaulted(folder.id)
    given = options.ports
    asked = {"kafka": given.kafka, "native": given.native, "peers": given.peers}
    default = {"kafka": usual.kafka, "native": usual.native, "peers": usual.peers}
    if options.nodes == 1:
        del default["peers"]
    kept = {} if stored is None else stored.listeners.all
    ports = {}
    for name, port in default.items():
        stays = asked[name] is None and name in kept
        option = "--peer-port" if name == "peers" else f"--{name}-port"
        ports[f"{option} (node {folder.id})"] = kept[name].bound.port if stays else port or 0
    return ports


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


def _certified(layout: Layout, folders: Sequence[NodeFolder]) -> Authority:
    """Step 2: the authority, and the nodes' certificates; what is there is kept."""
    exists = Authority.exists(layout.authority)
    if not exists:
        banner.step("making a private authority and certificates")
    authority = Authority.open(layout.authority) if exists else Authority.create(layout.authority)
    for node in folders:
        if not (node.certificate.exists() and node.key.exists()):
            issued = authority.issue_node(node.id, [configuration.HOST, "localhost"])
            issued.save(certificate=node.certificate, key=node.key)
    return authority


def _write_profiles(layout: Layout, authority: Authority, configs: Sequence[NodeConfig]) -> None:
    kafka = [config.listeners.kafka.public for config in configs]
    native = [config.listeners.native.public for config in configs]
    profiles.write_all(layout, authority, kafka, native)


def _report(line: str) -> None:
    print(f"memorystreamer: {line}", file=sys.stderr, flush=True)
