"""`make test-reference`: the appliance beside a real Apache Kafka, request by request.

Starts both, sends each the same requests in the same order, and compares what they answer. Each
difference has its reason in `meant.py`; one without a reason fails the run, as does a reason that
explains nothing any more. Writes docs/reference.md. Where there is no Java, no Maven, or Maven
reaches no repository, nothing was compared: that is said, and the run ends as skipped (77).
"""

import argparse
import json
import socket
import ssl
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "unit" / "kafka")]

from bases import COMPACTED, PLAIN, epoch, new_topic  # noqa: E402 - what is imported lies beside this file
from batches import TIME_MS  # noqa: E402
from cases import Ask, Case, all_made  # noqa: E402
from compare import Differences, differences  # noqa: E402
from kafka_server import VERSION, Missing, kafka, resolved  # noqa: E402
from kinds import Difference, Kind, kind_of  # noqa: E402
from meant import MEANT, explain  # noqa: E402
from messages import BY_NAME  # noqa: E402
from page import page  # noqa: E402
from sides import Outcome, Side  # noqa: E402
from written import all_written, ask, made, produce, raw_frames  # noqa: E402

from appliance.wire.kafka.records import Record, encode_batch  # noqa: E402
from tests.system.conftest import Quickstart, free_port  # noqa: E402

SKIPPED: Final = 77
"""The exit code that build tools take for a test that was not run."""
LEADER_S: Final = 2.0
COORDINATOR_S: Final = 30.0
CONTROLLER_S: Final = 60.0
TRIPPED: Final = -1
"""UNKNOWN_SERVER_ERROR: over some requests that it trips over, Kafka's controller resigns."""
PLACE: Final = ROOT / ".clients" / "reference"
LAST: Final = PLACE / "last.json"
PAGE: Final = ROOT / "docs" / "reference.md"


class Found:
    """What the run has come to: how many answers of each version, and every difference."""

    def __init__(self, sides: tuple[Side, Side]) -> None:
        self.sides = sides
        self.requests: Counter[tuple[str, int]] = Counter()
        self.differences: list[Difference] = []

    def take(self, api: str, version: int, case: str, found: Differences) -> None:
        """Notes one answer's differences; while things are prepared, Kafka is still waking up."""
        if case.startswith("preparation"):
            return
        self.requests[api, version] += 1
        self.differences += [(api, version, case, p, str(k), str(o)) for p, k, o in found]

    def write(self) -> None:
        """Keeps everything for `--again`."""
        rows = [(*key, count) for key, count in self.requests.items()]
        LAST.write_text(json.dumps([rows, self.differences]))


def play(case: Case, number: int, found: Found) -> None:
    """Sends one case's requests to both sides."""
    for side in found.sides:
        side.kept["case"] = number
        side.kept["scope"] = case.scope.replace(" ", "-").lower() or f"case-{number}"
    for each in case.asks:
        for side in found.sides:
            side.send(each.api, each.version, each.values, each.change)
        answers = [side.receive(each.api, each.version) for side in found.sides]
        if each.api == "CreateTopics":
            await_leaders(found.sides, answers)
        if has_tripped(answers[0]):
            await_controller(found.sides[0])
        for side, answer in zip(found.sides, answers, strict=True):
            if (
                isinstance(answer, dict)
                and answer.get("session_id")
                and not each.values.get("session_id")
            ):
                side.sessions.add(answer["session_id"])
        told = differences(answers[0], answers[1], found.sides)
        found.take(each.api, each.version, f"{case.scope}: {case.name}", told)
        for side, answer in zip(found.sides, answers, strict=True):
            if isinstance(answer, dict):
                side.kept |= {k: v for k, v in answer.items() if not isinstance(v, list | dict)}


def await_leaders(sides: tuple[Side, Side], answers: list[Outcome]) -> None:
    """Waits until what was made can be used: Kafka says that it is made before it can."""
    for side, answer in zip(sides, answers, strict=True):
        rows = answer["topics"] if isinstance(answer, dict) else []
        for row in rows if isinstance(rows, list) else []:
            deadline = time.monotonic() + LEADER_S
            while row["error"] == 0 and time.monotonic() < deadline:
                parts = [{"index": 0, "current_leader_epoch": -1, "timestamp_ms": -1}]
                told = side.ask("ListOffsets", 5, {
                    "replica_id": -1, "isolation_level": 0,
                    "topics": [{"name": row["name"], "partitions": parts}],
                })  # fmt: skip
                if not isinstance(told, dict) or told["topics"][0]["partitions"][0]["error"] == 0:
                    break
                time.sleep(0.005)


