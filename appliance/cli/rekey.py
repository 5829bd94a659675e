"""`memorystreamer key rewrap` and `rekey`: keys wrapped anew, and data sealed anew, on every node.

Re-wrapping touches no data and protects from who has an old key of Vault; re-keying rewrites
everything, for when data keys themselves may be known. Either may be broken off and run again.
"""

import sys
from typing import Annotated

import trio
import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from appliance.cli import custodian as custodians
from appliance.cli.cluster import ProfileOption, run
from appliance.cli.custodian import CustodianOption, TokenOption
from appliance.cli.key_states import name_of, reached_nodes, state_of
from appliance.client.admin import Admin
from appliance.client.session import Session
from appliance.errors import KeysRefused
from appliance.keys.vault_settings import VaultServer
from appliance.types import KeyDomainId, NodeId

LOOK_S = 0.5
"""Between looks at how far the nodes are."""


def rewrap(
    profile: ProfileOption = None,
    raise_minimum: Annotated[
        bool,
        typer.Option(
            "--raise-minimum",
            help="Then have Vault refuse older versions for good (needs a custodian's token).",
        ),
    ] = False,
    custodian: CustodianOption = None,
    token_file: TokenOption = None,
) -> None:
    """Wrap every data key under its key's newest version; no data is read or written."""
    access = custodians.access(custodian, token_file) if raise_minimum else None

    async def action(session: Session) -> None:
        admin = Admin(session)
        nodes = await reached_nodes(admin)
        done = await _rewrap_all(admin, nodes)
        print(f"wrapped {done} data key(s) anew")
        if access is not None:
            await _raise_minimum(admin, nodes, *access)

    run(profile, action)


async def _rewrap_all(admin: Admin, nodes: list[NodeId]) -> int:
    """Slice by slice, with a bar on stderr; raises KeysRefused when any wrap stayed as it was."""
    done = 0
    failed: list[str] = []
    with Progress(console=Console(stderr=True), transient=True) as progress:
        for node in nodes:
            states = (await admin.keys(node)).domains
            total = sum(count for state in states for _, count in state.wraps)
            bar = progress.add_task(f"re-wrapping on node {node}", total=max(total, 1))
            after = None
            while True:
                part = await admin.rewrap_keys(after, node)
                done += part.rewrapped
                failed += part.failed
                progress.update(bar, advance=part.examined)
                after = part.after
                if after is None:
                    break
    if failed:
        raise KeysRefused(
            f"wrapped {done} data key(s) anew, and {len(failed)} stay as they were:"
            f" {_reasons(failed)}. Mend that and run `memorystreamer key rewrap` again; nothing is"
            " lost meanwhile"
        )
    return done


async def _raise_minimum(
    admin: Admin, nodes: list[NodeId], server: VaultServer, token: str
) -> None:
    """Retires the versions that nothing on any node is wrapped under any more."""
    seen = [state for node in nodes for state in (await admin.keys(node)).domains]
    async with custodians.custodian(server, token) as vault:
        for state in {each.domain: each for each in seen}.values():
            same = [each for each in seen if each.domain == state.domain]
            versions = [version for each in same for version, _ in each.wraps]
            oldest = min(versions, default=state.newest_version)
            if any(each.trouble for each in same) or oldest <= state.oldest_version:
                continue
            await vault.retire(state.domain, oldest)
            print(f"{name_of(state)}: Vault refuses versions before {oldest} from here on")


def rekey(
    topic: Annotated[
        str | None,
        typer.Option(
            "--topic", metavar="TOPIC", help="Data under the topic's own key; else all data."
        ),
    ] = None,
    profile: ProfileOption = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Go on where a run was broken off: rotate nothing (needs no token)."
        ),
    ] = False,
    custodian: CustodianOption = None,
    token_file: TokenOption = None,
) -> None:
    """Rotate keys, then seal all data anew under new data keys: for when old ones may be known.

    The nodes go on by themselves if this is broken off; what a node had not done when it stopped is
    done with --resume.
    """
    access = None if resume else custodians.access(custodian, token_file)

    async def action(session: Session) -> None:
        admin = Admin(session)
        nodes = await reached_nodes(admin)
        found = await admin.keys()
        states = found.domains if topic is None else (state_of(found, topic),)
        if access is not None:
            async with custodians.custodian(*access) as vault:
                for state in states:
                    newest = (await vault.rotate(state.domain)).newest_version
                    print(f"{name_of(state)} is at version {newest}", file=sys.stderr)
        rewritten = await _rekeyed(admin, nodes, None if topic is None else states[0].domain)
        print(f"sealed {rewritten} byte(s) of {len(nodes)} node(s) anew, under new data keys")

    run(profile, action)


async def _rekeyed(admin: Admin, nodes: list[NodeId], domain: KeyDomainId | None) -> int:
    """Has every node do it, and shows how far they are; raises KeysRefused if some is left."""
    failed: list[str] = []
    rewritten = 0
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(),
               TimeRemainingColumn())  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bars = {node: progress.add_task(f"node {node}", total=None) for node in nodes}
        for node in nodes:
            await admin.rekey(node, begin=True, domain=domain)
        while bars:
            await trio.sleep(LOOK_S)
            for node, bar in tuple(bars.items()):
                now = await admin.rekey(node, begin=False)
                done = now.total_bytes - now.left_bytes
                progress.update(bar, total=now.total_bytes or None, completed=done)
                if not now.running:
                    failed += now.failed
                    rewritten += now.total_bytes
                    del bars[node]
    if failed:
        raise KeysRefused(
            f"{len(failed)} log(s) are not sealed anew: {_reasons(failed)}. Mend that and run"
            " `memorystreamer key rekey --resume`; nothing is lost meanwhile"
        )
    return rewritten


def _reasons(failed: list[str]) -> str:
    return "; ".join(dict.fromkeys(failed[:4]))
