"""Random histories: nothing acknowledged is lost, and no (key, nonce) pair is ever used twice.

A sample; `make torture` plays ten thousand of each kind.
"""

import random
from contextlib import nullcontext, suppress

import pytest
import trio

from appliance.crypto.aead import SealingKey
from appliance.crypto.chain import GENESIS, TagChain
from appliance.crypto.sealed import ExtentWriter, Place, Purpose
from appliance.errors import StorageError
from appliance.ports import SecretKey
from appliance.storage.logfile import LogFile
from tests.simulation import threads
from tests.simulation.disk import SimulatedFile
from tests.simulation.history import History
from tests.simulation.keys import SeededEntropy
from tests.simulation.node import CLUSTER, PARTITION, small_flushes, small_segments
from tests.simulation.recorder import SealRecorder

SAMPLE = 60


def played(seed, *, faults, ahead=False):
    """Plays one history; with `ahead`, even small flushes are sealed ahead of a sync."""
    history = History(seed, faults=faults)
    with threads.inline(), small_segments(), small_flushes() if ahead else nullcontext():
        trio.run(history.run)
    return history


def play_many(name):
    for seed in range(SAMPLE):
        played((name, seed), faults=False)


def test_no_key_and_nonce_pair_repeats_and_nothing_acknowledged_is_lost():
    recorder = SealRecorder()
    with recorder.watching():
        for seed in range(SAMPLE):
            played(("nonces", seed), faults=seed % 2 == 0, ahead=seed % 3 == 0)
    assert recorder.seals > 10 * SAMPLE
    assert recorder.repeated == 0


def test_after_a_failed_write_or_sync_nothing_is_acknowledged_and_nothing_was_lost():
    histories = [
        played(("faults", seed), faults=True, ahead=seed % 3 == 0) for seed in range(SAMPLE)
    ]
    assert sum(history.injected for history in histories) > SAMPLE
    assert sum(history.acknowledged for history in histories) > SAMPLE


def test_a_disk_that_lies_about_its_syncs_is_found_out(monkeypatch):
    """The canary: histories that could not fail would prove nothing."""
    monkeypatch.setattr(SimulatedFile, "sync", SimulatedFile._usable)
    with pytest.raises((AssertionError, StorageError)):
        play_many("lies")


def test_what_is_sealed_ahead_of_a_sync_is_recorded_and_a_nonce_given_back_is_found_out(
    monkeypatch,
):
    """The canary of that way: what is sealed ahead takes the number before it again."""
    seal, spend = LogFile.seal, SealingKey.spend
    ahead = []

    def sealed(file, frames, *, joined=False):
        ahead.append(joined)
        return seal(file, frames, joined=joined)

    def spent(key, random):
        nonce = spend(key, random)
        if ahead and ahead[-1]:
            nonce = key._spent = spent.last
        spent.last = nonce
        return nonce

    monkeypatch.setattr(LogFile, "seal", sealed)
    monkeypatch.setattr(SealingKey, "spend", spent)
    recorder = SealRecorder()
    with recorder.watching(), suppress(AssertionError, StorageError):
        for seed in range(SAMPLE):
            played(("ahead", seed), faults=False, ahead=True)
            if recorder.repeated:
                break
    assert any(ahead)
    assert recorder.repeated


def sealed_by_clones(*seeds):
    """What is recorded when machines go on in one extent, each with entropy of its own seed."""
    place = Place(Purpose.LOG, CLUSTER, PARTITION, PARTITION)
    recorder = SealRecorder()
    with recorder.watching():
        for seed in seeds:
            entropy = SeededEntropy(random.Random(seed))
            writer = ExtentWriter(
                place=place,
                key=SecretKey(bytes(32)),
                number=0,
                salt=bytes(32),
                chain=TagChain(GENESIS),
            )
            out = memoryview(bytearray(100))
            for _ in range(100):
                writer.seal_frame(bytearray(16), entropy.random_bytes(8), out, 0)
    return recorder.seals, recorder.repeated


def test_a_running_machine_that_was_cloned_repeats_no_nonce():
    """Both go on in the same extent, under the same key and the same frame numbers."""
    assert sealed_by_clones(1, 2) == (200, 0)


def test_clones_with_the_same_entropy_are_found_out():
    """The recorder's canary."""
    assert sealed_by_clones(1, 1) == (200, 100)
