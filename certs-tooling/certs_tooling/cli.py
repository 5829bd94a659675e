"""`memorystreamer-certs`: a private certificate authority at the command line.

Rules: errors are one line that says what to do, on stderr, with exit code 1; no command prints a
private key; tables go to stdout.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from certs_tooling import files
from certs_tooling.authority import DEFAULT_TRUST_DOMAIN, Authority, Issued
from certs_tooling.errors import AuthorityError
from certs_tooling.ledger import LedgerEntry
from certs_tooling.shapes import LEAF_DAYS

app = typer.Typer(
    name="memorystreamer-certs",
    help="A private certificate authority for a MemoryStreamer cluster: nodes and clients "
    "know each other by certificates that it issues.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
issue = typer.Typer(help="Issue a certificate and its key.", no_args_is_help=True)
app.add_typer(issue, name="issue")

AuthorityDirectory = Annotated[
    Path,
    typer.Option(
        "--dir",
        help="The authority's directory; its ca-key.pem signs everything, so keep it safe.",
        envvar="MEMORYSTREAMER_CERTS_DIR",
    ),
]
OutputDirectory = Annotated[
    Path, typer.Option("--out", help="Where NAME.pem and NAME-key.pem are written.")
]
Days = Annotated[int, typer.Option(help="How long the certificate is valid, in days.", min=1)]

_output = Console(highlight=False)
_DEFAULT_DIRECTORY = Path("certificates")


@app.command()
def init(
    directory: AuthorityDirectory = _DEFAULT_DIRECTORY,
    trust_domain: Annotated[
        str, typer.Option(help="The name of your cluster's world; part of every principal.")
    ] = DEFAULT_TRUST_DOMAIN,
) -> None:
    """Make a new authority."""
    authority = Authority.create(directory, trust_domain=trust_domain)
    _output.print(f"trust [bold]{authority.certificate_file}[/bold] on nodes and clients")


@issue.command("node")
def issue_node(
    node_id: Annotated[int, typer.Argument(help="The node's number, as in its configuration.")],
    host: Annotated[
        list[str],
        typer.Option(help="A DNS name or IP address that clients connect to; repeat for more."),
    ],
    out: OutputDirectory = Path(),
    days: Days = LEAF_DAYS,
    directory: AuthorityDirectory = _DEFAULT_DIRECTORY,
) -> None:
    """Issue a certificate for a node, to serve and to connect with."""
    _save(Authority.open(directory).issue_node(node_id, host, days=days), out, f"node-{node_id}")


@issue.command("client")
def issue_client(
    name: Annotated[str, typer.Argument(help="The user's name, as policies write it.")],
    out: OutputDirectory = Path(),
    days: Days = LEAF_DAYS,
    directory: AuthorityDirectory = _DEFAULT_DIRECTORY,
) -> None:
    """Issue a certificate for a client, to connect with."""
    _save(Authority.open(directory).issue_client(name, days=days), out, name)


@app.command()
def revoke(
    serial: Annotated[str, typer.Argument(help="The serial number that `list` shows.")],
    directory: AuthorityDirectory = _DEFAULT_DIRECTORY,
) -> None:
    """Revoke a certificate; nodes refuse it once they have the new crl.pem."""
    authority = Authority.open(directory)
    entry = authority.revoke(serial)
    _output.print(
        f"revoked {entry.kind} {entry.name}; give [bold]{authority.crl_file}[/bold] to every node"
    )


@app.command("list")
def list_certificates(directory: AuthorityDirectory = _DEFAULT_DIRECTORY) -> None:
    """Show every certificate that was issued."""
    table = _table("Kind", "Name", "Hosts", "Valid until", "State", "Serial number")
    now = datetime.now(UTC)
    for entry in Authority.open(directory).list():
        table.add_row(
            entry.kind,
            entry.name,
            ", ".join(entry.hosts),
            f"{entry.not_after:%Y-%m-%d}",
            _state(entry, now),
            entry.serial,
        )
    _output.print(table)


@app.command()
def crl(directory: AuthorityDirectory = _DEFAULT_DIRECTORY) -> None:
    """Sign crl.pem anew before it runs out."""
    authority = Authority.open(directory)
    authority.renew_crl()
    _output.print(f"give [bold]{authority.crl_file}[/bold] to every node")


def main() -> None:
    """The console script's entry point."""
    try:
        app()
    except AuthorityError as failure:
        Console(stderr=True, soft_wrap=True).print(f"memorystreamer-certs: {failure}", markup=False)
        raise SystemExit(1) from None


def _save(issued: Issued, out: Path, name: str) -> None:
    if not out.exists():
        files.make_private_directory(out)
    certificate, key = out / f"{name}.pem", out / f"{name}-key.pem"
    issued.save(certificate=certificate, key=key)
    table = _table("Certificate", "Key", "Serial number")
    table.add_row(str(certificate), str(key), issued.serial)
    _output.print(table)


def _table(*columns: str) -> Table:
    """A table that folds what is long and never leaves any of it out."""
    return Table(*(Column(name, overflow="fold") for name in columns))


def _state(entry: LedgerEntry, now: datetime) -> str:
    if entry.revoked_at:
        return f"revoked {entry.revoked_at:%Y-%m-%d}"
    return "run out" if entry.not_after <= now else "valid"
