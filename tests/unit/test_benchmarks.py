"""The benchmarks' arithmetic: a wrong percentile or bar would be believed."""

import asyncio
import itertools
import json
import math
import os
from collections import Counter

import numpy as np
import pytest

from benchmarks import pairs, vectors
from benchmarks.cpu_time import Usage
from benchmarks.load import Answers, closed_loop, open_loop
from benchmarks.pairs import in_pairs
from benchmarks.report import Bar, Figure, Report, Spread, alternate, percentile
from benchmarks.texts import new_texts, repeated_texts

MACHINE = {
    "processor": "P",
    "cores": 2,
    "instruction_sets": [],
    "gflops_fp32": 1.0,
    "date": "2001-01-01",
}


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1), (0.01, 1), (0.5, 50), (0.99, 99), (0.991, 100), (1.0, 100)]
)
def test_percentile_is_the_least_value_that_the_share_does_not_exceed(share, expected):
    assert percentile(list(range(100, 0, -1)), share) == expected


def test_percentile_of_nothing_is_no_number():
    assert math.isnan(percentile([], 0.5))


def test_new_texts_have_three_to_twelve_words_and_never_repeat():
    texts = list(itertools.islice(new_texts(1), 5_000))
    assert len(set(texts)) == 5_000
    assert {len(text.split()) for text in texts} == set(range(3, 13))


def test_the_same_seed_gives_the_same_texts_and_another_seed_others():
    def first(seed):
        return list(itertools.islice(new_texts(seed), 20))

    assert first(1) == first(1)
    assert not set(first(1)) & set(first(2))


def test_repeated_texts_follow_zipfs_law():
    texts = [str(rank) for rank in range(1, 101)]
    picks = list(itertools.islice(repeated_texts(texts, 1.0, seed=3), 50_000))
    assert picks[:10] == list(itertools.islice(repeated_texts(texts, 1.0, seed=3), 10))
    counts = Counter(picks)
    for rank in (2, 5, 10):
        assert counts["1"] / counts[str(rank)] == pytest.approx(rank, rel=0.2)


@pytest.mark.parametrize(
    ("bar", "value", "met"),
    [
        (Bar("at least", 2), 2.0, True),
        (Bar("at least", 2), 1.99, False),
        (Bar("at most", 2), 2.0, True),
        (Bar("at most", 2), 2.01, False),
        (Bar("at most", 2), math.nan, False),
        (Bar("at least", 0.97, at_most=1.03), 1.03, True),
        (Bar("at least", 0.97, at_most=1.03), 1.04, False),
        (Bar("at least", 0.97, at_most=1.03), 0.96, False),
        (None, 2.0, None),
        (None, False, False),
        (Bar("at least", 2), None, None),
    ],
)
def test_a_figure_is_met_when_it_reaches_its_bar(bar, value, met):
    assert Figure("key", "meaning", value, bar).is_met is met


def test_a_ratio_divides_measurements_taken_in_turn_before_it_takes_the_median():
    # The machine was three times as fast in the last round: the ratio does not see it.
    figure = Figure.ratio("key", "meaning", [10, 12, 30], [5, 5, 15], Bar("at least", 2))
    assert figure.spread == Spread(median=2.0, low=2.0, high=2.4)


def test_pairs_take_both_twice_in_a_round_and_each_first_as_often():
    order = []
    in_pairs(2, lambda: order.append("a"), lambda: order.append("b"))
    assert order == ["a", "b", *"abba", *"baab"]


def test_a_pair_says_how_many_times_as_fast_the_first_is(monkeypatch):
    clock_s = 0.0

    def spend(seconds):
        nonlocal clock_s
        clock_s += seconds

    monkeypatch.setattr(pairs.time, "perf_counter", lambda: clock_s)
    monkeypatch.setattr(pairs.time, "process_time", lambda: clock_s / 2)
    taken = in_pairs(2, lambda: spend(2.0), lambda: spend(3.0))
    assert taken.by_clock == taken.by_processor_time == [1.5, 1.5]
    figure, beside = taken.figures("ratio", "a meaning", Bar("at least", 1.2))
    assert (figure.key, figure.value, figure.is_met) == ("ratio", 1.5, True)
    assert (beside.key, beside.value, beside.is_met) == ("ratio_cpu", 1.5, None)


