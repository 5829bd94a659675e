"""What was acknowledged is read back after kill -9 of a real node; a sample of `make torture`."""

import pytest

from tests.torture.kills import Killed

pytestmark = pytest.mark.system

KILLS = 4


def test_everything_acknowledged_is_there_after_every_kill():
    torture = Killed(seed=1)
    with torture.around():
        kills = 0
        while kills < KILLS:
            kills += torture.run(kills)
    assert torture.acknowledged > 0
