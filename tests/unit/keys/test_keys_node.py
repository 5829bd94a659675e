"""A whole broker on a real OpenBao that is rotated, sealed, stopped, revoked and robbed under load.

The broker, its storage, its leases and its files are real; only the listeners are left out. While
a test does what it does to the keys, a writer produces without pause: what was acknowledged must be
there afterwards, and nothing that a lease covers may fail.
"""

import os
import shutil
import signal
import struct
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import trio

from appliance.broker.shredding import NO_SIGNER
from appliance.errors import (
    DamageDetected,
    ErrorCode,
    KeyGone,
    KeyProviderError,
    KeysRefused,
    KeysUnavailable,
    WrongKey,
)
from appliance.keys import vault_calls
from appliance.keys.lease import LeasedKeys, Report, Standing
from appliance.keys.vault_custodian import VaultCustodian
from appliance.observe.system import SystemClock, SystemEntropy
from appliance.storage.blockfile import PosixDisk
from appliance.storage.node import NodeDirectory
from appliance.types import KeyDomainId, NodeId
from appliance.wire.kafka.records import decode_batch, split, stamp
from appliance.wire.requests import DescribeKeys, RewrapKeys, ShredStep, ShredTopic

from ..broker import conftest as broker  # noqa: TID252 - tests are no installed package
from .conftest import CLUSTER, Server, domain

LEASE_S, RENEW_S = 3.0, 0.2
STALLED_S = 15.0
"""Calls of Vault end by themselves; a request waits for a few of them at most."""
OWN_KEY = (("memorystreamer.key.domain", "topic"),)
SMALL_FILES = (("segment.bytes", "1048576"),)


class Life:
    """One node's directory, and each of its lives."""

    def __init__(self, path: Path, server: Server, number: int) -> None:
        self.path = path / "node"
        self.server = server
        self.domain = domain(number)
        self.reports: list[Report] = []
        self.acknowledged: list[tuple[int, bytes]] = []
        self.failed: list[ErrorCode] = []

    @asynccontextmanager
    async def life(
        self, *, lease_s: float = LEASE_S, server: Server | None = None
    ) -> AsyncIterator[tuple[broker.Running, LeasedKeys]]:
        """A running broker and its leased keys."""
        provider = (server or self.server).provider(SystemClock())
        keys = LeasedKeys(
            provider, SystemClock(), lease_s=lease_s, renew_s=RENEW_S, spares=4,
            report=self.reports.append,
        )  # fmt: skip
        made = self.path.exists()
        self.path.mkdir(exist_ok=True)
        disk, entropy = PosixDisk(self.path), SystemEntropy()
        async with trio.open_nursery() as nursery:
            await nursery.start(keys.run)
            if made:
                storage = await NodeDirectory.open(disk, keys=keys, entropy=entropy, stamp=stamp)
            else:
                storage = await NodeDirectory.create(
                    disk, cluster=CLUSTER, node=NodeId(1), domain=self.domain, keys=keys,
                    entropy=entropy, stamp=stamp,
                )  # fmt: skip
            nursery.start_soon(storage.run)
            try:
                async with broker.running(storage=storage, domain=self.domain) as running:
                    yield running, keys
            finally:
                with trio.CancelScope(shield=True):
                    await storage.close()
            nursery.cancel_scope.cancel()

    @asynccontextmanager
    async def load(self, running: broker.Running, topic: str = "orders") -> AsyncIterator[None]:
        """Writes without pause while the body runs."""
        stop = trio.Event()

        async def write() -> None:
            while not stop.is_set():
                value = struct.pack(">Q", len(self.acknowledged)) + os.urandom(64 * 1024)
                (part,) = await running.produce(broker.batch(value), topic=topic)
                if part.error is ErrorCode.NONE:
                    self.acknowledged.append((part.base_offset, value))
                else:
                    self.failed.append(part.error)
                    await trio.sleep(0.01)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            before = len(self.acknowledged)
            yield
            await until(lambda: len(self.acknowledged) > before, "more is acknowledged")
            stop.set()

    async def check(self, running: broker.Running, topic: str = "orders") -> None:
        """Everything that was acknowledged is there, at its offset."""
        found: dict[int, bytes] = {}
        offset = self.acknowledged[0][0]
        while True:
            part = await running.fetch(offset, topic=topic, max_bytes=16 << 20, part_bytes=16 << 20)
            assert part.error is ErrorCode.NONE
            if not part.batches:
                break
            for chunk in part.batches:
                for each in split(memoryview(chunk)):
                    for record in decode_batch(each, max_decompressed_bytes=1 << 20):
                        found[record.offset] = record.value or b""
                        offset = record.offset + 1
        assert self.acknowledged
        for place, value in self.acknowledged:
            assert found.get(place) == value


