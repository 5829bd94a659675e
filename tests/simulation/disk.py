"""A disk of one simulated machine, behind the ports that the storage engine knows.

It takes the same steps as `storage.blockfile` does, one by one: a name is made, a range written, a
file synced, a directory synced. What was not synced is pending. A power cut keeps what was synced
and any part of what was pending: writes sector by sector, sizes and names one by one, in any
combination, so later ones may survive earlier ones. A kill keeps everything that was written.

Before each step the disk asks `on_step`: it may look, photograph the machine (`image`), or raise
the error that the step fails with. Nothing here waits or draws random numbers; whoever cuts the
power chooses what survives.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from appliance.errors import DirectoryInUse, FileSystemFailed, StorageError, StorageFull

SECTOR = 512
RESERVE = 4096


class Action(Enum):
    """What a step does."""

    MAKE = "make"
    RENAME = "rename"
    UNLINK = "unlink"
    RESERVE = "reserve"
    WRITE = "write"
    SYNC = "sync"
    SYNC_DIRECTORY = "sync directory"
    TRUNCATE = "truncate"
    READ = "read"


class Fault(Enum):
    """How a step may fail."""

    IO = "EIO"
    FULL = "ENOSPC"
    SHORT = "a short write"
    LOST = "a write that reached nothing and said nothing"
    MISDIRECTED = "a write that went elsewhere and said nothing"


OnStep = Callable[[Action, str], Fault | None]


@dataclass(frozen=True)
class Sector:
    """512 bytes of a file that were written and not synced."""

    number: int
    content: bytes


@dataclass(frozen=True)
class Size:
    """A length of a file that was set and not synced."""

    length: int


Change = Sector | Size


@dataclass
class Inode:
    """A file: what a sync made durable, and what has changed since, in order."""

    durable: dict[int, bytes] = field(default_factory=dict)
    durable_size: int = 0
    pending: list[Change] = field(default_factory=list)
    cached: dict[int, bytes] = field(default_factory=dict)
    size: int = 0
    doubtful: list[Sector] = field(default_factory=list)
    """What a failed sync has given up: reads show it, a power cut may lose it, no sync saves it."""

    def change(self, change: Change) -> None:
        _apply(self.cached, change)
        if isinstance(change, Size):
            self.size = change.length
        self.pending.append(change)

    def sync(self) -> None:
        for change in self.pending:
            self.settle(change)
        written = {change.number for change in self.pending if isinstance(change, Sector)}
        end = self.durable_size
        self.doubtful = [
            sector
            for sector in self.doubtful
            if sector.number not in written and sector.number * SECTOR < end
        ]
        self.pending.clear()

    def fail_to_sync(self) -> None:
        """What was written is given up; a length is kept in the inode, and goes with the next."""
        self.doubtful += [change for change in self.pending if isinstance(change, Sector)]
        self.pending = [change for change in self.pending if isinstance(change, Size)]

    def settle(self, change: Change) -> None:
        _apply(self.durable, change)
        if isinstance(change, Size):
            self.durable_size = change.length

    def read(self, position: int, count: int) -> bytes:
        count = max(0, min(count, self.size - position))
        first, last = position // SECTOR, -(-(position + count) // SECTOR)
        blank = bytes(SECTOR)
        whole = b"".join(self.cached.get(number, blank) for number in range(first, last))
        at = position - first * SECTOR
        return whole[at : at + count]

    def write(self, position: int, data: bytes) -> None:
        """Changes whole sectors; growing is a change of its own, which comes first."""
        if position + len(data) > self.size:
            self.change(Size(position + len(data)))
        at = 0
        while at < len(data):
            number, within = divmod(position + at, SECTOR)
            part = data[at : at + SECTOR - within]
            old = self.cached.get(number, bytes(SECTOR))
            self.change(Sector(number, old[:within] + part + old[within + len(part) :]))
            at += len(part)

    def copy(self) -> "Inode":
        return Inode(
            dict(self.durable),
            self.durable_size,
            list(self.pending),
            dict(self.cached),
            self.size,
            list(self.doubtful),
        )


def _apply(sectors: dict[int, bytes], change: Change) -> None:
    if isinstance(change, Sector):
        sectors[change.number] = change.content
        return
    end, within = divmod(change.length, SECTOR)
    for number in [number for number in sectors if number >= end]:
        if number > end or not within:
            del sectors[number]
        else:
            sectors[number] = sectors[number][:within] + bytes(SECTOR - within)


@dataclass(frozen=True)
class Names:
    """One step of a directory that was taken and not synced: names that went, and came."""

    gone: tuple[str, ...] = ()
    come: tuple[tuple[str, "Inode | Directory"], ...] = ()


@dataclass
class Directory:
    """Names, as a sync of the directory made them durable, and the steps since."""

    durable: "dict[str, Inode | Directory]" = field(default_factory=dict)
    pending: list[Names] = field(default_factory=list)
    cached: "dict[str, Inode | Directory]" = field(default_factory=dict)

    def change(self, names: Names) -> None:
        _rename(self.cached, names)
        self.pending.append(names)

    def sync(self) -> None:
        self.durable = dict(self.cached)
        self.pending.clear()

    def copy(self, copies: "dict[int, Inode | Directory]") -> "Directory":
        def copied(node: "Inode | Directory") -> "Inode | Directory":
            if id(node) not in copies:
                copies[id(node)] = node.copy(copies) if isinstance(node, Directory) else node.copy()
            return copies[id(node)]

        return Directory(
            {name: copied(node) for name, node in self.durable.items()},
            [
                Names(step.gone, tuple((name, copied(node)) for name, node in step.come))
                for step in self.pending
            ],
            {name: copied(node) for name, node in self.cached.items()},
        )


def _rename(entries: "dict[str, Inode | Directory]", names: Names) -> None:
    for name in names.gone:
        entries.pop(name, None)
    entries.update(names.come)


@dataclass(frozen=True)
class Atom:
    """One pending change, which a power cut keeps or loses by itself."""

    place: str
    change: Change | Names


class Image:
    """A machine's disk as a photograph has it; gives any number of machines that start from it."""

    def __init__(self, root: Directory) -> None:
        """Takes a copy."""
        self._root = root.copy({})

    def after_a_kill(self) -> "SimulatedDisk":
        """Only the process has ended: what was written is there, synced or not."""
        return SimulatedDisk(self._root.copy({}))

    def atoms(self) -> list[Atom]:
        """Everything pending, file by file and directory by directory, each in order."""
        return [
            Atom(place, change)
            for place, node in _walk("", self._root)
            for change in _unsettled(node)
        ]

    def after_a_power_cut(self, keeps: Callable[[int, Atom], bool]) -> "SimulatedDisk":
        """What was synced is there, and the atoms that `keeps` says, by their number.

        The atoms are numbered as in `atoms`.
        """
        root = self._root.copy({})
        number = 0
        for place, node in list(_walk("", root)):
            kept = []
            for change in _unsettled(node):
                if keeps(number, Atom(place, change)):
                    kept.append(change)
                number += 1
            _settle(node, kept)
        return SimulatedDisk(root)


