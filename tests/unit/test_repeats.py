"""What the log tells of what repeats."""

from __future__ import annotations

import logging

from services.common.repeats import Repeats, Wait
from tests.clock import Clock


def test_of_lines_that_repeat_one_in_a_while_is_written_and_counts_the_others():
    clock = Clock(0.0)
    repeats = Repeats(10.0, now_s=clock)
    assert [repeats.pass_on("a") for _ in range(5)] == ["", None, None, None, None]
    assert repeats.pass_on("b") == ""
    clock.now_s = 10.0
    assert [repeats.pass_on("a") for _ in range(2)] == [" (and 4 like it before)", None]
    assert repeats.pass_on("b") == ""


def test_kinds_that_callers_make_up_do_not_grow_the_table_nor_the_log():
    clock = Clock(0.0)
    repeats = Repeats(10.0, max_kinds=4, now_s=clock)
    written = [repeats.pass_on(number) for number in range(1000)]
    assert sum(line is not None for line in written) == 5
    clock.now_s = 10.0
    assert repeats.pass_on("new") == ""
    assert repeats.pass_on("newer") == ""


def test_a_wait_is_told_at_once_then_once_a_minute_and_at_its_end(caplog):
    clock = Clock(0.0)
    wait = Wait("Milvus", logging.getLogger("test"), now_s=clock)
    with caplog.at_level("INFO", "test"):
        for second in range(150):
            clock.now_s = float(second)
            wait.goes_on("away")
        wait.ended()
        wait.ended()
    assert caplog.messages == [
        "waiting for Milvus: away",
        "still waiting for Milvus, for 60 s: away",
        "still waiting for Milvus, for 120 s: away",
        "Milvus answers, after 149 s",
        "Milvus answers",
    ]