async def until(condition: Callable[[], bool], what: str, seconds: float = 20) -> None:
    """Waits for what another task brings about."""
    with trio.move_on_after(seconds):
        while not condition():  # noqa: ASYNC110 - a process of its own tells no event
            await trio.sleep(0.01)
        return
    raise AssertionError(f"{what}: not within {seconds} s")


@pytest.fixture(autouse=True)
def _entropy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids that no other test has had: key domains stay behind in the server."""
    monkeypatch.setattr(broker, "Entropy", SystemEntropy)


@pytest.fixture
def custodian(server: Server) -> Iterator[VaultCustodian]:
    with server.custodian_token() as token:
        held = VaultCustodian(server.nodes[NodeId(1)], token)
        yield held
        held.close()


def own_domain(running: broker.Running, topic: str) -> KeyDomainId:
    state = running.node.policies.state
    return state.key_domains.topics[state.topics[topic].topic].domain


def test_rotation_and_rewrapping_fail_no_write_and_old_versions_can_be_retired(
    tmp_path: Path, server: Server, custodian: VaultCustodian
) -> None:
    life = Life(tmp_path, server, 300)

    async def main() -> None:
        async with life.life() as (running, keys):
            await running.create(settings=SMALL_FILES)
            storage = running.storage
            async with life.load(running):
                await custodian.rotate(life.domain)
                await until(lambda: keys.epoch(life.domain) == 2, "the rotation is noticed")
                await storage.keys.advance_all([running.log_of()])
                files = storage._open[running.log_of()][1]
                await until(
                    lambda: files.manifest.files[-1].key_epoch == 2, "a new file has a new key"
                )
                after = None
                while True:
                    done = await running.ask("admin", RewrapKeys(after, 2), "native")
                    assert (done.error, done.failed) == (ErrorCode.NONE, ())
                    after = done.after
                    if after is None:
                        break
                described = await running.ask("admin", DescribeKeys(), "native")
                (state,) = described.domains
                assert {version for version, _ in state.wraps} == {2}
                await custodian.retire(life.domain, 2)
            assert files.manifest.files[0].key_epoch == 1
        assert life.failed == []
        async with life.life() as (running, _):
            await life.check(running)

    trio.run(main)


def test_a_sealed_vault_is_outlived_for_the_lease_and_service_resumes_by_itself(
    tmp_path: Path, server: Server
) -> None:
    life = Life(tmp_path, server, 301)

    async def main() -> None:
        async with life.life() as (running, keys):
            await running.create()
            async with life.load(running):
                with server.sealed():
                    count = len(life.acknowledged)
                    await until(
                        lambda: life.reports[-1:] and life.reports[-1].standing is Standing.LEASED,
                        "the node says that it lives on its lease",
                    )
                    await until(lambda: len(life.acknowledged) > count + 5, "writes go on")
                    with trio.fail_after(LEASE_S + 5):
                        await keys.until_sealed(life.domain)
                    assert life.reports[-1].standing is Standing.SEALED
                    with pytest.raises(KeysUnavailable, match="sealed"):
                        await keys.create_domain(domain(399))
                    with pytest.raises(KeysUnavailable):
                        await running.storage.open_log(running.log_of())
        assert life.failed == []
        async with life.life() as (running, _):
            await life.check(running)
            assert (await running.create("later")).error is ErrorCode.NONE

    trio.run(main)


def test_a_vault_that_stops_and_starts_again_costs_no_write_and_no_new_topic(
    tmp_path: Path, server: Server
) -> None:
    life = Life(tmp_path, server, 302)

    async def main() -> None:
        async with life.life(lease_s=60) as (running, keys):
            await running.create()
            held = keys._domains[life.domain]
            await until(lambda: held.spares == 4, "spare keys are fetched")
            async with life.load(running):
                await trio.to_thread.run_sync(server.stop)
                try:
                    for number in range(4):
                        made = await running.create(f"away-{number}")
                        assert made.error is ErrorCode.NONE
                        (part,) = await running.produce(broker.batch(b"x"), topic=f"away-{number}")
                        assert part.error is ErrorCode.NONE
                    await running.create("one-too-many")
                    (part,) = await running.produce(broker.batch(b"x"), topic="one-too-many")
                    assert part.error is ErrorCode.KAFKA_STORAGE_ERROR
                    assert "no spare data key" in " ".join(each.reason for each in life.reports)
                finally:
                    await trio.to_thread.run_sync(server.start)
                await until(lambda: held.spares == 4, "spare keys are fetched again")
                (part,) = await running.produce(broker.batch(b"x"), topic="one-too-many")
                assert part.error is ErrorCode.NONE
        assert life.failed == []
        async with life.life() as (running, _):
            await life.check(running)
            for number in range(4):
                assert (await running.fetch(topic=f"away-{number}")).batches

    trio.run(main)


def test_a_vault_that_stalls_holds_a_new_topic_up_for_a_bounded_time_and_nothing_else(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that refuses is told from one that answers nothing by waiting alone."""
    monkeypatch.setattr(vault_calls, "READ_S", 1.0)
    life = Life(tmp_path, server, 307)

    async def main() -> None:
        async with life.life(lease_s=60) as (running, keys):
            await running.create()
            held = keys._domains[life.domain]
            await until(lambda: held.spares == 4, "spare keys are fetched")
            process = int((server.directory / "openbao" / "pid").read_text())
            async with life.load(running):
                os.kill(process, signal.SIGSTOP)
                try:
                    with trio.fail_after(STALLED_S):
                        made = await running.create("own", settings=OWN_KEY)
                        (part,) = await running.produce(broker.batch(b"x"), topic="own")
                    assert made.error is ErrorCode.NONE
                    assert part.error is ErrorCode.KAFKA_STORAGE_ERROR
                    with trio.fail_after(STALLED_S):  # a spare serves where there is one
                        await running.create("spared")
                        (part,) = await running.produce(broker.batch(b"x"), topic="spared")
                    assert part.error is ErrorCode.NONE
                finally:
                    os.kill(process, signal.SIGCONT)
                part = None
                with trio.fail_after(20):
                    while part is None or part.error is not ErrorCode.NONE:
                        (part,) = await running.produce(broker.batch(b"late"), topic="own")
            assert len((await running.fetch(topic="own")).batches) == 1
        assert life.failed == []
        async with life.life() as (running, _):
            await life.check(running)

    trio.run(main)


