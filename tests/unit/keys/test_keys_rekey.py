"""Data is sealed anew under new data keys while the node serves, whatever it is interrupted by."""

from pathlib import Path

import pytest
import trio

from appliance.broker import rekeying
from appliance.errors import DamageDetected, ErrorCode, KeyWiped
from appliance.ports import KeyPlace, SecretKey, WrapAt
from appliance.storage.files import LogFiles
from appliance.types import KeyDomainId
from appliance.wire.requests import RekeyKeys, RekeyKeysResult

from ..broker import conftest as broker  # noqa: TID252 - tests are no installed package
from .conftest import Server
from .test_keys_node import (  # noqa: F401 - `custodian` is a fixture
    OWN_KEY,
    SMALL_FILES,
    Life,
    custodian,
    own_domain,
    until,
)


async def asked(
    running: broker.Running, *, begin: bool, domain: KeyDomainId | None = None
) -> RekeyKeysResult:
    result = await running.ask("admin", RekeyKeys(begin, domain), "native")
    assert isinstance(result, RekeyKeysResult)
    assert result.error is ErrorCode.NONE
    return result


async def rekeyed(running: broker.Running, domain: KeyDomainId | None = None) -> RekeyKeysResult:
    """Has it done, and waits for it."""
    now = await asked(running, begin=True, domain=domain)
    with trio.fail_after(30):
        while now.running:
            await trio.sleep(0.02)
            now = await asked(running, begin=False)
    return now


def files_of(running: broker.Running, topic: str = "orders") -> LogFiles:
    files: LogFiles = running.storage._open[running.log_of(topic)][1]
    return files


def epochs(running: broker.Running, topic: str = "orders") -> set[int]:
    return {entry.key_epoch for entry in files_of(running, topic).manifest.files}


def test_everything_is_sealed_under_new_data_keys_while_writes_go_on(
    tmp_path: Path,
    server: Server,
    custodian,  # noqa: F811
) -> None:
    life = Life(tmp_path, server, 320)

    async def main() -> None:
        async with life.life() as (running, _):
            await running.create(settings=SMALL_FILES)
            await running.create("own", settings=OWN_KEY)
            await running.produce(broker.batch(b"apart"), topic="own")
            async with life.load(running):
                await until(lambda: len(files_of(running).manifest.files) > 3, "files have ended")
                files = files_of(running)
                old = dict(files._data_keys)
                folder = life.path / str(running.log_of())
                before = {path.name for path in folder.iterdir()}
                (folder / "00000000-0000-4000-8000-000000000000.torn").write_bytes(b"old")
                await custodian.rotate(life.domain)
                done = await rekeyed(running)
                assert (done.left_bytes, done.failed) == (0, ())
                assert done.total_bytes > 3 << 20
                assert epochs(running) == {2}
                assert epochs(running, "own") == {1}
            kept = {path.name for path in folder.iterdir()}
            assert kept & before == {"manifest"}
            assert not any(name.endswith(".torn") for name in kept)
            assert len(files.manifest.keys) == 1
            for secret in old.values():
                with pytest.raises(KeyWiped):
                    secret.reveal()
            assert all(epoch == {2} for epoch in await internal_epochs(running))
        assert life.failed == []
        async with life.life() as (running, _):
            await life.check(running)

    trio.run(main)


async def internal_epochs(running: broker.Running) -> list[set[int]]:
    """Of the catalogue and the groups, which have logs too."""
    logs = running.storage._open.values()
    return [
        {entry.key_epoch for entry in files.manifest.files}
        for log, files in logs
        if files.manifest.domain != own_domain(running, "own") and not log.closed
    ]


def test_a_run_that_was_cut_off_is_finished_by_the_next(
    tmp_path: Path,
    server: Server,
    custodian,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    life = Life(tmp_path, server, 321)

    async def main() -> None:
        async with life.life() as (running, _):
            await running.create("own", settings=(*OWN_KEY, *SMALL_FILES))
            async with life.load(running, "own"):
                await until(
                    lambda: len(files_of(running, "own").manifest.files) > 3, "files have ended"
                )
            domain = own_domain(running, "own")
            wraps = [
                WrapAt(place_of(running, domain, key.epoch), key.wrapped)
                for key in files_of(running, "own").manifest.keys
            ]
            (old,) = await running.storage._keys.unwrap_all(wraps)
            assert isinstance(old, SecretKey)
            await custodian.rotate(domain)
            monkeypatch.setattr(rekeying, "REKEY_BYTES_PER_S", 1)
            now = await asked(running, begin=True, domain=domain)
            await until(lambda: epochs(running, "own") == {1, 2}, "it has begun")
            now = await asked(running, begin=False)
            assert now.running
            running.nursery.cancel_scope.cancel()
        monkeypatch.undo()
        async with life.life() as (running, _):
            await life.check(running, "own")
            assert epochs(running, "own") == {1, 2}
            done = await rekeyed(running, own_domain(running, "own"))
            assert done.failed == ()
            assert epochs(running, "own") == {2}
            again = await rekeyed(running)
            assert (again.total_bytes, again.failed) == (0, ())
            await life.check(running, "own")
            files = files_of(running, "own")
            files._data_keys[2] = old
            files._home.forget(files.first.entry)
            with pytest.raises(DamageDetected):
                files.first.contents()

    trio.run(main)


def place_of(running: broker.Running, domain: KeyDomainId, epoch: int) -> KeyPlace:
    return KeyPlace(running.storage.cluster, running.log_of("own"), domain, epoch, 1)
