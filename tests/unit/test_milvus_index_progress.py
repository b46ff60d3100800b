"""How long an index still takes, by how fast fewer rows wait for it."""

from __future__ import annotations

from services.vectors.milvus.index_progress import IndexProgress
from tests.clock import Clock


def test_of_one_look_nothing_can_be_said_and_of_two_the_rate():
    clock = Clock()
    progress = IndexProgress(clock)
    assert progress.left_s("c", 1_000) is None
    clock.now_s += 10
    assert progress.left_s("c", 1_000) is None, "none of them got an index"
    clock.now_s += 10
    assert progress.left_s("c", 600) == 30
    assert progress.left_s("d", 600) is None, "another collection"


def test_new_rows_begin_a_new_estimate_and_none_end_it():
    clock = Clock()
    progress = IndexProgress(clock)
    progress.left_s("c", 100)
    clock.now_s += 1
    assert progress.left_s("c", 50) == 1
    assert progress.left_s("c", 900) is None
    assert progress.left_s("c", 0) is None
    clock.now_s += 1
    assert progress.left_s("c", 30) is None