def test_a_shredded_topic_is_unreadable_in_memory_on_disk_and_in_every_copy(
    tmp_path: Path, server: Server, custodian: VaultCustodian, monkeypatch: pytest.MonkeyPatch
) -> None:
    life = Life(tmp_path, server, 303)

    async def signed(_: object, text: str) -> str:
        return text

    monkeypatch.setattr(type(NO_SIGNER), "sign", signed)

    async def main() -> None:
        async with life.life() as (running, keys):
            await running.create()
            await running.create("secret", settings=OWN_KEY)
            await running.produce(broker.batch(b"a"), broker.batch(b"b"), topic="secret")
            old, log = own_domain(running, "secret"), running.log_of("secret")
            copy = tmp_path / "copy"
            await trio.to_thread.run_sync(shutil.copytree, life.path, copy)
            async with life.load(running):
                began = time.monotonic()
                begun = await running.ask("admin", ShredTopic("secret", ShredStep.BEGIN), "native")
                assert (begun.error, begun.domain, begun.waiting_for) == (ErrorCode.NONE, old, ())
                assert (await running.fetch(topic="secret")).error is not ErrorCode.NONE
                (part,) = await running.produce(broker.batch(b"c"), topic="secret")
                assert part.error is ErrorCode.KAFKA_STORAGE_ERROR
                assert old not in keys._domains
                early = await running.ask(
                    "admin", ShredTopic("secret", ShredStep.COMPLETE), "native"
                )
                assert early.error is ErrorCode.INVALID_REQUEST
                assert "still there" in early.message
                again = await running.ask("admin", ShredTopic("secret", ShredStep.BEGIN), "native")
                assert again.shred == begun.shred
                await custodian.destroy(old)
                done = await running.ask(
                    "admin", ShredTopic("secret", ShredStep.COMPLETE), "native"
                )
                assert (done.error, done.message) == (ErrorCode.NONE, None)
                assert time.monotonic() - began < 10
                assert str(old) in done.certificate
                assert own_domain(running, "secret") != old
                gone = await running.fetch(topic="secret")
                assert gone.error is ErrorCode.OFFSET_OUT_OF_RANGE
                (part,) = await running.produce(broker.batch(b"d"), topic="secret")
                assert (part.error, part.base_offset) == (ErrorCode.NONE, 2)
            refused = await running.ask("admin", ShredTopic("orders", ShredStep.BEGIN), "native")
            assert refused.error is ErrorCode.INVALID_REQUEST
        assert life.failed == []
        life.path = copy
        provider = server.provider(SystemClock())
        storage = await NodeDirectory.open(
            PosixDisk(copy), keys=provider, entropy=SystemEntropy(), stamp=stamp
        )
        with pytest.raises(KeyGone):
            await storage.open_log(log)
        await storage.close()
        life.path = tmp_path / "node"
        async with life.life() as (running, _):
            await life.check(running)
            part = await running.fetch(2, topic="secret")
            assert part.batches

    trio.run(main)


