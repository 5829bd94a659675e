"""`memorystreamer policy`: show the policy in force, and put another in its place."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from appliance.cli.cluster import ProfileOption, fail, run
from appliance.client.admin import Admin
from appliance.client.session import Session
from appliance.errors import ConfigurationError
from appliance.limits import MAX_POLICY_BYTES

app = typer.Typer(
    help="Show or replace the policy that every decision follows.", no_args_is_help=True
)


@app.command()
def show(profile: ProfileOption = None) -> None:
    """Print the policy in force; its version goes to stderr."""

    async def action(session: Session) -> None:
        version, text = await Admin(session).policy()
        print(f"version {version}", file=sys.stderr)
        print(text, end="" if text.endswith("\n") else "\n")

    run(profile, action)


@app.command("apply")
def apply_file(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Casbin CSV lines; - is stdin.")],
    profile: ProfileOption = None,
    expected_version: Annotated[
        int | None,
        typer.Option(
            "--expected-version",
            metavar="N",
            help="Refuse if another version is in force; without it, the one in force now.",
        ),
    ] = None,
) -> None:
    """Check a whole policy and put it in force, in one step or not at all."""
    text = _read(file)

    async def action(session: Session) -> None:
        admin = Admin(session)
        expected = (await admin.policy())[0] if expected_version is None else expected_version
        version = await admin.replace_policy(text, expected)
        print(f"policy version {version} is in force")

    run(profile, action)


def _read(file: Path) -> str:
    """The policy's text; ends the command if it cannot be read, or cannot be a policy."""
    try:
        if str(file) == "-":
            raw = sys.stdin.buffer.read(MAX_POLICY_BYTES + 1)
        else:
            with file.open("rb") as stream:
                raw = stream.read(MAX_POLICY_BYTES + 1)
        text = raw.decode()
    except OSError as error:
        fail(ConfigurationError(f"cannot read {file}: {error.strerror}"))
    except UnicodeDecodeError:
        fail(ConfigurationError(f"{file} is not UTF-8 text"))
    if len(raw) > MAX_POLICY_BYTES:
        fail(ConfigurationError(f"{file} is larger than {MAX_POLICY_BYTES} bytes"))
    return text