def has_tripped(answer: object) -> bool:
    """Whether one of the errors in an answer is Kafka's own fault."""
    if isinstance(answer, dict):
        return answer.get("error") == TRIPPED or any(map(has_tripped, answer.values()))
    return isinstance(answer, list) and any(map(has_tripped, answer))


def await_controller(side: Side) -> None:
    """Waits until there is a controller again: how soon is Kafka's affair, and nothing compared."""
    deadline = time.monotonic() + CONTROLLER_S
    while time.monotonic() < deadline:
        told = side.ask("CreateTopics", 7, {
            "topics": [new_topic("only-asked")], "timeout_ms": 1_000, "validate_only": True,
        })  # fmt: skip
        if isinstance(told, dict) and told["topics"][0]["error"] == 0:
            return
        time.sleep(0.05)


def await_coordinator(side: Side) -> None:
    """Waits until groups can be had: Kafka makes its topic of them when it is first asked."""
    deadline = time.monotonic() + COORDINATOR_S
    while time.monotonic() < deadline:
        told = side.ask("OffsetFetch", 6, {"group": "none", "topics": [], "require_stable": False})
        if isinstance(told, dict) and told["error"] == 0:
            return
        side.ask("FindCoordinator", 4, {"key_type": 0, "keys": ["none"]})
        time.sleep(0.1)


def prepare(found: Found) -> None:
    """The topics and offsets that cases speak of."""

    def each(*asks: Ask) -> None:
        play(Case("preparation", asks, "preparation"), 0, found)

    each(made(PLAIN, 3), made("cut"), made(COMPACTED))
    each(ask("IncrementalAlterConfigs", 1, {"validate_only": False, "resources": [
        {"kind": 2, "name": COMPACTED, "settings": [
            {"name": "cleanup.policy", "operation": 0, "value": "compact"},
        ]},
    ]}))  # fmt: skip
    for number in range(10):
        record = Record(b"k%d" % number, b"v", timestamp_ms=TIME_MS + number * 1_000)
        data = bytes(encode_batch([record]))
        each(produce(9, PLAIN, data), produce(9, "cut", data))
        if number < 3:
            each(produce(9, PLAIN, data, index=1))
    for side in found.sides:
        side.topic_id(PLAIN)
        await_coordinator(side)
    each(ask("OffsetCommit", 8, {
        "group": "committed", "generation_id": -1, "member_id": "", "group_instance_id": None,
        "topics": [{"name": PLAIN, "partitions": [
            {"index": 0, "offset": 4, "leader_epoch": epoch, "metadata": "m"},
        ]}],
    }))  # fmt: skip


def frames(found: Found) -> None:
    """What is no request at all."""
    for name, data in raw_frames():
        said = []
        for side in found.sides:
            side.close()
            side.send_raw(data)
            answered = side.receive_raw()
            said.append(answered if isinstance(answered, str) else answered.hex())
        found.take("frames", 0, name, differences(said[0], said[1], found.sides))


def common_versions(sides: tuple[Side, Side]) -> dict[int, range]:
    """The versions of each API that both sides say they have, and the appliance serves."""
    told = []
    for side in sides:
        answer = side.ask("ApiVersions", 3, {"software_name": "tests", "software_version": "1"})
        if not isinstance(answer, dict):
            raise TypeError(answer)
        told.append({row["key"]: (row["lowest"], row["highest"]) for row in answer["apis"]})
    served = {api.key: api.lowest for api in BY_NAME.values()}
    return {
        key: range(max(low, told[1][key][0], served[key]), min(high, told[1][key][1]) + 1)
        for key, (low, high) in told[0].items()
        if key in told[1]
    }


