"""The short forms of `make chaos`: everything is killed once, on Milvus Lite; and broken files."""

import random

from tests.chaos.broken import index_broken_among_good
from tests.chaos.run import KILLS, Chaos


def test_whatever_is_killed_no_acknowledged_image_is_lost_or_there_twice(tmp_path):
    seed = random.randrange(2**32)
    print("seed", seed)  # shown when it fails
    outcome = Chaos(tmp_path, "lite", seed).run(dict.fromkeys(KILLS, 1), images=600)
    assert outcome.problems == []
    assert outcome.images >= 600
    assert outcome.kills == len(KILLS)


def test_broken_files_fail_alone_each_for_its_own_reason_and_come_in_once_mended(tmp_path):
    assert index_broken_among_good(tmp_path, good=500, broken=50) == []
