"""LeasedKeys: what goes on without the provider, for how long, and what ends with the lease."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import msgspec
import pytest
import trio
import trio.testing

from appliance.errors import (
    KeyGone,
    KeyProviderError,
    KeysRefused,
    KeysUnavailable,
    KeyWiped,
    WrongKey,
)
from appliance.keys import held as held_keys
from appliance.keys.lease import LeasedKeys, Report, Standing
from appliance.keys.waiting import await_serving
from appliance.ports import (
    DataKey,
    DomainStatus,
    KeyHealth,
    KeyPlace,
    SecretKey,
    WrapAt,
    WrappedKey,
)
from appliance.types import KeyDomainId

from .conftest import HeldClock, Server, domain, place

LEASE_S = 600.0
SPARES = 3


class FakeProvider:
    """Wraps that open at their place only, and a failure to raise while one is set."""

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.wraps: dict[WrappedKey, tuple[KeyPlace, bytes]] = {}
        self.calls: list[str] = []
        self.issued: list[SecretKey] = []
        self.version = 0

    def epoch(self, _: KeyDomainId) -> int:
        return self.version

    async def status(self, _: KeyDomainId) -> DomainStatus:
        await self._answer("status")
        return DomainStatus(self.version, 0)

    async def unwrap_all(self, wraps: list[WrapAt]) -> list[SecretKey | KeyProviderError]:
        outcomes: list[SecretKey | KeyProviderError] = []
        for wrap in wraps:
            try:
                outcomes.append(await self.unwrap(wrap.place, wrap.wrapped))
            except (WrongKey, KeyGone) as error:
                outcomes.append(error)
        return outcomes

    async def rewrap_all(self, wraps: list[WrapAt]) -> list[WrappedKey | KeyProviderError]:
        await self._answer("rewrap")
        outcomes: list[WrappedKey | KeyProviderError] = []
        for wrap in wraps:
            made_at, material = self.wraps.get(wrap.wrapped, (None, b""))
            if made_at != wrap.place:
                outcomes.append(WrongKey("not here"))
                continue
            new = WrappedKey("fake", b"wrap-%d" % len(self.wraps))
            self.wraps[new] = (made_at, material)
            outcomes.append(new)
        return outcomes

    def forget(self, _: KeyDomainId) -> None:
        self.calls.append("forget")

    async def create_domain(self, made: KeyDomainId) -> None:
        await self._answer("create")

    async def new_data_key(self, at: KeyPlace) -> DataKey:
        await self._answer("new")
        material = bytes([len(self.wraps) + 1]) * 32
        wrapped = WrappedKey("fake", b"wrap-%d" % len(self.wraps))
        self.wraps[wrapped] = (at, material)
        self.issued.append(SecretKey(material))
        return DataKey(self.issued[-1], wrapped)

    async def unwrap(self, at: KeyPlace, wrapped: WrappedKey) -> SecretKey:
        await self._answer("unwrap")
        made_at, material = self.wraps.get(wrapped, (None, b""))
        if made_at != at:
            raise WrongKey("not here")
        self.issued.append(SecretKey(material))
        return self.issued[-1]

    async def health(self) -> KeyHealth:
        await trio.lowlevel.checkpoint()
        return KeyHealth(self.failure is None, "" if self.failure is None else str(self.failure))

    async def _answer(self, call: str) -> None:
        await trio.lowlevel.checkpoint()
        self.calls.append(call)
        if self.failure is not None:
            raise self.failure


class Setting:
    """A provider, a clock and the keys between them."""

    def __init__(self) -> None:
        self.provider = FakeProvider()
        self.clock = HeldClock()
        self.reports: list[Report] = []
        self.keys = LeasedKeys(
            self.provider,
            self.clock,
            lease_s=LEASE_S,
            renew_s=60.0,
            spares=SPARES,
            report=self.reports.append,
        )

    def away(self) -> None:
        self.provider.failure = KeysUnavailable("away")

    def back(self) -> None:
        self.provider.failure = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """`run` beside the body; `settle` lets it come to rest."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self.keys.run)
            yield
            nursery.cancel_scope.cancel()

    async def pass_time(self, seconds: float) -> None:
        """Lets both clocks run in steps that `run` sees."""
        end = self.clock.seconds + seconds
        while self.clock.seconds < end:
            step = min(10.0, end - self.clock.seconds)
            self.clock.seconds += step
            await trio.sleep(step)
            await settle()