def test_the_middle_half_leaves_out_what_is_far_off():
    assert Spread.middle_half([1, 2, 3, 4, 100]) == Spread(median=3, low=2, high=4)


def test_alternate_takes_each_measurement_in_turn():
    order = []

    def measure(name):
        order.append(name)
        return float(len(order))

    results = alternate(2, lambda: measure("a"), lambda: measure("b"))
    assert order == ["a", "b", "a", "b"]
    assert results == [[1.0, 3.0], [2.0, 4.0]]


def test_a_report_puts_figures_under_their_keys_and_says_why_one_is_missing(tmp_path):
    report = Report("name", "make it", MACHINE)
    report.figures = [
        Figure("image.ratio", "a ratio", 2.34567, Bar("at least", 2)),
        Figure("holds", "a statement", True),
        Figure("image.int8", "another", None, Bar("at least", 1), reason="no int8 here"),
    ]
    report.write(tmp_path / "report.json")
    written = json.loads((tmp_path / "report.json").read_text())
    assert written["image"] == {"ratio": 2.346}
    assert written["holds"] is True
    assert written["not_measured"] == {"image.int8": "no int8 here"}
    assert [figure["met"] for figure in written["figures"]] == [True, True, None]


def test_a_table_without_bars_judges_nothing():
    report = Report("name", "make it", MACHINE, has_bars=False)
    report.figures = [Figure("ratio", "a ratio", 1.0, Bar("at least", 2))]
    assert "NO" not in report.table()
    assert "≥" not in report.table()
    report.has_bars = True
    assert "NO" in report.table()


async def test_closed_loop_keeps_as_many_calls_under_way_as_it_has_callers():
    under_way = most = 0

    async def ask():
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1
        return "OK"

    answers = await closed_loop(ask, callers=5, seconds=0.05)
    assert most == 5
    assert answers.per_s == pytest.approx(len(answers.ok) / answers.seconds)


async def test_open_loop_counts_refused_and_hanging_calls():
    numbers = itertools.count()

    async def ask():
        number = next(numbers)
        if number == 3:
            await asyncio.Event().wait()
        return "RESOURCE_EXHAUSTED" if number % 2 else "OK"

    answers = await open_loop(ask, per_s=1_000, seconds=0.02, patience_s=0.1)
    assert answers.unanswered == 1
    assert len(answers.ok) == 10
    assert answers.failed == 9


def test_a_load_with_a_failed_call_is_no_measurement():
    answers = Answers(1.0, {"OK": [1.0], "UNAVAILABLE": [1.0]})
    with pytest.raises(RuntimeError, match="UNAVAILABLE"):
        answers.whole()


def test_clustered_vectors_have_length_one_and_near_neighbours():
    stored = vectors.clustered(2_000, 64, seed=1)
    queries = vectors.clustered(20, 64, seed=2)
    assert np.linalg.norm(stored, axis=1) == pytest.approx(1, abs=1e-5)
    neighbours = vectors.exact_neighbours(stored, queries, 3)
    for query, found in zip(queries, neighbours, strict=True):
        assert found == set(np.argsort(stored @ query)[-3:].tolist())
    cosines = [
        float((stored[list(found)] @ query).mean())
        for query, found in zip(queries, neighbours, strict=True)
    ]
    assert 0.6 < np.mean(cosines) < 0.85


def test_processor_time_is_shared_out_per_call_and_the_rest_is_others():
    start = Usage({"a": 1.0, "b": 0.0}, machine_s=5.0, stolen_s=1.0)
    end = Usage({"a": 1.5, "b": 0.25}, machine_s=6.0, stolen_s=1.5)
    per_call_ms = start.until(end, calls=100)
    assert per_call_ms == {"a": 5.0, "b": 2.5, "others": 2.5, "stolen": 5.0}


def test_processor_time_of_a_process_grows_with_what_it_computes():
    start = Usage.now({"this": os.getpid()})
    while os.times().user + os.times().system - start.by_process_s["this"] < 0.1:
        sum(range(10_000))
    end = Usage.now({"this": os.getpid()})
    assert end.by_process_s["this"] - start.by_process_s["this"] == pytest.approx(0.1, abs=0.05)
