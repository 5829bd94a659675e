"""What befalls a cluster in a run: one or two troubles at a time, drawn from the run's own source.

A trouble begins, lasts, and ends; nobody waits in between for the cluster to be well again. Leaders
of the topic that is written to are preferred as victims.
"""

import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tests.torture.cluster.machines import Cluster

ROUNDS = 3
LASTS_S = (0.5, 4.0)
BETWEEN_S = (0.3, 1.5)
LEADER = 0.7
"""How often the victim is whoever leads most."""
TWICE = 0.5
"""How often a second trouble begins while the first lasts."""
MEMBERSHIP_S = 700


@dataclass
class Trouble:
    """One that has begun: its name with what it befell, and how it ends."""

    name: str
    text: str
    end: Callable[[], None]


class Nemesis:
    """Plays the troubles of one run."""

    def __init__(
        self, cluster: Cluster, source: random.Random, settings: dict[str, str], topic: str
    ) -> None:
        self._cluster, self._source, self._topic = cluster, source, topic
        self._admin = AdminClient(settings | {"socket.timeout.ms": "1000", "log_level": "0"})
        self.played: Counter[str] = Counter()
        self.story: list[str] = []
        self._changes_members = False
        self._errands: list[threading.Thread] = []
        self.failures: list[str] = []
        """Changes of members that did not come about; the history is judged all the same."""

    def play(self, theme: str) -> None:
        """Three rounds; the first trouble of each is the theme, or follows from the source."""
        for number in range(ROUNDS):
            self._sleep(BETWEEN_S)
            first = theme if number == 0 else self._source.choice(list(TROUBLES))
            troubles = [self._begin(first)]
            if self._source.random() < TWICE:
                self._sleep((0.0, 1.0))
                troubles.append(self._begin(self._source.choice(list(TROUBLES))))
            self._sleep(LASTS_S)
            self._source.shuffle(troubles)
            for trouble in troubles:
                trouble.end()
        for errand in self._errands:
            errand.join(MEMBERSHIP_S)
            if errand.is_alive():
                self.failures.append("a change of members does not end")

    def _begin(self, name: str) -> Trouble:
        trouble = TROUBLES[name](self)
        self.played[trouble.name] += 1
        self.story.append(f"{trouble.name} {trouble.text}".rstrip())
        return trouble

    def _sleep(self, bounds: tuple[float, float]) -> None:
        time.sleep(self._source.uniform(*bounds))

    def _victim(self) -> int:
        """A member; by preference the one that leads most of what is written to."""
        members = sorted(self._cluster.members)
        if self._source.random() < LEADER:
            leaders = self._leaders()
            if leaders:
                return max(leaders, key=lambda node: (leaders[node], node))
        return self._source.choice(members)

    def _leaders(self) -> Counter[int]:
        try:
            found = self._admin.list_topics(self._topic, timeout=1).topics[self._topic]
        except KafkaException:
            return Counter()
        leaders = Counter(part.leader for part in found.partitions.values())
        return Counter({node: leaders[node] for node in leaders if node in self._cluster.members})

    def _others(self, victim: int) -> list[int]:
        return [node for node in range(1, 255) if node != victim]

    # --- each trouble --------------------------------------------------------------------------

    def kill(self) -> Trouble:
        """kill -9 of a node, which is started again at the end."""
        victim = self._victim()
        self._cluster.kill([victim])
        return Trouble("kill", str(victim), lambda: self._cluster.start([victim]))

    def pause(self) -> Trouble:
        """SIGSTOP, and SIGCONT at the end."""
        victim = self._victim()
        self._cluster.signal(victim, signal.SIGSTOP)
        return Trouble("pause", str(victim), lambda: self._cluster.signal(victim, signal.SIGCONT))

    def cut(self) -> Trouble:
        """A node hears no other, and none hears it."""
        victim = self._victim()
        mend = self._cluster.links.cut_off(victim, self._others(victim))
        return Trouble("cut", str(victim), mend)

    def one_way(self) -> Trouble:
        """A node is not heard, or does not hear; the other direction passes."""
        victim, deaf = self._victim(), self._source.random() < 0.5
        mend = self._cluster.links.cut_off(victim, self._others(victim), to=not deaf, back=deaf)
        return Trouble("one-way", f"{'to' if deaf else 'from'} {victim}", mend)

    def slow(self) -> Trouble:
        """Whatever passes between a node and the others comes late, and connections break."""
        victim, late_s = self._victim(), self._source.uniform(0.03, 0.4)
        self._cluster.links.break_off(victim)
        mend = self._cluster.links.slow(victim, self._others(victim), late_s)
        return Trouble("slow", f"{victim} by {1000 * late_s:.0f} ms", mend)

    def full(self) -> Trouble:
        """A node's disk is full."""
        small = [node for node in self._cluster.members if node != 1]
        victim = self._victim()
        victim = victim if victim in small else self._source.choice(small)
        how = self._cluster.fill(victim)
        return Trouble("full", f"{victim} ({how})", lambda: self._cluster.free(victim))

    def power(self) -> Trouble:
        """Every node at once; on held disks, with all that was not synced."""
        self._cluster.kill(self._cluster.everyone)
        return Trouble("power", "", lambda: self._cluster.start(self._cluster.everyone))

    def members(self) -> Trouble:
        """A node is added and another one removed, by the administrator's command."""
        if self._changes_members or self._cluster.spent:
            return self.kill()
        victim = self._source.choice(sorted(self._cluster.members))
        self._changes_members = True
        self._begin_errand(lambda: self._change(victim))
        return Trouble("members", f"-{victim}", lambda: None)

    def drain(self) -> Trouble:
        """A node gives its leadership away, by the administrator's command; it leads again later.

        One that is removed meanwhile is not found any more, which is as good.
        """
        victim, over = self._victim(), threading.Event()
        self._begin_errand(lambda: self._drain(victim, over))
        return Trouble("drain", str(victim), over.set)

    def _change(self, victim: int) -> None:
        self._cluster.add()
        self._cluster.remove(victim)

    def _drain(self, victim: int, over: threading.Event) -> None:
        self._cluster.administer("drain", str(victim))
        over.wait()
        self._cluster.administer("drain", "--undo", str(victim))

    def _begin_errand(self, work: Callable[[], None]) -> None:
        """Has an administrator's work done meanwhile; how it fails is told where the run ends."""

        def run() -> None:
            try:
                work()
            except Exception as error:  # noqa: BLE001 - told where the run ends
                self.failures.append(str(error))

        self._errands.append(threading.Thread(target=run, daemon=True))
        self._errands[-1].start()


TROUBLES: dict[str, Callable[[Nemesis], Trouble]] = {
    "kill": Nemesis.kill,
    "pause": Nemesis.pause,
    "cut": Nemesis.cut,
    "power": Nemesis.power,
    "full": Nemesis.full,
    "members": Nemesis.members,
    "one-way": Nemesis.one_way,
    "slow": Nemesis.slow,
    "drain": Nemesis.drain,
}
"""By name; the theme of a run goes round them."""