async def settle() -> None:
    await trio.testing.wait_all_tasks_blocked()


def played(test: Callable[[Setting], Awaitable[None]]) -> Callable[[], None]:
    """Runs a test in virtual time."""

    def run() -> None:
        async def main() -> None:
            await test(Setting())

        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))

    run.__name__ = test.__name__
    return run


def is_wiped(secret: SecretKey) -> bool:
    """Whether nothing is left of a key, and whoever comes late is told so."""
    with pytest.raises(KeyWiped):
        secret.reveal()
    return bytes(secret._material) == bytes(32)


@played
async def test_keys_pass_through_while_the_provider_serves(setting: Setting) -> None:
    made = await setting.keys.new_data_key(place(1))
    assert made.wrapped.provider == "fake"
    assert (await setting.keys.unwrap(place(1), made.wrapped)).reveal() == made.secret.reveal()


@played
async def test_an_unwrapped_key_costs_no_second_call(setting: Setting) -> None:
    made = await setting.provider.new_data_key(place(1))
    await setting.keys.unwrap(place(1), made.wrapped)
    setting.away()
    assert (await setting.keys.unwrap(place(1), made.wrapped)).reveal() == made.secret.reveal()
    assert setting.provider.calls == ["new", "unwrap"]


@played
async def test_the_cache_knows_places(setting: Setting) -> None:
    made = await setting.keys.new_data_key(place(1))
    with pytest.raises(WrongKey):
        await setting.keys.unwrap(place(1, partition=2), made.wrapped)


@played
async def test_what_one_user_wipes_stays_whole_for_another(setting: Setting) -> None:
    made = await setting.keys.new_data_key(place(1))
    first = await setting.keys.unwrap(place(1), made.wrapped)
    first.wipe()
    again = await setting.keys.unwrap(place(1), made.wrapped)
    assert again.reveal() == made.secret.reveal()
    assert is_wiped(first)


@played
async def test_spares_make_keys_while_the_provider_is_away(setting: Setting) -> None:
    async with setting.running():
        await setting.keys.new_data_key(place(1))
        await settle()
        setting.away()
        spent = [await setting.keys.new_data_key(place(1, partition=7 + n)) for n in range(SPARES)]
        assert len({bytes(made.secret.reveal()) for made in spent}) == SPARES
        with pytest.raises(KeysUnavailable):
            await setting.keys.new_data_key(place(1, partition=99))


@played
async def test_a_key_from_a_spare_opens_later_and_at_its_place_only(setting: Setting) -> None:
    async with setting.running():
        await setting.keys.new_data_key(place(1))
        await settle()
        setting.away()
        made = await setting.keys.new_data_key(place(1, partition=7))
    setting.back()
    restarted = LeasedKeys(setting.provider, setting.clock)
    opened = await restarted.unwrap(place(1, partition=7), made.wrapped)
    assert opened.reveal() == made.secret.reveal()
    for elsewhere in (place(1, partition=8), place(1, partition=7, epoch=1)):
        with pytest.raises(WrongKey):
            await restarted.unwrap(elsewhere, made.wrapped)


@pytest.mark.parametrize("position", [0, 1, 16, 17, 48, -1])
def test_a_changed_spare_wrap_is_refused(position: int) -> None:
    @played
    async def test(setting: Setting) -> None:
        async with setting.running():
            await setting.keys.new_data_key(place(1))
            await settle()
            setting.away()
            made = await setting.keys.new_data_key(place(1, partition=7))
        setting.back()
        spoiled = bytearray(made.wrapped.ciphertext)
        spoiled[position] ^= 1
        for ciphertext in (bytes(spoiled), made.wrapped.ciphertext[:49], b""):
            wrapped = msgspec.structs.replace(made.wrapped, ciphertext=ciphertext)
            with pytest.raises(WrongKey):
                await setting.keys.unwrap(place(1, partition=7), wrapped)

    test()


