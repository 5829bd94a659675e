"""`memorystreamer key shred`: makes a topic's records unreadable for good, and says so in writing.

The steps of DESIGN section 6: every node drops the topic's keys and refuses it; the custodian's
token destroys the key in Vault; the cluster checks that nothing opens, waits for the lease of a
node that was not reached to end, and signs a certificate. Run again after an interruption, it goes
on where it was.
"""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import trio
import typer

from appliance.cli import custodian as custodians
from appliance.cli.cluster import ProfileOption, fail, run
from appliance.cli.custodian import CustodianOption, TokenOption
from appliance.client.admin import Admin
from appliance.client.session import Session
from appliance.crypto import statement
from appliance.errors import ApplianceError, ConfigurationError, KeysUnavailable
from appliance.limits import MAX_CERTIFICATE_OF_DESTRUCTION_BYTES
from appliance.types import TopicName
from appliance.wire.requests import ShredStep, ShredTopicResult

CONFIRMED_S = 30.0
"""For the nodes to drop the topic's keys."""
LOOK_S = 10.0
"""Between looks whether a node that was late has come back, or its lease has ended."""


def shred(
    topic: Annotated[str, typer.Option("--topic", metavar="TOPIC", help="The topic to shred.")],
    certificate_file: Annotated[
        Path | None,
        typer.Option(
            "--certificate",
            metavar="FILE",
            help="Where the certificate of destruction goes; else ./shredded-TOPIC.json.",
        ),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do not ask for the topic's name again.")
    ] = False,
    profile: ProfileOption = None,
    custodian: CustodianOption = None,
    token_file: TokenOption = None,
) -> None:
    """Destroy a topic's own key: its records can never be read again. This cannot be undone."""
    try:
        server = custodians.load(custodian)
        target = _target(topic, certificate_file)
        _ask_again(topic, yes)
        token = custodians.token(token_file)
    except ApplianceError as error:
        fail(error)

    async def action(session: Session) -> None:
        admin = Admin(session)
        begun = await _dropped(admin, TopicName(topic))
        if begun.domain is not None:
            _say("the topic is closed and its keys are dropped; destroying the key in Vault")
            async with custodians.custodian(server, token) as vault:
                await vault.destroy(begun.domain)
        _say("the key is gone; having that checked and certified")
        _write(target, await _certified(admin, TopicName(topic)))
        print(f"shredded {topic}; the certificate of destruction is in {target}")

    run(profile, action)


def certificate(
    topic: Annotated[str, typer.Option("--topic", metavar="TOPIC", help="A shredded topic.")],
    file: Annotated[
        Path | None,
        typer.Option("--certificate", metavar="FILE", help="Else ./shredded-TOPIC.json."),
    ] = None,
    profile: ProfileOption = None,
) -> None:
    """Have the certificate of a topic's last shredding signed once more."""
    try:
        target = _target(topic, file)
    except ApplianceError as error:
        fail(error)

    async def action(session: Session) -> None:
        done = await Admin(session).shred_topic(TopicName(topic), ShredStep.CERTIFY)
        _write(target, done.certificate or "")
        print(f"the certificate of destruction is in {target}")

    run(profile, action)


def verify_certificate(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A certificate of destruction.")],
    ca: Annotated[
        Path, typer.Option("--ca", metavar="FILE", help="The authority of the node that signed.")
    ],
) -> None:
    """Check a certificate of destruction, and print what it says."""
    try:
        text = statement.verify(_read(file).decode("utf-8", "replace"), authority_pem=_read(ca))
    except ApplianceError as error:
        fail(error)
    print(text)
    topic = json.loads(text).get("topic")
    _say(f"the certificate is genuine: it speaks of topic {topic}")


async def _dropped(admin: Admin, topic: TopicName) -> ShredTopicResult:
    """Steps 1 and 2: returns when the key may be destroyed; raises KeysUnavailable."""
    begun = await admin.shred_topic(topic, ShredStep.BEGIN)
    with trio.move_on_after(CONFIRMED_S):
        while not begun.is_ready:
            await trio.sleep(0.2)
            begun = await admin.shred_topic(topic, ShredStep.BEGIN)
    if not begun.is_ready:
        raise KeysUnavailable(
            f"the topic is closed, and nodes {_listed(begun.waiting_for)} have not dropped its"
            " keys yet: bring them back, or more of them, and run this again; nothing was destroyed"
        )
    if begun.unheard:
        _say(f"nodes {_listed(begun.unheard)} cannot be reached, and will be named as late")
    return begun


async def _certified(admin: Admin, topic: TopicName) -> str:
    """Steps 4 and 5, after the lease of each node that is late."""
    done = await admin.shred_topic(topic, ShredStep.COMPLETE)
    if done.certificate is None:
        _say(
            f"nodes {_listed(done.unheard)} may hold the key in memory for {done.left_s:.0f} s"
            " more; waiting (break this off and run it again later, if you like)"
        )
    while done.certificate is None:
        await trio.sleep(min(max(done.left_s, 0.2), LOOK_S))
        done = await admin.shred_topic(topic, ShredStep.COMPLETE)
    return done.certificate


def _listed(nodes: Sequence[int]) -> str:
    return ", ".join(map(str, nodes))


def _ask_again(topic: str, yes: bool) -> None:
    if yes:
        return
    if not _is_asked():
        raise ConfigurationError(f"pass --yes to shred {topic} without being asked")
    typed = typer.prompt(f"Every record of {topic} goes for good. Type the topic's name again")
    if typed != topic:
        raise ConfigurationError("that is not the topic's name; nothing was done")


def _is_asked() -> bool:
    """Whether there is somebody to type the name."""
    return sys.stdin.isatty()


def _target(topic: str, given: Path | None) -> Path:
    """Where the certificate goes: a file that can be made there, looked at before anything goes."""
    name = "".join(each if each.isalnum() or each in "._-" else "_" for each in topic)
    target = given if given is not None else Path(f"shredded-{name}.json")
    if target.exists():
        raise ConfigurationError(f"{target} is there already: name another with --certificate")
    if not os.access(target.absolute().parent, os.W_OK):
        raise ConfigurationError(f"{target} cannot be written: name another with --certificate")
    return target


def _write(target: Path, certificate: str) -> None:
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    with os.fdopen(descriptor, "w") as file:
        file.write(certificate + "\n")
        file.flush()
        os.fsync(file.fileno())


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_CERTIFICATE_OF_DESTRUCTION_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {os.strerror(error.errno or 0)}") from None


def _say(text: str) -> None:
    print(text, file=sys.stderr)