def test_a_revoked_token_costs_one_login_and_a_revoked_permission_ends_with_the_lease(
    tmp_path: Path, server: Server
) -> None:
    life = Life(tmp_path, server, 304)

    async def main() -> None:
        async with life.life() as (running, keys):
            await running.create()
            provider = keys._provider
            async with life.load(running):
                with server.custodian() as call:
                    token = provider._client._hvac.token
                    generation = provider._login.generation
                    call("POST", "auth/token/revoke", {"token": token})
                    await until(lambda: provider._login.generation > generation, "a fresh login")
                    policy = call("GET", "sys/policies/acl/memorystreamer-node")
                    nothing = 'path "auth/token/renew-self" { capabilities = ["update"] }'
                    call("PUT", "sys/policies/acl/memorystreamer-node", {"policy": nothing})
                    try:
                        count = len(life.acknowledged)
                        await until(lambda: len(life.acknowledged) > count + 5, "writes go on")
                        with trio.fail_after(LEASE_S + 5):
                            await keys.until_sealed(life.domain)
                        with pytest.raises(KeysRefused, match="refuses this node"):
                            await running.storage.open_log(running.log_of())
                    finally:
                        text = msgspec.json.decode(policy)["data"]["policy"]
                        call("PUT", "sys/policies/acl/memorystreamer-node", {"policy": text})
        assert life.failed == []
        async with life.life() as (running, _):
            await life.check(running)

    trio.run(main)


def test_a_deleted_topic_key_seals_that_topic_at_once_and_no_other(
    tmp_path: Path, server: Server, custodian: VaultCustodian
) -> None:
    life = Life(tmp_path, server, 305)

    async def main() -> None:
        async with life.life() as (running, keys):
            await running.create()
            await running.create("secret", settings=OWN_KEY)
            await running.produce(broker.batch(b"a"), topic="secret")
            async with life.load(running):
                await custodian.destroy(own_domain(running, "secret"))
                with trio.fail_after(5):
                    sealed = await keys.next_sealed()
                assert sealed == own_domain(running, "secret")
                await running.node.seal_domain(sealed)
                part = await running.fetch(topic="secret")
                assert part.error is ErrorCode.KAFKA_STORAGE_ERROR
                (part,) = await running.produce(broker.batch(b"b"), topic="secret")
                assert part.error is ErrorCode.KAFKA_STORAGE_ERROR
                described = await running.ask("admin", DescribeKeys(), "native")
                assert "deleted" in described.domains[1].trouble
        assert life.failed == []
        async with life.life() as (running, _):
            await life.check(running)

    trio.run(main)


def test_another_vault_is_told_from_a_deleted_key_a_changed_wrap_and_a_changed_manifest(
    tmp_path: Path, server: Server, tmp_path_factory: pytest.TempPathFactory
) -> None:
    life = Life(tmp_path, server, 306)
    other = Server(tmp_path_factory.mktemp("other-vault"))

    async def opened(**more: Server) -> KeyProviderError | None:
        try:
            async with life.life(**more):
                return None
        except* KeyProviderError as group:
            (error,) = _leaves(group)
        return error

    async def main() -> None:
        async with life.life() as (running, _):
            await running.create()
            async with life.load(running):
                pass
            manifest = life.path / str(running.log_of()) / "manifest"
        gone = await opened(server=other)
        assert isinstance(gone, KeyGone)
        assert "another cluster's Vault" in str(gone)
        await other.provider(SystemClock()).create_domain(life.domain)
        wrong = await opened(server=other)
        assert isinstance(wrong, WrongKey)
        assert "another cluster's Vault" in str(wrong)
        kept = manifest.read_bytes()
        manifest.write_bytes(kept[:-20] + bytes([kept[-20] ^ 1]) + kept[-19:])
        async with life.life() as (running, _):
            (part,) = await running.produce(broker.batch(b"x"))
            assert part.error is ErrorCode.KAFKA_STORAGE_ERROR
            with pytest.raises(DamageDetected, match="changed"):
                await running.storage.open_log(running.log_of())
        manifest.write_bytes(kept)
        async with life.life() as (running, _):
            await life.check(running)

    other.start()
    try:
        trio.run(main)
    finally:
        other.close()


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