@played
async def test_spares_are_fetched_again_when_the_provider_is_back(setting: Setting) -> None:
    async with setting.running():
        await setting.keys.new_data_key(place(1))
        await settle()
        setting.away()
        for number in range(SPARES):
            await setting.keys.new_data_key(place(1, partition=10 + number))
        setting.back()
        await setting.pass_time(70)
        setting.away()
        await setting.keys.new_data_key(place(1, partition=20))


@played
async def test_an_idle_lease_is_renewed_by_its_canary(setting: Setting) -> None:
    async with setting.running():
        made = await setting.keys.new_data_key(place(1))
        await setting.pass_time(5 * LEASE_S)
        assert "unwrap" in setting.provider.calls
        setting.away()
        await setting.keys.unwrap(place(1), made.wrapped)


@played
async def test_the_lease_ends_and_wipes(setting: Setting) -> None:
    async with setting.running():
        made = await setting.keys.new_data_key(place(1))
        await settle()
        setting.away()
        held = setting.keys._domains[domain(1)]
        secrets = [*held._cache.values(), *(spare.secret for _, spare in held._spares)]
        await setting.pass_time(LEASE_S - 100)
        await setting.keys.unwrap(place(1), made.wrapped)
        await setting.pass_time(101)
        with pytest.raises(KeysUnavailable):
            await setting.keys.unwrap(place(1), made.wrapped)
        with pytest.raises(KeysUnavailable):
            await setting.keys.new_data_key(place(1, partition=2))
        assert len(secrets) == 1 + SPARES
        assert all(map(is_wiped, secrets))


@played
async def test_how_it_stands_can_be_measured_and_what_could_not_be_had_is_counted(
    setting: Setting,
) -> None:
    async with setting.running():
        await setting.keys.new_data_key(place(1))
        await settle()
        (now,) = setting.keys.standings()
        assert (now.domain, now.spares) == (domain(1), SPARES)
        assert 0 < now.lease_left_s <= LEASE_S
        assert not setting.keys.refusals
        setting.away()
        await setting.pass_time(LEASE_S + 1)
        with pytest.raises(KeysUnavailable):
            await setting.keys.new_data_key(place(1, partition=2))
        (now,) = setting.keys.standings()
        assert (now.lease_left_s, now.spares) == (0.0, 0)
        assert setting.keys.refusals["unavailable"] > 0


@played
async def test_a_machine_that_slept_has_used_up_its_lease(setting: Setting) -> None:
    made = await setting.keys.new_data_key(place(1))
    setting.away()
    setting.clock.seconds += LEASE_S
    with pytest.raises(KeysUnavailable):
        await setting.keys.unwrap(place(1), made.wrapped)


@played
async def test_until_sealed_returns_at_the_end_of_the_lease(setting: Setting) -> None:
    async with setting.running():
        await setting.keys.new_data_key(place(1))
        await settle()
        setting.away()
        with trio.move_on_after(0) as early:
            await setting.keys.until_sealed(domain(1))
        assert early.cancelled_caught
        setting.clock.seconds += LEASE_S
        await setting.keys.until_sealed(domain(1))
    assert setting.reports[-1].standing is Standing.SEALED


@played
async def test_serving_resumes_after_the_end_of_a_lease(setting: Setting) -> None:
    async with setting.running():
        made = await setting.keys.new_data_key(place(1))
        await settle()
        setting.away()
        await setting.pass_time(2 * LEASE_S)
        setting.back()
        opened = await setting.keys.unwrap(place(1), made.wrapped)
        assert opened.reveal() == made.secret.reveal()


@played
async def test_changes_of_standing_are_told_once(setting: Setting) -> None:
    async with setting.running():
        await setting.keys.new_data_key(place(1))
        await settle()
        setting.away()
        await setting.pass_time(300)
        setting.back()
        await setting.pass_time(300)
    assert [report.standing for report in setting.reports] == [Standing.LEASED, Standing.SERVING]
    assert 0 < setting.reports[0].left_s <= LEASE_S


