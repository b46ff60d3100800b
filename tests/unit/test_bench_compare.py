"""The guard against losses: what is worse by more than allowed must fail, all else must not."""

import json

import pytest

from benchmarks.compare import main
from benchmarks.report import Bar, Figure, Report

MACHINE = {"processor": "P", "cores": 2}


def written(path, *figures):
    report = Report("name", "make it", MACHINE, figures=list(figures))
    report.write(path)
    return str(path)


def rate(value):
    return Figure("texts.per_s", "texts", value)


def latency(value):
    return Figure("p99_ms", "latency", value)


def ratio(value):
    return Figure("ratio", "at least two", value, Bar("at least", 2))


def cost(value):
    return Figure("cost", "at most two", value, Bar("at most", 2))


@pytest.mark.parametrize(
    ("before", "now", "code"),
    [
        (rate(100), rate(91), 0),
        (rate(100), rate(89), 1),
        (rate(100), rate(200), 0),
        (latency(10), latency(10.9), 0),
        (latency(10), latency(11.1), 1),
        (latency(10), latency(5), 0),
        (ratio(3), ratio(2.5), 1),
        (cost(1), cost(1.5), 1),
        (cost(1), cost(0.5), 0),
        (cost(0), cost(0.001), 1),
        (cost(0), cost(0), 0),
        (Figure("holds", "it holds", True), Figure("holds", "it holds", False), 1),
        (Figure("holds", "it holds", False), Figure("holds", "it holds", True), 0),
        (rate(100), Figure("texts.per_s", "texts", None), 1),
        (Figure("texts.per_s", "texts", None), rate(100), 0),
        (Figure("size", "no way is better", 1), Figure("size", "no way is better", 9), 0),
    ],
)
def test_a_figure_fails_when_it_is_worse_by_more_than_a_tenth(tmp_path, before, now, code):
    base = written(tmp_path / "base.json", before)
    assert main([base, written(tmp_path / "now.json", now)]) == code


def test_the_loss_that_is_allowed_can_be_chosen(tmp_path):
    base = written(tmp_path / "base.json", rate(100))
    now = written(tmp_path / "now.json", rate(80))
    assert main([base, now, "--loss", "0.25"]) == 0
    assert main([base, now, "--loss", "0.15"]) == 1


def test_one_worse_figure_among_good_ones_fails_and_is_named(tmp_path, capsys):
    base = written(tmp_path / "base.json", rate(100), latency(10))
    now = written(tmp_path / "now.json", rate(150), latency(20), ratio(2))
    assert main([base, now]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert ["p99_ms", "10", "20", "2.000", "WORSE"] in [line.split() for line in lines]
    assert ["texts.per_s", "100", "150", "1.500", "ok"] in [line.split() for line in lines]


def test_without_a_second_file_the_run_of_the_same_name_is_taken(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    base = written(tmp_path / "old" / "encoder.json", rate(100))
    assert main([base]) == 2
    written(tmp_path / "build" / "bench" / "encoder.json", rate(50))
    assert main([base]) == 1


def test_another_machine_is_pointed_out(tmp_path, capsys):
    base = written(tmp_path / "base.json", rate(100))
    now = json.loads((tmp_path / "base.json").read_text())
    now["machine"]["cores"] = 64
    (tmp_path / "now.json").write_text(json.dumps(now))
    main([base, str(tmp_path / "now.json")])
    assert "not the same cores" in capsys.readouterr().err
