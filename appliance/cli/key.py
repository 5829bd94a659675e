"""`memorystreamer key`: see, rotate and re-wrap keys, and shred a topic.

The node re-wraps and checks; rotating and destroying a key is a custodian's act, done from here
with the custodian's own token. Every command may be broken off and run again.
"""

import json
import sys
from pathlib import Path
from typing import Annotated

import trio
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from appliance.cli import custodian as custodians
from appliance.cli.cluster import ProfileOption, fail, run
from appliance.cli.custodian import CustodianOption, TokenOption
from appliance.cli.shred import certificate, shred, verify_certificate
from appliance.client.admin import Admin
from appliance.client.session import Session
from appliance.errors import ApplianceError, ConfigurationError, KeysRefused
from appliance.keys.vault_settings import VaultServer
from appliance.types import KeyDomainId
from appliance.wire.requests import DescribeKeysResult, KeyDomainState

FOLLOWED_S = 60
"""By when new segments use a rotated key."""

app = typer.Typer(
    help="See and change the keys that data is sealed with.",
    no_args_is_help=True,
)
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
    server, token = _custodian(custodian, token_file)

    async def action(session: Session) -> None:
        admin = Admin(session)
        state = _state_of(await admin.keys(), topic)
        async with custodians.custodian(server, token) as vault:
            newest = (await vault.rotate(state.domain)).newest_version
        print(f"{_name(state)} is at version {newest}", file=sys.stderr)
        await _followed(admin, state.domain, newest)
        print(
            f"within {FOLLOWED_S} s new segments of {_name(state)} use version {newest};"
            " existing data stays as it is"
        )

    run(profile, action)


@app.command()
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
    access = _custodian(custodian, token_file) if raise_minimum else None

    async def action(session: Session) -> None:
        admin = Admin(session)
        done = await _rewrap_all(admin)
        print(f"wrapped {done} data key(s) anew")
        if access is not None:
            await _raise_minimum(admin, *access)

    run(profile, action)


async def _rewrap_all(admin: Admin) -> int:
    """Slice by slice, with a bar on stderr; raises KeysRefused when any wrap stayed as it was."""
    total = sum(count for state in (await admin.keys()).domains for _, count in state.wraps)
    done = 0
    failed: list[str] = []
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("re-wrapping", total=max(total, 1))
        after = None
        while True:
            part = await admin.rewrap_keys(after)
            done += part.rewrapped
            failed += part.failed
            progress.update(bar, advance=part.examined)
            after = part.after
            if after is None:
                break
    if failed:
        reasons = "; ".join(dict.fromkeys(failed[:4]))
        raise KeysRefused(
            f"wrapped {done} data key(s) anew, and {len(failed)} stay as they were: {reasons}."
            " Mend that and run `memorystreamer key rewrap` again; nothing is lost meanwhile"
        )
    return done


async def _raise_minimum(admin: Admin, server: VaultServer, token: str) -> None:
    """Retires the versions that nothing is wrapped under any more, checked domain by domain."""
    found = await admin.keys()
    async with custodians.custodian(server, token) as vault:
        for state in found.domains:
            oldest = min((version for version, _ in state.wraps), default=state.newest_version)
            if state.trouble is not None or oldest <= state.oldest_version:
                continue
            await vault.retire(state.domain, oldest)
            print(f"{_name(state)}: Vault refuses versions before {oldest} from here on")


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


def _custodian(file: Path | None, token_file: Path | None) -> tuple[VaultServer, str]:
    try:
        return custodians.load(file), custodians.token(token_file)
    except ApplianceError as error:
        fail(error)


def _state_of(found: DescribeKeysResult, topic: str | None) -> KeyDomainState:
    for state in found.domains:
        if state.topic == topic:
            return state
    raise ConfigurationError(
        f"topic {topic} has no key of its own: leave --topic away to rotate the cluster's"
    )


def _name(state: KeyDomainState) -> str:
    return "the cluster's key" if state.topic is None else f"the key of topic {state.topic}"


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