@played
async def test_a_refused_node_lives_out_its_lease(setting: Setting) -> None:
    async with setting.running():
        made = await setting.keys.new_data_key(place(1))
        await settle()
        setting.provider.failure = KeysRefused("refused")
        await setting.pass_time(100)
        await setting.keys.unwrap(place(1), made.wrapped)
        with pytest.raises(KeysRefused):
            await setting.keys.new_data_key(place(1, partition=2))
        await setting.pass_time(LEASE_S)
        with pytest.raises(KeysRefused):
            await setting.keys.unwrap(place(1), made.wrapped)


@played
async def test_a_key_that_is_gone_seals_its_domain_at_once(setting: Setting) -> None:
    async with setting.running():
        made = await setting.keys.new_data_key(place(1))
        other = await setting.keys.new_data_key(place(2))
        await settle()
        real, provider = setting.provider.unwrap, setting.provider

        async def gone(at: KeyPlace, wrapped: WrappedKey) -> SecretKey:
            if at.domain == domain(1):
                raise KeyGone("gone")
            return await real(at, wrapped)

        provider.unwrap = gone  # type: ignore[method-assign] # the fake's own failure
        with trio.fail_after(120):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(setting.keys.until_sealed, domain(1))
                await setting.pass_time(70)
        with pytest.raises(KeyGone):
            await setting.keys.unwrap(place(1), made.wrapped)
        await setting.keys.unwrap(place(2), other.wrapped)


@played
async def test_another_vault_earns_no_lease_and_makes_no_keys(setting: Setting) -> None:
    async with setting.running():
        await setting.keys.new_data_key(place(1))
        await settle()
        setting.provider.wraps.clear()
        await setting.pass_time(70)
        with pytest.raises(KeysRefused, match="another Vault"):
            await setting.keys.new_data_key(place(1, partition=2))
        await setting.pass_time(LEASE_S)
        assert not setting.keys._domains[domain(1)].leased(setting.clock.seconds)


@played
async def test_a_rotation_is_followed_within_a_look_and_drops_older_spares(
    setting: Setting,
) -> None:
    async with setting.running():
        await setting.keys.new_data_key(place(1))
        await settle()
        assert setting.keys.epoch(domain(1)) == 0
        setting.provider.version = 1
        await setting.pass_time(60)
        assert setting.keys.epoch(domain(1)) == 1
        setting.away()
        with pytest.raises(KeysUnavailable):
            await setting.keys.new_data_key(place(1, epoch=0))
        assert (await setting.keys.new_data_key(place(1, epoch=1))).secret.reveal()


@played
async def test_many_are_unwrapped_at_once_and_a_bad_one_spoils_no_other(setting: Setting) -> None:
    async with setting.running():
        await setting.keys.new_data_key(place(1))
        await settle()
        made = [await setting.provider.new_data_key(place(1, partition=n)) for n in range(3)]
        setting.away()
        spared = await setting.keys.new_data_key(place(1, partition=7))
        setting.back()
        setting.keys.forget(domain(1))
        wraps = [WrapAt(place(1, partition=n), each.wrapped) for n, each in enumerate(made)]
        wraps.append(WrapAt(place(1, partition=7), spared.wrapped))
        wraps[1] = WrapAt(place(1, partition=9), made[1].wrapped)
        opened = await setting.keys.unwrap_all(wraps)
        assert isinstance(opened[1], WrongKey)
        keys = [each.reveal() for each in opened if isinstance(each, SecretKey)]
        assert keys == [made[n].secret.reveal() for n in (0, 2)] + [spared.secret.reveal()]


@played
async def test_a_spares_wrap_is_rewrapped_and_opens_to_the_same_key(setting: Setting) -> None:
    async with setting.running():
        await setting.keys.new_data_key(place(1))
        await settle()
        setting.away()
        spared = await setting.keys.new_data_key(place(1, partition=7))
        setting.back()
        (new,) = await setting.keys.rewrap_all([WrapAt(place(1, partition=7), spared.wrapped)])
        assert isinstance(new, WrappedKey)
        assert new != spared.wrapped
        opened = await setting.keys.unwrap(place(1, partition=7), new)
        assert opened.reveal() == spared.secret.reveal()


