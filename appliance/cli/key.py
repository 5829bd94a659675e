"""`memorystreamer key`: see and rotate keys, and what else there is to do with them.

The node re-wraps and checks; rotating and destroying a key is a custodian's act, done from here
with the custodian's own token. Every command may be broken off and run again.
"""

import json
import sys
from typing import Annotated

import trio
import typer
from rich.console import Console
from rich.table import Table

from appliance.cli import custodian as custodians
from appliance.cli.cluster import ProfileOption, run
from appliance.cli.custodian import CustodianOption, TokenOption
from appliance.cli.key_states import name_of, state_of
from appliance.cli.rekey import rekey, rewrap
from appliance.cli.shred import certificate, shred, verify_certificate
from appliance.client.admin import Admin
from appliance.client.session import Session
from appliance.errors import KeysRefused
from appliance.types import KeyDomainId
from appliance.wire.requests import DescribeKeysResult, KeyDomainState

FOLLOWED_S = 60
"""By when new segments use a rotated key."""

app = typer.Typer(
    help="See and change the keys that data is sealed with.",
    no_args_is_help=True,
)
app.command("rewrap")(rewrap)
app.command("rekey")(rekey)
app.command("shred")(shred)
app.command("certificate")(certificate)
app.command("verify-certificate")(verify_certificate)

TopicOption = Annotated[
    str | None,
    typer.Option("--topic", metavar="TOPIC", help="The topic's own key; without it the cluster's."),
]


@app.command()
def status(
    profile: ProfileOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
) -> None:
    """Show every key domain: its versions, what is wrapped under which, and the lease."""

    async def action(session: Session) -> None:
        found = await Admin(session).keys()
        if as_json:
            print(json.dumps([_as_json(state) for state in found.domains], indent=2))
        else:
            Console().print(_table(found))

    run(profile, action)


@app.command()
def rotate(
    topic: TopicOption = None,
    profile: ProfileOption = None,
    custodian: CustodianOption = None,
    token_file: TokenOption = None,
) -> None:
    """Give a key a new version, which new segments use within 60 s."""
    server, token = custodians.access(custodian, token_file)

    async def action(session: Session) -> None:
        admin = Admin(session)
        state = state_of(await admin.keys(), topic)
        async with custodians.custodian(server, token) as vault:
            newest = (await vault.rotate(state.domain)).newest_version
        print(f"{name_of(state)} is at version {newest}", file=sys.stderr)
        await _followed(admin, state.domain, newest)
        print(
            f"within {FOLLOWED_S} s new segments of {name_of(state)} use version {newest};"
            " existing data stays as it is"
        )

    run(profile, action)


async def _followed(admin: Admin, domain: KeyDomainId, version: int) -> None:
    """Returns when the node begins new segments under a version; raises KeysRefused."""
    with trio.move_on_after(FOLLOWED_S + 10):
        while True:
            for state in (await admin.keys()).domains:
                if state.domain == domain and state.epoch >= version:
                    return
            await trio.sleep(1)
    raise KeysRefused(
        f"the key was rotated, and the node does not use version {version} yet: see"
        " `memorystreamer key status` and the node's log"
    )


def _table(found: DescribeKeysResult) -> Table:
    table = Table(title=f"keys, as node {found.node} sees them", title_justify="left")
    for heading in ("key of", "domain", "newest", "oldest", "epoch", "wraps", "lease", "state"):
        table.add_column(heading, overflow="fold")
    for state in found.domains:
        lease = "-" if state.lease_left_s is None else f"{state.lease_left_s:.0f} s"
        table.add_row(
            "(cluster)" if state.topic is None else state.topic,
            str(state.domain),
            str(state.newest_version),
            str(state.oldest_version),
            str(state.epoch),
            ", ".join(f"{count} at v{version}" for version, count in state.wraps) or "-",
            lease,
            "being shredded" if state.shredding else state.trouble or "ok",
        )
    return table


def _as_json(state: KeyDomainState) -> dict[str, object]:
    return {
        "topic": state.topic,
        "domain": str(state.domain),
        "newest_version": state.newest_version,
        "oldest_version": state.oldest_version,
        "epoch": state.epoch,
        "wraps": {str(version): count for version, count in state.wraps},
        "lease_left_s": state.lease_left_s,
        "shredding": state.shredding,
        "trouble": state.trouble,
    }
