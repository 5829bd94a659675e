"""What is recorded is durable before the caller goes on, in order, and readable afterwards."""

from collections.abc import Sequence

import msgspec
import pytest
import trio
import trio.testing

from appliance.audit.events import Denial, Login, LoginRefused, Mutation, Recorded
from appliance.audit.sink import AuditLog, read_events
from appliance.errors import DamageDetected, StorageError
from appliance.invariant import InvariantViolation
from appliance.types import TimestampMs


class Journal:
    """A sealed journal that syncs when the test says so."""

    def __init__(self) -> None:
        self.durable: list[bytes] = []
        self.staged: list[bytes] = []
        self.syncs = 0
        self.fails = False
        self._sync_done: trio.Event | None = None

    async def append(self, records: Sequence[bytes]) -> None:
        if self.fails:
            raise StorageError("the disk is gone")
        self.staged.extend(records)
        if self._sync_done is None:
            self._sync_done = done = trio.Event()
            await trio.testing.wait_all_tasks_blocked()
            self.durable += self.staged
            self.staged = []
            self.syncs += 1
            self._sync_done = None
            done.set()
        else:
            await self._sync_done.wait()

    async def read_all(self) -> list[bytes]:
        await trio.lowlevel.checkpoint()
        return list(self.durable)

    async def close(self) -> None:
        await trio.lowlevel.checkpoint()


class Clock:
    def now_ms(self) -> TimestampMs:
        return TimestampMs(1_700_000_000_000)

    def monotonic(self) -> float:
        return 0.0


LOGIN = Login(listener="kafka", address="127.0.0.1", principal="User:producer", client_id="c")
REFUSED = LoginRefused(listener="native", address="127.0.0.1", reason="no certificate")
DENIAL = Denial(
    listener="kafka",
    address="127.0.0.1",
    principal="User:nobody",
    request="Produce",
    code=29,
    rule="no line of the policy allows it",
    policy_version=3,
    resource_kind="TOPIC",
    resource="demo",
)
MUTATION = Mutation(
    listener="kafka",
    address="127.0.0.1",
    principal="User:admin",
    request="CreateTopics",
    resources=("demo",),
    policy_version=3,
)


def test_every_kind_of_event_comes_back_as_it_went_in() -> None:
    async def main() -> None:
        journal = Journal()
        await AuditLog(journal, Clock()).record([LOGIN, REFUSED, DENIAL, MUTATION])
        recorded = await read_events(journal)
        assert [r.event for r in recorded] == [LOGIN, REFUSED, DENIAL, MUTATION]
        assert [r.sequence for r in recorded] == [1, 2, 3, 4]
        assert {r.time_ms for r in recorded} == {1_700_000_000_000}

    trio.run(main)


def test_events_are_durable_when_record_returns() -> None:
    async def main() -> None:
        journal = Journal()
        await AuditLog(journal, Clock()).record([LOGIN])
        assert len(journal.durable) == 1

    trio.run(main)


def test_concurrent_events_share_a_sync_and_keep_their_order() -> None:
    async def main() -> None:
        journal = Journal()
        log = AuditLog(journal, Clock())
        await log.start()
        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(log.record, [LOGIN, DENIAL])
        assert [r.sequence for r in await read_events(journal)] == list(range(1, 101))
        assert journal.syncs <= 2

    trio.run(main)


def test_first_events_at_once_do_not_share_a_number() -> None:
    async def main() -> None:
        journal = Journal()
        log = AuditLog(journal, Clock())
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(log.record, [LOGIN])
        assert [r.sequence for r in await read_events(journal)] == [1, 2, 3, 4, 5]

    trio.run(main)


def test_numbers_go_on_after_a_restart() -> None:
    async def main() -> None:
        journal = Journal()
        await AuditLog(journal, Clock()).record([LOGIN, LOGIN])
        await AuditLog(journal, Clock()).record([DENIAL])
        assert [r.sequence for r in await read_events(journal)] == [1, 2, 3]

    trio.run(main)


def test_a_journal_that_fails_fails_the_caller() -> None:
    async def main() -> None:
        journal = Journal()
        log = AuditLog(journal, Clock())
        await log.record([LOGIN])
        journal.fails = True
        with pytest.raises(StorageError):
            await log.record([MUTATION])
        journal.fails = False
        await log.record([DENIAL])
        recorded = await read_events(journal)
        assert [r.event for r in recorded] == [LOGIN, DENIAL]
        assert [r.sequence for r in recorded] == [1, 3]

    trio.run(main)


def test_only_audit_events_are_recorded() -> None:
    class Stray(msgspec.Struct):
        text: str

    async def main() -> None:
        journal = Journal()
        with pytest.raises(InvariantViolation):
            await AuditLog(journal, Clock()).record([Stray("x")])
        assert journal.durable == []

    trio.run(main)


def test_nothing_is_written_for_no_events() -> None:
    async def main() -> None:
        journal = Journal()
        await AuditLog(journal, Clock()).record([])
        assert journal.syncs == 0

    trio.run(main)


@pytest.mark.parametrize("record", [b"", b"\xff", b"\x93\x01\x02\x03", b"x" * 100])
def test_a_record_that_is_no_event_is_damage(record: bytes) -> None:
    async def main() -> None:
        journal = Journal()
        await AuditLog(journal, Clock()).record([LOGIN])
        journal.durable.append(record)
        with pytest.raises(DamageDetected):
            await read_events(journal)

    trio.run(main)


def test_numbers_that_do_not_grow_are_damage() -> None:
    async def main() -> None:
        journal = Journal()
        encode = msgspec.msgpack.encode
        journal.durable = [encode(Recorded(2, 0, LOGIN)), encode(Recorded(2, 0, LOGIN))]
        with pytest.raises(DamageDetected):
            await read_events(journal)

    trio.run(main)


def test_a_hostile_name_is_one_line_in_the_log() -> None:
    async def main() -> None:
        journal = Journal()
        hostile = Denial(
            listener="kafka",
            address="127.0.0.1",
            principal="User:nobody",
            request="Fetch",
            code=29,
            rule="r",
            policy_version=1,
            resource="x\r\n2026-01-01 Login User:admin\x00",
        )
        await AuditLog(journal, Clock()).record([hostile])
        assert not any(byte in journal.durable[0] for byte in (b"\n", b"\r\n", b"\x00Login"))
        event = (await read_events(journal))[0].event
        assert isinstance(event, Denial)
        assert event.resource == "x\\x0d\\x0a2026-01-01 Login User:admin\\x00"

    trio.run(main)
