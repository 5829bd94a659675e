"""Everything that is durable is read once a period; what is damaged is said and stays."""

import os

import pytest
import trio

from appliance.limits import SCRUB_REST_S
from appliance.storage import log as log_module
from appliance.storage import scrub as scrub_module

from .conftest import DOMAIN, PARTITION, batch_after


async def filled(home, monkeypatch):
    monkeypatch.setattr(log_module, "MAX_SEGMENT_BYTES", 100_000)
    monkeypatch.setattr(scrub_module, "SCRUB_SLICE_BYTES", 50_000)
    node = await home.create()
    log = await node.create_log(PARTITION, DOMAIN)
    for number in range(12):
        log.append([batch_after(log, b"%d" % number * 30_000)])
        await log.flush(lambda _: None)
    return node, log


class RoundOver(Exception):
    pass


class Rests:
    """Stands for the scrubber's sleeping: notes it, and ends a round where the next would begin."""

    def __init__(self, monkeypatch):
        self.total_s = 0.0
        self.meanwhile = None
        monkeypatch.setattr(scrub_module.trio, "sleep", self)

    async def __call__(self, seconds):
        if seconds == SCRUB_REST_S:
            raise RoundOver
        self.total_s += seconds
        if self.meanwhile is not None:
            await self.meanwhile()
            self.meanwhile = None


@pytest.fixture
def rests(monkeypatch):
    return Rests(monkeypatch)


async def scrubbed(node, period_s):
    with pytest.raises(RoundOver):
        await node.scrubber.run(period_s)


def test_everything_is_read_once_a_period_and_not_faster(home, monkeypatch, rests):
    async def main():
        node, log = await filled(home, monkeypatch)
        whole = sum(file.end for file in log._files)
        await scrubbed(node, 86_400)
        assert whole * 0.99 < node.scrubber.verified_bytes <= whole
        assert 86_400 * 0.99 < rests.total_s <= 86_400
        assert node.scrubber.damaged == {}

    trio.run(main)


@pytest.mark.parametrize("which", [1, -1])
def test_damage_is_said_with_its_place_and_the_rest_is_read_on(home, monkeypatch, rests, which):
    async def main():
        node, log = await filled(home, monkeypatch)
        first, hurt = next(iter(log._files)), list(log._files)[which]
        with (home.path / str(PARTITION) / str(hurt.entry.file)).open("r+b") as file:
            byte = os.pread(file.fileno(), 1, 25_000)
            os.pwrite(file.fileno(), bytes([byte[0] ^ 1]), 25_000)
        await scrubbed(node, 3_600)
        assert list(node.scrubber.damaged) == [PARTITION]
        assert f"file {hurt.entry.file}: extent" in node.scrubber.damaged[PARTITION]
        whole = sum(file.end for file in log._files)
        assert node.scrubber.verified_bytes > whole - 2 * hurt.end
        assert (await log.read(first.entry.first_offset, log.end_offset, 1)).batches

    trio.run(main)


def test_a_file_that_goes_while_it_is_read_is_no_damage(home, monkeypatch, rests):
    async def main():
        node, log = await filled(home, monkeypatch)
        rests.meanwhile = lambda: log.raise_start(log.end_offset)
        await scrubbed(node, 3_600)
        assert log.first_index > 1
        assert node.scrubber.damaged == {}

    trio.run(main)
