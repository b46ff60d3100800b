"""The short form of `make chaos`: every kind of fault once, on Milvus Lite."""

import random

import pytest

from tests.chaos.run import FREEZE, KILLS, Chaos


@pytest.mark.timeout(300)
def test_whatever_is_killed_no_acknowledged_image_is_lost_or_there_twice(tmp_path):
    seed = random.randrange(2**32)
    print("seed", seed)  # shown when it fails
    outcome = Chaos(tmp_path, "lite", seed).run(dict.fromkeys((*KILLS, FREEZE), 1), images=1_000)
    assert outcome.problems == []
    assert outcome.images >= 1_000
    assert outcome.kills == len(KILLS)
