"""A cluster of real node processes, with what a torture does to them.

Everything is made as the quickstart makes it, by its own modules: an authority, an OpenBao, each
node's certificate, login and configuration. Each node advertises a proxy to the others. Where this
process may mount, every node but the first lies on a small file system of its own, which can be
filled; where it may not, files of a node are kept from growing instead (RLIMIT_FSIZE).
"""

import contextlib
import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from uuid import uuid4

import trio
from certs_tooling.authority import Authority

from appliance.cli.quickstart import configuration, keyserver, profiles
from appliance.cli.quickstart.configuration import HOST, Ports
from appliance.cli.quickstart.layout import Layout
from appliance.client import profile
from appliance.client.admin import Admin
from appliance.client.secure import connector
from appliance.client.session import open_session
from appliance.config import NodeConfig
from appliance.types import ClusterId, NodeId
from tests.torture.cluster.links import Links
from tests.torture.failover import wait_for
from tests.torture.kills import COMMAND, free_ports

SPARE_NUMBERS = 24
"""A number is used once for all time; so many nodes may be added to one cluster."""
DISK_BYTES = 192 * 1024 * 1024
START_S = 180
STOP_S = 15
COMMAND_S = 150
FAULTS = ("fault of its own", "Traceback", "InvariantViolation")
"""What no node may ever say."""


class KeyServer:
    """A real OpenBao, run by the quickstart's code in a thread."""

    def __init__(
        self, layout: Layout, authority: Authority, cluster: ClusterId, nodes: int
    ) -> None:
        self._arguments = layout, authority, cluster, [NodeId(n + 1) for n in range(nodes)], None
        self._ready = threading.Event()
        self.source: keyserver.KeySource | None = None
        self._thread = threading.Thread(target=trio.run, args=(self._serve,), daemon=True)
        self._thread.start()
        self._ready.wait(START_S)
        if self.source is None:
            raise AssertionError("the key server does not come up")

    async def _serve(self) -> None:
        self._token, self._scope = trio.lowlevel.current_trio_token(), trio.CancelScope()
        try:
            with self._scope:
                async with keyserver.trial_vault(*self._arguments, print) as self.source:
                    self._ready.set()
                    await trio.sleep_forever()
        finally:
            self._ready.set()

    def close(self) -> None:
        trio.from_thread.run_sync(self._scope.cancel, trio_token=self._token)
        self._thread.join()


