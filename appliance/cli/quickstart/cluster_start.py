"""The nodes of one quickstart, started side by side, until all of them serve.

Rules: a new node waits until the cluster has admitted it; that is an act of the administrator,
which the quickstart carries out with the admin's own certificate, through the same request as
`memorystreamer cluster add`. Nodes that belong to the cluster find each other by themselves.
"""

from collections.abc import Sequence

import trio

from appliance.cli.quickstart import banner
from appliance.cli.quickstart.layout import Layout
from appliance.cli.quickstart.nodes import Supervisor
from appliance.client import profile
from appliance.client.admin import Admin
from appliance.client.secure import connector
from appliance.client.session import open_session
from appliance.config import NodeConfig
from appliance.types import NodeId


async def start_all(
    nursery: trio.Nursery, supervisor: Supervisor, layout: Layout, configs: Sequence[NodeConfig]
) -> list[str]:
    """Runs every node in `nursery`; returns their `ready` lines, in the order of the nodes."""
    lines: dict[int, str] = {}
    first = trio.Event()

    async def start(node: int) -> None:
        banner.step(f"starting node {node}")
        lines[node] = await nursery.start(supervisor.run, layout.node(node))
        first.set()

    async with trio.open_nursery() as starting:
        for config in configs:
            starting.start_soon(start, config.node.id)
        if len(configs) > 1:
            await first.wait()
            await _admit_all(layout, configs)
    return [lines[config.node.id] for config in configs]


async def _admit_all(layout: Layout, configs: Sequence[NodeConfig]) -> None:
    """Has the cluster admit the nodes that it does not know."""
    admin = profile.load(layout.client / "admin.toml")
    async with open_session(connector(admin), admin.bootstrap) as session:
        known = {status.node for status in (await Admin(session).nodes()).nodes}
        for config in configs:
            peers = config.listeners.peers
            if config.node.node_id not in known and peers is not None:
                banner.step(f"adding node {config.node.id} to the cluster")
                await Admin(session).add_node(
                    NodeId(config.node.id), peers.public.host, peers.public.port
                )


def joined(lines: Sequence[str]) -> str:
    """One `ready` line for all nodes: each address of each of their listeners, by commas."""
    addresses: dict[str, list[str]] = {}
    for line in lines:
        for part in line.split()[1:]:
            name, _, address = part.partition("=")
            addresses.setdefault(name, []).append(address)
    return " ".join(["ready", *(f"{name}={','.join(each)}" for name, each in addresses.items())])
