"""`memorystreamer cluster`: how the cluster is, and who belongs to it.

Changes are decided at once and carried out by the nodes in the background: `status` shows how far
they are, and `watch` keeps showing it until nothing moves any more.
"""

import json
from typing import Annotated

import msgspec
import trio
import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

from appliance.cli.cluster import ProfileOption, fail, run
from appliance.client.admin import Admin
from appliance.client.profile import Address
from appliance.client.session import Session
from appliance.errors import ConfigurationError, ErrorCode, RequestError
from appliance.types import NodeId, PartitionIndex, TopicName
from appliance.wire.requests import DescribeNodesResult, GroupStatus, NodeStatus

app = typer.Typer(
    help="See and change which nodes belong to the cluster, and what lies on them.",
    no_args_is_help=True,
)

POLL_S = 1.0
BUSY = frozenset({ErrorCode.NOT_CONTROLLER, ErrorCode.NETWORK_EXCEPTION})
"""The cluster has another leader in a moment: worth asking again."""

NodeArgument = Annotated[int, typer.Argument(metavar="NODE", min=1, help="The node's number.")]
PartitionArgument = Annotated[
    str, typer.Argument(metavar="TOPIC/PARTITION", help="Such as orders/0.")
]


@app.command()
def status(
    profile: ProfileOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
) -> None:
    """Show the nodes, and every partition that is not as it should be."""

    async def action(session: Session) -> None:
        found = await Admin(session).nodes()
        if as_json:
            print(json.dumps(msgspec.to_builtins(found), indent=2))
        else:
            Console().print(_nodes(found), _verdict(found))

    run(profile, action)


@app.command()
def watch(profile: ProfileOption = None) -> None:
    """Show the cluster until nothing moves any more and every replica is there."""

    async def action(session: Session) -> None:
        admin = Admin(session)
        with Live(auto_refresh=False) as live:
            while True:
                found = await admin.nodes()
                live.update(_nodes(found), refresh=True)
                if _is_settled(found):
                    break
                await trio.sleep(POLL_S)
        Console().print(_verdict(found))

    run(profile, action)


@app.command()
def add(
    node: NodeArgument,
    address: Annotated[
        str, typer.Argument(metavar="HOST:PORT", help="Its peer listener, `listeners.peers`.")
    ],
    profile: ProfileOption = None,
) -> None:
    """Let a new node join; it has been created with `join = true` and is running.

    A number is used once for all time: a node that was removed never comes back under its own.
    Give it a certificate first: `memorystreamer-certs issue node NODE --host HOST`.
    """
    where = Address.parse(address)

    async def action(session: Session) -> None:
        print(await Admin(session).add_node(NodeId(node), where.host, where.port))

    run(profile, action)


@app.command()
def drain(
    node: NodeArgument,
    profile: ProfileOption = None,
    undo: Annotated[bool, typer.Option("--undo", help="Let it lead again.")] = False,
) -> None:
    """Have a node hand its leadership over and get nothing new, such as before maintenance."""

    async def action(session: Session) -> None:
        print(await Admin(session).drain_node(NodeId(node), draining=not undo))

    run(profile, action)


@app.command()
def remove(
    node: NodeArgument,
    profile: ProfileOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Move everything off a node, then take it out for good. May be interrupted and repeated."""
    if not yes:
        typer.confirm(f"Take node {node} out for good? Its number is used up then.", abort=True)

    async def action(session: Session) -> None:
        admin = Admin(session)
        said = ""
        while True:
            try:
                line = await admin.remove_node(NodeId(node))
            except RequestError as error:
                if error.code not in BUSY:
                    raise
                line = str(error)
            if line != said:
                said = line
                print(line, flush=True)
            if line.startswith("removed"):
                return
            await trio.sleep(POLL_S)

    run(profile, action)


@app.command()
def transfer(
    partition: PartitionArgument, node: NodeArgument, profile: ProfileOption = None
) -> None:
    """Have a node lead a partition that it holds."""
    topic, index = _partition(partition)

    async def action(session: Session) -> None:
        print(await Admin(session).lead_partition(topic, index, NodeId(node)))

    run(profile, action)


@app.command()
def reassign(
    partition: PartitionArgument,
    nodes: Annotated[
        list[int], typer.Argument(metavar="NODE...", help="Who is to hold it, first choice first.")
    ],
    profile: ProfileOption = None,
) -> None:
    """Move a partition to other nodes, while it goes on being written and read."""
    topic, index = _partition(partition)

    async def action(session: Session) -> None:
        print(await Admin(session).move_partition(topic, index, [NodeId(n) for n in nodes]))

    run(profile, action)


def _partition(text: str) -> tuple[TopicName, PartitionIndex]:
    """`TOPIC/PARTITION` in two."""
    topic, slash, index = text.rpartition("/")
    if not (slash and topic and index.isascii() and index.isdigit()):
        fail(ConfigurationError(f"{text}: write TOPIC/PARTITION, such as orders/0"))
    return TopicName(topic), PartitionIndex(int(index))


def _is_settled(found: DescribeNodesResult) -> bool:
    there = all(node.alive and node.host for node in found.nodes)
    return there and not found.moving and not found.unsound


def _nodes(found: DescribeNodesResult) -> Table:
    """The nodes, for a person."""
    table = Table()
    for heading in ("node", "state", "host", "rack", "address", "holds", "leads", "prefers"):
        table.add_column(heading, overflow="fold")
    for node in found.nodes:
        table.add_row(
            str(node.node),
            _state(node),
            node.host or "-",
            node.rack or "-",
            node.address,
            str(node.holds),
            str(node.leads),
            str(node.prefers),
        )
    return table


def _state(node: NodeStatus) -> str:
    if not node.host:
        return "joining"
    if not node.alive:
        return "silent"
    return "draining" if node.draining else "serves"


def _verdict(found: DescribeNodesResult) -> str:
    """What an operator has to know beside the nodes."""
    sound = "" if found.unsound else ", every replica is there"
    lines = [
        f"node {found.controller} leads the catalogue",
        f"{found.partition_count} partition(s), feature level {found.level}{sound}",
    ]
    lines += [f"not sound: {_line(group)}" for group in found.unsound]
    lines += [f"moving: {_line(group)}" for group in found.moving]
    return "\n".join(lines)


def _line(group: GroupStatus) -> str:
    def listed(nodes: tuple[NodeId, ...]) -> str:
        return " ".join(map(str, nodes))

    leader = "nobody" if group.leader < 0 else f"node {group.leader}"
    parts = [f"{group.name} led by {leader}, on {listed(group.replicas)}"]
    if group.offline:
        parts.append(f"silent: {listed(group.offline)}")
    if group.target:
        parts.append(f"to {listed(group.target)}")
    return ", ".join(parts)