class Cluster:
    """Nodes by their numbers; `disk` is `real`, or `held` for one that a power cut empties."""

    def __init__(self, root: Path, size: int, disk: str) -> None:
        self.root, self.size, self.disk = root, size, disk
        self.members: list[int] = []
        self._joining: list[int] = []
        self._next = 1
        self._pids: dict[int, int] = {}
        self._guard = threading.Lock()
        self._stack = contextlib.ExitStack()
        try:
            self._make()
        except BaseException:
            self._stack.close()
            raise

    def _make(self) -> None:
        self._layout = Layout(self.root)
        self._stack.enter_context(self._layout.claimed(0))
        self._authority = Authority.create(self._layout.authority)
        self._cluster = ClusterId(uuid4())
        numbers = self.size + SPARE_NUMBERS
        keys = KeyServer(self._layout, self._authority, self._cluster, numbers)
        self._stack.callback(keys.close)
        self._keys = keys.source
        self.links = Links()
        self._stack.callback(self.links.close)
        self._program = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("program.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._stack.callback(self._program.communicate)
        self._configs = [self._prepare() for _ in range(self.size)]
        self.members = list(range(1, self.size + 1))
        kafka = [config.listeners.kafka.public for config in self._configs]
        native = [config.listeners.native.public for config in self._configs]
        profiles.write_all(self._layout, self._authority, kafka, native)
        self.start(self.members)
        wait_for(lambda: self.serves(1), "the first node", START_S)
        trio.run(self._admit_all)
        self.await_serving()

    def _prepare(self) -> NodeConfig:
        """A new node's folder, disk, certificate, configuration and data directory."""
        number, self._next = self._next, self._next + 1
        folder = self._layout.node(number)
        folder.root.mkdir(mode=0o700)
        self._mount(number)
        issued = self._authority.issue_node(number, [HOST, "localhost"])
        issued.save(certificate=folder.certificate, key=folder.key)
        ports = Ports(*free_ports(3))
        proxy = self.links.open(number, ports.peers or 0)
        wanted = configuration.Wanted(
            cluster=self._cluster,
            ports=ports,
            trust_domain=self._authority.trust_domain,
            provider="vault",
            keys=self._keys.settings,
            login=self._keys.logins[NodeId(number)],
            with_peers=True,
        )
        configuration.write(self._layout, folder, wanted)
        bound = f'bind = "{HOST}:{ports.peers}"'
        text = folder.config.read_text().replace('data = "data"', 'data = "disk/data"')
        text = text.replace(bound, f'{bound}\nadvertised = "{HOST}:{proxy}"')
        folder.config.write_text(text)
        self._begin("new", number)
        wait_for(lambda: not self.runs(number), "a data directory", START_S)
        return configuration.stored(folder)

    def _mount(self, number: int) -> None:
        place = self.place(number) / "disk"
        place.mkdir(mode=0o700)
        small = number > 1 and not _run(
            "mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", place
        )
        if small:
            self._stack.callback(_run, "umount", "--lazy", place)

    def place(self, number: int) -> Path:
        """A node's folder."""
        return self._layout.node(number).root

    def client(self, user: str = "admin") -> dict[str, str]:
        """What librdkafka needs to be told for this user."""
        lines = (self._layout.client / f"{user}.properties").read_text().splitlines()
        found = dict(line.split("=", 1) for line in lines if "=" in line and line[0] != "#")
        found.pop("auto.offset.reset", None)  # of consumers; each of ours says its own
        return found

    # --- processes -----------------------------------------------------------------------------

    def start(self, numbers: Iterable[int]) -> None:
        """Begins to start these nodes, where they do not run."""
        for number in numbers:
            if not self.runs(number):
                (self.place(number) / "serving").unlink(missing_ok=True)
                self._begin(self.disk, number)

    def _begin(self, disk: str, number: int) -> None:
        with self._guard:
            self._program.stdin.write(f"{disk} {number} {self.place(number)}\n")
            self._program.stdin.flush()
            self._pids[number] = int(self._program.stdout.readline())

    def runs(self, number: int) -> bool:
        return number in self._pids and Path(f"/proc/{self._pids[number]}").exists()

    def serves(self, number: int) -> bool:
        """Whether a node has said that it serves."""
        said = self.place(number) / "serving"
        return self.runs(number) and said.exists() and said.read_text() == str(self._pids[number])

    def await_serving(self) -> None:
        """Returns when every member serves; one that ended meanwhile is started again."""

        def all_serve() -> bool:
            self.start(self.members)
            return all(map(self.serves, self.members))

        wait_for(all_serve, "serving of every node", START_S)

    def signal(self, number: int, which: int) -> None:
        with contextlib.suppress(ProcessLookupError, KeyError):
            os.kill(self._pids[number], which)

    def kill(self, numbers: Iterable[int]) -> None:
        """kill -9 of all of these; returns when none of them runs."""
        gone = list(numbers)
        for number in gone:
            self.signal(number, signal.SIGKILL)
        wait_for(lambda: not any(map(self.runs, gone)), "the end of a killed node", STOP_S)

    def stop(self) -> None:
        """Ends every node as an operator would."""
        for number in list(self._pids):
            self.signal(number, signal.SIGCONT)
            self.signal(number, signal.SIGTERM)
        with contextlib.suppress(AssertionError):
            wait_for(lambda: not any(map(self.runs, self._pids)), "the end of a node", STOP_S)
        self.kill(self._pids)

    # --- disks ---------------------------------------------------------------------------------

    def fill(self, number: int) -> str:
        """Takes all space that is left; how."""
        place = self.place(number) / "disk"
        if not place.is_mount():
            most = max(
                (file.stat().st_size for file in place.rglob("*") if file.is_file()), default=0
            )
            self._limit(number, most)
            return "RLIMIT_FSIZE"
        with (place / "filler").open("ab") as filler:
            for step in (1 << 20, 4096):
                with contextlib.suppress(OSError):
                    while True:
                        os.posix_fallocate(filler.fileno(), filler.seek(0, os.SEEK_END), step)
        return errno.errorcode[errno.ENOSPC]

    def free(self, number: int) -> None:
        """Gives the space back."""
        (self.place(number) / "disk" / "filler").unlink(missing_ok=True)
        self._limit(number, resource.RLIM_INFINITY)

    def _limit(self, number: int, size: int) -> None:
        with contextlib.suppress(ProcessLookupError, KeyError):
            hard = resource.prlimit(self._pids[number], resource.RLIMIT_FSIZE)[1]
            resource.prlimit(self._pids[number], resource.RLIMIT_FSIZE, (size, hard))

    def lie(self, *, lying: bool) -> None:
        """Has every disk forget what it is told to sync, or be honest again."""
        for number in self.members:
            forget = self.place(number) / "disk" / "forget"
            forget.touch() if lying else forget.unlink(missing_ok=True)

    # --- members -------------------------------------------------------------------------------

    async def _admit_all(self) -> None:
        """Has the first node admit the others, as the quickstart does."""
        admin = profile.load(self._layout.client / "admin.toml")
        async with open_session(connector(admin), admin.bootstrap) as session:
            for config in self._configs[1:]:
                peers = config.listeners.peers.public
                await Admin(session).add_node(NodeId(config.node.id), peers.host, peers.port)

    def add(self) -> int:
        """Makes a new node, starts it and has it join, by `memorystreamer cluster add`."""
        config = self._prepare()
        self.start([config.node.id])
        self._joining = [config.node.id]
        self.administer("add", str(config.node.id), str(config.listeners.peers.public))
        self.members.append(config.node.id)
        self._joining = []
        return config.node.id

    @property
    def everyone(self) -> list[int]:
        """The members, and a node that is on its way to be one."""
        return list(dict.fromkeys([*self.members, *self._joining]))

    def remove(self, number: int) -> None:
        """`memorystreamer cluster remove`, until the node is out; then its process is killed."""
        self.administer("remove", "--yes", str(number))
        self.members.remove(number)
        self.kill([number])

    def administer(self, *arguments: str, seconds: float = 300) -> str:
        """A `memorystreamer cluster` command, repeated until it succeeds."""
        deadline = time.monotonic() + seconds
        admin = self._layout.client / "admin.toml"
        while True:
            done = self._command("cluster", *arguments, "--profile", admin)
            # A removal whose answer was lost is found done when it is asked for again.
            if done.returncode == 0 or "there is no node" in done.stderr:
                return done.stdout
            if time.monotonic() > deadline:
                raise AssertionError(f"cluster {' '.join(arguments)}: {done.stderr}")
            time.sleep(1)

    def _command(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        words = [str(COMMAND), *map(str, arguments)]
        try:
            return subprocess.run(
                words, capture_output=True, text=True, check=False, timeout=COMMAND_S
            )
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(words, 1, "", f"no end within {COMMAND_S} s")

    # --- afterwards ----------------------------------------------------------------------------

    @property
    def spent(self) -> bool:
        """Whether there are no numbers left for nodes to come."""
        return self._next > self.size + SPARE_NUMBERS - 2

    def faults(self) -> list[str]:
        """Lines that no node may ever say."""
        found = []
        for log in sorted(self.root.glob("nodes/*/log")):
            lines = log.read_text(errors="replace").splitlines()
            found += [
                f"node {log.parent.name}: {line[:500]}"
                for line in lines
                if any(fault in line for fault in FAULTS)
            ]
        return found

    def close(self, keep: Path | None = None) -> None:
        """Ends everything; keeps a copy of what lies on the disks where that is wanted."""
        with contextlib.suppress(Exception):
            self.links.mend()
            self.stop()
        if keep is not None:
            _run("cp", "-a", "--sparse=always", self.root, keep)
        self._stack.close()
        shutil.rmtree(self.root, ignore_errors=True)
        with contextlib.suppress(OSError):  # what a failing run left stays
            self.root.parent.rmdir()


def _run(*words: object) -> int:
    return subprocess.run(list(map(str, words)), capture_output=True, check=False).returncode