@played
async def test_a_domain_that_is_gone_is_named_once_and_wiped(setting: Setting) -> None:
    async with setting.running():
        await setting.keys.new_data_key(place(1))
        await settle()
        setting.provider.failure = KeyGone("deleted")
        await setting.pass_time(60)
        with trio.fail_after(1):
            assert await setting.keys.next_sealed() == domain(1)
        assert not setting.keys._domains[domain(1)]._cache


@played
async def test_forgetting_wipes_every_key_of_a_domain(setting: Setting) -> None:
    async with setting.running():
        await setting.keys.new_data_key(place(1))
        await settle()
        held = setting.keys._domains[domain(1)]
        secrets = [*held._cache.values(), *(spare.secret for _, spare in held._spares)]
        setting.keys.forget(domain(1))
        assert len(secrets) == 1 + SPARES
        assert all(map(is_wiped, secrets))


@played
async def test_a_domain_that_is_held_exists_while_the_provider_is_away(setting: Setting) -> None:
    async with setting.running():
        await setting.keys.new_data_key(place(1))
        await settle()
        setting.away()
        await setting.pass_time(70)
        await setting.keys.create_domain(domain(1))
        with pytest.raises(KeysUnavailable):
            await setting.keys.create_domain(domain(2))


@played
async def test_waiting_tells_each_change_once_and_ends_when_served(setting: Setting) -> None:
    told: list[KeyHealth] = []
    setting.away()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(await_serving, setting.provider, told.append)
        await trio.sleep(30)
        setting.provider.failure = KeysUnavailable("sealed")
        await trio.sleep(30)
        setting.back()
    assert [health.advice for health in told] == ["away", "sealed", ""]
    assert trio.current_time() >= 60


@played
async def test_a_provider_that_serves_is_not_waited_for(setting: Setting) -> None:
    told: list[KeyHealth] = []
    await await_serving(setting.provider, told.append)
    assert told == []


def test_the_cache_is_bounded_and_wipes_what_it_drops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_keys, "MAX_CACHED_KEYS", 2)
    held = held_keys.HeldDomain(place(1))
    held.lease_end = 1.0
    wraps = [WrappedKey("fake", bytes([n])) for n in range(3)]
    for wrapped in wraps[:2]:
        held.remember(place(1), wrapped, SecretKey(b"s" * 32))
    oldest = held._cache[place(1), wraps[0]]
    held.remember(place(1), wraps[2], SecretKey(b"s" * 32))
    assert held.recall(place(1), wraps[0]) is None
    assert held.recall(place(1), wraps[1]) is not None
    assert is_wiped(oldest)


def test_topics_can_be_made_while_a_real_vault_is_stopped(server: Server, clock: HeldClock) -> None:
    async def main() -> None:
        keys = LeasedKeys(server.provider(clock), clock, spares=2)
        await keys.create_domain(domain(60))
        async with trio.open_nursery() as nursery:
            first = await keys.new_data_key(place(60, epoch=1))
            await nursery.start(keys.run)
            while keys._domains[domain(60)].spares < 2:  # noqa: ASYNC110 - `run` tells no one
                await trio.sleep(0.01)
            await trio.to_thread.run_sync(server.stop)
            try:
                made = await keys.new_data_key(place(60, partition=2, epoch=1))
                cached = await keys.unwrap(place(60, epoch=1), first.wrapped)
                assert cached.reveal() == first.secret.reveal()
            finally:
                await trio.to_thread.run_sync(server.start)
            nursery.cancel_scope.cancel()
        restarted = LeasedKeys(server.provider(clock), clock)
        opened = await restarted.unwrap(place(60, partition=2, epoch=1), made.wrapped)
        assert opened.reveal() == made.secret.reveal()
        with pytest.raises(WrongKey):
            await restarted.unwrap(place(60, partition=3, epoch=1), made.wrapped)

    trio.run(main)
