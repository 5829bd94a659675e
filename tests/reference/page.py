"""Makes docs/reference.md from a run: what was asked, what differs and why, and what is left."""

from collections import Counter
from typing import Final

from kinds import Kind, in_words
from meant import MEANT, Meant

_HEAD: Final = """# Beside Apache Kafka

Written by `make test-reference`: it starts Apache Kafka {version} (KRaft, from Maven) and the
appliance, sends both the same requests in the same order, valid ones and ones with one thing wrong,
and compares the answers field by field. Set aside are what is a cluster's own: ids, hosts, ports,
sizes of disks, the words of messages.

{requests} requests in {versions} versions of {apis} APIs: {meant} differences are meant, by
{reasons} reasons; {left} in {kinds} kinds are not explained.

"""


def page(
    version: str,
    requests: Counter[tuple[str, int]],
    explained: Counter[int],
    left: dict[Kind, list[int]],
) -> str:
    """The page, from what was asked, how often each reason held, and the versions of the rest."""
    head = _HEAD.format(
        version=version,
        requests=f"{requests.total():,}",
        versions=len(requests),
        apis=len({api for api, _ in requests}),
        meant=f"{explained.total():,}",
        reasons=len(explained),
        left=f"{sum(map(len, left.values())):,}",
        kinds=len(left),
    )
    meant = [
        "## Meant", "", "| API | Where | Kafka | Here | Why | Differences |",
        "|---|---|---|---|---|---|",
        *(_meant(each, explained[number]) for number, each in enumerate(MEANT)),
    ]  # fmt: skip
    rest = ["", "## Not explained", ""]
    if left:
        rest += [
            "| API | Versions | Where | Kafka | Here | Differences |",
            "|---|---|---|---|---|---|",
        ]
    for kind, versions in sorted(left.items(), key=lambda each: (-len(each[1]), each[0])):
        api, place, theirs, ours = (in_words(part) for part in kind)
        rest.append(
            f"| {api} | {min(versions)} to {max(versions)} | {place} | {theirs} | {ours} "
            f"| {len(versions)} |"
        )
    return head + "\n".join([*meant, *(rest if left else [*rest, "Nothing."])]) + "\n"


def _meant(each: Meant, count: int) -> str:
    cells = (each.api, f"{each.place} ({each.case})" if each.case != "*" else each.place)
    told = " | ".join(in_words(cell) for cell in (*cells, each.kafka, each.ours))
    return f"| {told} | {each.why} | {count} |"
