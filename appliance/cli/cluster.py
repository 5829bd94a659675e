"""What every command that talks to a cluster shares: the profile option, and how it ends.

Exit codes: 0 done, 1 the cluster refused or could not be reached, 2 the command or its
configuration is wrong, 130 interrupted. An error is one line on stderr.
"""

import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, NoReturn

import trio
import typer

from appliance.client import profile as profiles
from appliance.client.connection import Disconnected
from appliance.client.patience import Patience
from appliance.client.secure import connector
from appliance.client.session import Session, open_session
from appliance.errors import (
    ApplianceError,
    AuthenticationFailed,
    ConfigurationError,
    ErrorCode,
    RequestError,
)

FAILED = 1
MISUSED = 2
INTERRUPTED = 130

ProfileOption = Annotated[
    Path | None,
    typer.Option(
        "--profile",
        envvar=profiles.ENVIRONMENT_VARIABLE,
        metavar="FILE",
        help="Cluster addresses and credentials; quickstart leaves them at DIR/client/*.toml.",
        show_default=False,
    ),
]

Action = Callable[[Session], Awaitable[None]]

_REFUSALS = frozenset(
    {
        ErrorCode.TOPIC_AUTHORIZATION_FAILED,
        ErrorCode.GROUP_AUTHORIZATION_FAILED,
        ErrorCode.CLUSTER_AUTHORIZATION_FAILED,
    }
)


def run(profile_file: Path | None, action: Action) -> None:
    """Runs an action against the profile's cluster; exits with a line on stderr if it fails."""
    try:
        trio.run(_with_session, profile_file, action)
    except ApplianceError as error:
        fail(error)
    except BrokenPipeError:  # whoever read our output has had enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def fail(error: ApplianceError) -> NoReturn:
    """Ends the command with the error's line and its exit code."""
    print(f"memorystreamer: {explain(error)}", file=sys.stderr)
    raise typer.Exit(MISUSED if isinstance(error, ConfigurationError) else FAILED) from None


def explain(error: ApplianceError) -> str:
    """One line that says what went wrong, and where it helps, what to do."""
    text = " ".join(str(error).split())
    if isinstance(error, RequestError) and error.code in _REFUSALS:
        return f"not allowed by the policy: {text}"
    if isinstance(error, RequestError) and error.code is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION:
        return f"{text} (not there, or not visible to this profile)"
    if isinstance(error, AuthenticationFailed):
        return f"authentication failed: {text}"
    if isinstance(error, Disconnected):
        return f"{text}; is the node running, and is `bootstrap` in the profile right?"
    return text


async def _with_session(profile_file: Path | None, action: Action) -> None:
    """Opens the session that the action needs, and closes it."""
    profile = profiles.find(profile_file, os.environ)
    patience = Patience(tell=_still_trying)
    async with open_session(connector(profile), profile.bootstrap, patience) as session:
        await action(session)


def _still_trying(failure: ApplianceError) -> None:
    """What a person who waits would otherwise not know."""
    if sys.stderr.isatty():
        print(f"memorystreamer: {explain(failure)} Trying again ...", file=sys.stderr)