def _walk(place: str, node: "Inode | Directory") -> "Iterator[tuple[str, Inode | Directory]]":
    """Every file and directory that a name leads to, or has led to, in a fixed order."""
    yield place, node
    if isinstance(node, Directory):
        seen: set[int] = set()
        reached = [*node.durable.items(), *(pair for step in node.pending for pair in step.come)]
        for name, child in reached:
            if id(child) not in seen:
                seen.add(id(child))
                yield from _walk(f"{place}/{name}".lstrip("/"), child)


def _unsettled(node: "Inode | Directory") -> "list[Change | Names]":
    return [*node.doubtful, *node.pending] if isinstance(node, Inode) else list(node.pending)


def _settle(node: "Inode | Directory", kept: "list[Change | Names]") -> None:
    if isinstance(node, Directory):
        for names in kept:
            _rename(node.durable, names)
        node.cached = dict(node.durable)
    else:
        for change in kept:
            node.settle(change)
        _apply(node.durable, Size(node.durable_size))
        node.cached, node.size = dict(node.durable), node.durable_size
        node.doubtful.clear()
    node.pending.clear()


class SimulatedFile:
    """See `storage.disk.BlockFile`."""

    def __init__(self, disk: "SimulatedDisk", name: str, inode: Inode) -> None:
        self._disk = disk
        self._name = name
        self._inode = inode
        self._closed = False
        self._failed = False

    def size(self) -> int:
        return self._inode.size

    def reserve(self, end: int) -> None:
        self._usable()
        if end <= self._inode.size:
            return
        fault = self._disk.step(Action.RESERVE, self._name)
        if fault is Fault.FULL:
            raise StorageFull("no space to reserve space")
        self._fail_if(fault)
        self._inode.change(Size(-(-end // RESERVE) * RESERVE))

    def write(self, position: int, data: Sequence[bytes | bytearray | memoryview]) -> None:
        self._usable()
        content = b"".join(data)
        match self._disk.step(Action.WRITE, self._name):
            case Fault.SHORT | Fault.IO | Fault.FULL as fault:
                part = len(content) // 3 if fault is Fault.SHORT else 0
                self._inode.write(position, content[:part])
                self._fail_if(fault)
            case Fault.MISDIRECTED:
                self._inode.write(position + SECTOR, content)
            case Fault.LOST:
                pass
            case _:
                self._inode.write(position, content)

    def sync(self) -> None:
        self._usable()
        fault = self._disk.step(Action.SYNC, self._name)
        if fault is not None:
            self._inode.fail_to_sync()
        self._fail_if(fault)
        self._inode.sync()

    def read_into(self, position: int, into: memoryview) -> int:
        if self._closed:
            raise StorageError("the file is closed")
        if self._disk.step(Action.READ, self._name) is not None:
            raise StorageError("cannot read: Input/output error")
        content = self._inode.read(position, len(into))
        into[: len(content)] = content
        return len(content)

    def written_end(self, position: int) -> int:
        self._usable()
        last = max(self._inode.cached, default=-1)
        return max(position, min((last + 1) * SECTOR, self.size()))

    def cut(self, length: int) -> None:
        self._usable()
        self._fail_if(self._disk.step(Action.TRUNCATE, self._name))
        self._inode.change(Size(length))
        self.sync()

    def close(self) -> None:
        self._closed = True

    def _usable(self) -> None:
        if self._closed or self._failed:
            raise StorageError("the file is closed")

    def _fail_if(self, fault: Fault | None) -> None:
        if fault is None:
            return
        self._failed = True
        if fault is Fault.FULL:
            raise StorageFull("no space left")
        raise StorageError(f"cannot go on: {fault.value}")


class SimulatedDisk:
    """See `storage.disk.Disk`."""

    def __init__(self, root: Directory | None = None) -> None:
        """An empty disk, or for `Image`."""
        self._root = Directory() if root is None else root
        self._locked = False
        self.on_step: OnStep = lambda _action, _name: None
        self.steps = 0

    def __str__(self) -> str:
        return "a simulated disk"

    @classmethod
    def holding(cls, files: Mapping[str, bytes]) -> "SimulatedDisk":
        """A disk with these files, all durable."""
        disk = cls()
        for name, content in files.items():
            directory, _, base = name.rpartition("/")
            if directory:
                disk.make_directory(directory)
            inode = Inode()
            inode.write(0, content)
            inode.sync()
            disk._directory(name).change(Names(come=((base, inode),)))
            disk._directory(name).sync()
        return disk

    def files(self) -> dict[str, bytes]:
        """Every file, as it is read now."""
        return {
            place: node.read(0, node.size)
            for place, node in _cached("", self._root)
            if isinstance(node, Inode)
        }

    def image(self) -> Image:
        """A photograph of the machine."""
        return Image(self._root)

    def step(self, action: Action, name: str) -> Fault | None:
        """Counts a step, and asks what becomes of it."""
        self.steps += 1
        return self.on_step(action, name)

    # --- the port ------------------------------------------------------------------------------

    def create(self, name: str) -> SimulatedFile:
        directory, base = self._directory(name), name.rpartition("/")[2]
        if base in directory.cached:
            raise StorageError(f"cannot open {name}: File exists")
        inode = Inode()
        self._step(Action.MAKE, name)
        directory.change(Names(come=((base, inode),)))
        self._sync_directory(name, directory)
        return SimulatedFile(self, name, inode)

    def open(self, name: str) -> SimulatedFile:
        return SimulatedFile(self, name, self._inode(name))

    def replace(self, name: str, content: bytes | bytearray | memoryview) -> None:
        directory, base = self._directory(name), name.rpartition("/")[2]
        fresh = directory.cached.get(f"{base}.new")
        if not isinstance(fresh, Inode):
            fresh = Inode()
            self._step(Action.MAKE, f"{name}.new")
            directory.change(Names(come=((f"{base}.new", fresh),)))
        fresh.change(Size(0))
        file = SimulatedFile(self, f"{name}.new", fresh)
        file.write(0, [content])
        file.sync()
        self._step(Action.RENAME, name)
        directory.change(Names(gone=(f"{base}.new",), come=((base, fresh),)))
        try:
            self._sync_directory(name, directory)
        except StorageFull as error:
            raise StorageError(str(error)) from None

    def read(self, name: str, max_bytes: int) -> bytes | None:
        try:
            inode = self._inode(name)
        except StorageError:
            return None
        self._step(Action.READ, name)
        if inode.size > max_bytes:
            raise StorageError(f"{name} is larger than {max_bytes} bytes")
        return inode.read(0, inode.size)

    def make_directory(self, name: str) -> None:
        parent, base = self._directory(name), name.rpartition("/")[2]
        if base not in parent.cached:
            self._step(Action.MAKE, name)
            parent.change(Names(come=((base, Directory()),)))
        self._sync_directory(name, parent)

    def sync_all(self, files: Sequence["SimulatedFile"]) -> float | None:
        """In one step, as syncfs does; a failure is the whole file system's."""
        for file in files:
            file._usable()
        fault = self.step(Action.SYNC, "everything")
        for file in files:
            if fault is None:
                file._inode.sync()
            else:
                file._inode.fail_to_sync()
        if fault is not None:
            raise FileSystemFailed(f"cannot sync everything: {fault.value}")
        return 0.0

    def names(self, directory: str) -> list[str]:
        if directory in ("", "."):
            return sorted(self._root.cached)
        node = self._root.cached.get(directory)
        return sorted(node.cached) if isinstance(node, Directory) else []

    def remove(self, name: str) -> None:
        directory, _, base = name.rpartition("/")
        if directory and directory not in self._root.cached:
            return
        parent = self._directory(name)
        node = parent.cached.get(base)
        if isinstance(node, Directory):
            for entry in sorted(node.cached):
                self._step(Action.UNLINK, f"{name}/{entry}")
                node.change(Names(gone=(entry,)))
        if node is not None:
            self._step(Action.UNLINK, name)
            parent.change(Names(gone=(base,)))
        self._sync_directory(name, parent)

    def settle(self) -> None:
        for name, node in sorted(self._root.cached.items()):
            if isinstance(node, Directory):
                self._sync_directory(f"{name}/", node)
        self._sync_directory("", self._root)

    def lock(self) -> None:
        if self._locked:
            raise DirectoryInUse(f"{self} is in use by another process")
        self._locked = True

    def unlock(self) -> None:
        self._locked = False

    # --- steps ---------------------------------------------------------------------------------

    def _step(self, action: Action, name: str) -> None:
        fault = self.step(action, name)
        if fault is Fault.FULL:
            raise StorageFull(f"no space to {action.value} {name}")
        if fault is not None:
            raise StorageError(f"cannot {action.value} {name}: {fault.value}")

    def _sync_directory(self, name: str, directory: Directory) -> None:
        self._step(Action.SYNC_DIRECTORY, name.rpartition("/")[0])
        directory.sync()

    def _directory(self, name: str) -> Directory:
        parent = name.rpartition("/")[0]
        node = self._root.cached.get(parent) if parent else self._root
        if not isinstance(node, Directory):
            raise StorageError(f"cannot open {name}: No such file or directory")
        return node

    def _inode(self, name: str) -> Inode:
        node = self._directory(name).cached.get(name.rpartition("/")[2])
        if not isinstance(node, Inode):
            raise StorageError(f"cannot open {name}: No such file or directory")
        return node


def _cached(place: str, node: "Inode | Directory") -> "Iterator[tuple[str, Inode | Directory]]":
    yield place, node
    if isinstance(node, Directory):
        for name, child in node.cached.items():
            yield from _cached(f"{place}/{name}".lstrip("/"), child)