def run(sides: tuple[Side, Side], only: str, seconds: float) -> Found:
    """Everything, or what has `only` in its name."""
    found = Found(sides)
    prepare(found)
    common = common_versions(sides)
    began = time.monotonic()
    frames(found)
    number = 0
    for case in _every(common):
        number += 1
        if only not in f"{case.scope}: {case.name}" and not any(only in a.api for a in case.asks):
            continue
        play(case, number, found)
        if number % 200 == 0:
            found.write()
            print(f"{found.requests.total()} requests, at {case.scope}", flush=True)
        if time.monotonic() - began > seconds:
            print(f"stopped after {seconds} s, at {case.scope}: {case.name}")
            break
    return found


def _every(common: dict[int, range]) -> Iterator[Case]:
    yield from all_written()
    yield from all_made(common)


def make_nothing_up(appliance: Quickstart) -> None:
    """Has topics made only when they are asked for, and every name that is unknown stay so."""
    appliance.stop()
    file = appliance.node / "node.toml"
    file.write_text(file.read_text().replace("auto_create = true", "auto_create = false"))
    appliance.start()


def connector(appliance: Quickstart) -> Side:
    """The appliance, as its administrator."""
    context = ssl.create_default_context(cafile=appliance.client("ca", "pem"))
    context.load_cert_chain(appliance.client("admin", "pem"), appliance.client("admin", "key"))

    def connect() -> socket.socket:
        plain = socket.create_connection(("127.0.0.1", appliance.kafka), timeout=5)
        return context.wrap_socket(plain, server_hostname="127.0.0.1")

    return Side("the appliance", connect)


def main() -> int:
    """Runs both and says what differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="cases with this in their name")
    parser.add_argument("--seconds", type=float, default=1e9)
    parser.add_argument("--again", action="store_true", help="explain the last run, run nothing")
    arguments = parser.parse_args()
    if arguments.again:
        return report(whole=True)
    try:
        class_path = resolved(PLACE)
    except Missing as missing:
        print(f"skipped, nothing was compared: {missing}")
        return SKIPPED
    with tempfile.TemporaryDirectory(prefix="reference-") as name:
        folder = Path(name)
        port, controller = free_port(), free_port()
        appliance = Quickstart(folder / "appliance")
        appliance.start()
        try:
            make_nothing_up(appliance)
            with kafka(class_path, folder / "kafka", port, controller):
                theirs = Side(
                    "Kafka", lambda: socket.create_connection(("127.0.0.1", port), timeout=5)
                )
                found = run((theirs, connector(appliance)), arguments.only, arguments.seconds)
        finally:
            appliance.stop()
    found.write()
    return report(whole=not arguments.only and arguments.seconds > 1e8)


def report(*, whole: bool) -> int:
    """Prints what the last run found and nobody has explained, and writes the page of the rest."""
    rows, told = json.loads(LAST.read_text())
    requests: Counter[tuple[str, int]] = Counter({(api, v): count for api, v, count in rows})
    explained: Counter[int] = Counter()
    left: dict[Kind, list[int]] = {}
    example: dict[Kind, str] = {}
    for api, version, case, place, theirs, ours in told:
        number = explain(api, version, case, place, theirs, ours)
        if number is not None:
            explained[number] += 1
            continue
        kind = kind_of((api, version, case, place, theirs, ours))
        left.setdefault(kind, []).append(version)
        example.setdefault(kind, case)
    for kind, versions in sorted(left.items(), key=lambda each: len(each[1])):
        api, place, theirs, ours = kind
        print(
            f"{len(versions)} of {api} v{min(versions)} to v{max(versions)}, as in "
            f"{example[kind]}: {place or 'the answer'}\n    Kafka {theirs}, here {ours}"
        )
    unused = [each for n, each in enumerate(MEANT) if whole and not explained[n]]
    for each in unused:
        print(f"a reason without a difference: {each}")
    print(
        f"{requests.total()} requests in {len(requests)} versions of APIs to Kafka {VERSION} and "
        f"to the appliance: {explained.total()} differences that are meant, "
        f"{sum(map(len, left.values()))} in {len(left)} kinds that nobody has explained"
    )
    if whole:
        PAGE.write_text(page(VERSION, requests, explained, left))
    return 1 if left or unused else 0


if __name__ == "__main__":
    sys.exit(main())
