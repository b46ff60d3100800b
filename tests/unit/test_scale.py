"""Arithmetic of `make bench-scale` and of capacity plans: a wrong recall would be believed."""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil

import numpy as np
import pytest

from benchmarks import capacity_plan, queueing, stacks
from benchmarks.queueing import Pool, Station, knee, simulate
from benchmarks.scale import __main__ as scale
from benchmarks.scale import figures, kinds, room, sizing, world
from benchmarks.scale.charts import charts
from benchmarks.scale.plots import page
from benchmarks.scale.progress import Progress
from benchmarks.service_times import of_capacity
from services.vectors import bounds


@pytest.fixture(autouse=True)
def small_world(monkeypatch):
    monkeypatch.setattr(world, "BLOCK_ROWS", 500)
    monkeypatch.setattr(queueing, "_SEARCHES", 2_000)
    monkeypatch.setattr(queueing, "_WARM_UP", 200)


def test_a_block_is_the_same_whenever_it_is_made():
    first, again = world.block_rows(3), world.block_rows(3)
    assert [world.number_of(row.id) for row in first] == [1_500 + i for i in range(500)]
    assert {world.number_of(identity) for identity in ("", "12", "0000000g", "0" * 9)} == {-1}
    assert all(np.array_equal(a.vector, b.vector) for a, b in zip(first, again, strict=True))
    assert [row.metadata for row in first] == [row.metadata for row in again]
    sizes = [row.metadata.size_bytes for row in first]
    assert world.METADATA_BYTES * 0.9 < np.mean(sizes) < world.METADATA_BYTES * 1.1
    assert all(bounds.ID.fullmatch(row.id) for row in first)


def test_exact_neighbours_are_those_of_all_blocks_that_the_filter_takes():
    asked = world.queries(3)
    half = world.FILTERS["50%"]
    plain, filtered = world.exact_neighbours(asked, 2, 5, [world.FILTERS["none"], half])
    vectors = np.concatenate([world.block_vectors(block) for block in range(2)])
    scores = asked @ vectors.T
    assert plain.rows == 1_000
    assert plain.ids.tolist() == np.argsort(-scores, axis=1)[:, :5].tolist()
    taken = [
        row.metadata.value["half"] == 0 for block in range(2) for row in world.block_rows(block)
    ]
    assert filtered.rows == sum(taken)
    scores[:, ~np.array(taken)] = -np.inf
    assert filtered.ids.tolist() == np.argsort(-scores, axis=1)[:, :5].tolist()


def test_a_filter_that_takes_too_few_is_full_when_all_of_them_came():
    exact = world.Exact(np.array([[4, 2, -1]]), np.array([[0.9, 0.8, -np.inf]], np.float32), 2)
    four, two = world.id_of(4), world.id_of(2)
    assert world.recall(exact, [[(four, 0.9), (two, 0.8)]]) == pytest.approx(
        {"recall_id": 1, "recall_score": 1, "filled_share": 1}
    )
    missed = world.recall(exact, [[(four, 0.9), ("another", 0.0)]])
    assert missed == pytest.approx({"recall_id": 0.5, "recall_score": 0.9 / 1.7, "filled_share": 1})


def test_rates_are_of_the_writes_within():
    writes = [[0, 100, 1.0], [100, 100, 2.0], [200, 100, 4.0]]
    assert figures.rate(writes, 0, 150) == 200 / 3
    assert figures.rate(writes, 200, 300) == 25
    assert figures.rate(writes, 300, 400) is None


def test_recall_at_a_latency_lies_between_the_points_of_a_curve():
    curve = [{"p99_ms": 10, "recall_id": 0.9}, {"p99_ms": 20, "recall_id": 1.0}]
    assert kinds.recall_at(curve, 15) == 0.95
    assert kinds.recall_at(curve, 5) == 0
    assert kinds.recall_at(curve, 99) == 1


def progress_of(path, rows=10):
    return Progress(path, {"rows": rows}, {"a": 60.0, "b": 600.0})


def test_an_interrupted_run_goes_on_over_the_same_rows_only(tmp_path, capsys):
    path = tmp_path / "state.json"
    progress = progress_of(path)
    progress.end("a", progress.begin("a", "First", ["a", "b"]), {"found": 1})
    assert "[1 of 2] First: about 60 s; 11 min left, until " in capsys.readouterr().err
    again = progress_of(path)
    assert (again.results, again.is_done("a"), again.others) == ({"a": {"found": 1}}, True, None)
    again.begin("b", "Second", ["a", "b"])
    assert "10 min left" in capsys.readouterr().err
    again.repeat(["a"])
    assert not again.is_done("a")
    other = progress_of(path, rows=20)
    assert (other.goes_on, other.is_done("a"), other.others) == (False, False, {"rows": 10})


def test_a_run_over_other_rows_does_not_delete_what_an_interrupted_one_has(tmp_path, monkeypatch):
    monkeypatch.setattr(stacks, "OUTPUT", tmp_path)
    options = argparse.Namespace(store="lite", rows=10, pictures=5, kind_rows=10)
    options.fresh, options.again = False, None
    scale._progress(options).keep()
    assert scale._progress(options).goes_on
    options.rows = 20
    with pytest.raises(SystemExit, match=r"interrupted run over .*10.*--fresh"):
        scale._progress(options)
    options.fresh = True
    assert not scale._progress(options).goes_on


def test_a_step_that_fails_is_tried_once_more_and_given_up():
    class Failing:
        tries = 0

        async def pages(self):
            self.tries += 1
            if self.tries < self.well_at:
                raise RuntimeError("no")
            return {"tries": self.tries}

    for well_at, found, tries in ((1, {"tries": 1}, 1), (2, {"tries": 2}, 2), (3, None, 2)):
        steps = Failing()
        steps.well_at = well_at
        assert asyncio.run(scale._tried("pages", steps, None)) == found
        assert steps.tries == tries


def test_a_disk_that_is_too_small_is_told_of_before_anything_is_written(tmp_path):
    (tmp_path / "there").write_bytes(bytes(100_000))
    assert room.size_bytes(tmp_path) >= 100_000
    free = shutil.disk_usage(tmp_path).free
    room.check(tmp_path / "store", free // 2)
    with pytest.raises(SystemExit, match=r"needs about .* GB in .*store, and .* GB are free"):
        room.check(tmp_path / "store", 2 * free + 10**9)
    assert room.needed_bytes(10**6, 50_000, 50_000) < 20e9, "a million rows fit on a small disk"


def test_a_page_has_what_there_is_so_far(tmp_path):
    probes = [
        {"rows": n, "rss_mb": n, "p50_ms": 1, "p99_ms": 9, "get_collection_ms": 2}
        | {"list_collections_ms": 3}
        for n in (1, 5)
    ]
    results = {"filling": {"probes": probes, "writes": [[0, 5, 1.0]]}, "small": {"empty_mb": 1}}
    page(charts(results), tmp_path / "page.png")
    assert (tmp_path / "page.png").stat().st_size > 5_000


def test_export_and_import_are_held_against_bare_pymilvus_round_by_round():
    spent = {"caller": 0.02, "indexer": 0.03, "milvus": 0.05}
    names = ("export", "import", "bare_export", "bare_import")
    both = {"processor_ms": dict.fromkeys(names, spent) | {"start": {"caller": 5, "indexer": 1}}}
    both["moved"] = {"export": [1_000, 1_000], "import": [500, 500]}
    for way in ("export", "import"):
        both |= {f"{way}_per_s": 900, f"bare_{way}_per_s": 1_000, f"{way}_mb": 90}
        both[f"{way}_milvus_ms"] = 0.04
    slower = both | {"export_per_s": 500, "import_per_s": 500}
    found = figures.figures(20_000, {"transfer": {"rounds": [both, slower, both]}})
    shares = {each.key: (each.value, each.is_met) for each in found if each.key.endswith("share")}
    assert shares == {"export_share": (0.9, True), "import_share": (0.9, True)}
    us = {each.key: each.value for each in found if each.key.startswith("export_us")}
    assert us == pytest.approx(
        {"export_us.clock": 1e6 / 900, "export_us.milvus_wait": 40, "export_us.bare_clock": 1_000}
        | {"export_us.caller": 15, "export_us.indexer": 29, "export_us.milvus": 50}
        | {"export_us.bare_caller": 20, "export_us.bare_milvus": 50}
    )
    assert {each.key: each.value for each in found}["transfer_whole"] is True
    large = [both, {name: value for name, value in both.items() if "export" not in name}]
    found = figures.figures(20_000, {"transfer": {"rounds": large}})
    spreads = {each.key: each.spread for each in found}
    assert (spreads["export_per_s"].low, spreads["import_share"].high) == (900, 0.9)
    lost = both | {"moved": {"export": [999, 1_000], "import": [500, 500]}}
    found = figures.figures(20_000, {"transfer": {"rounds": [both, lost]}})
    assert {each.key: each.value for each in found}["transfer_whole"] is False


def test_memory_is_what_a_server_has_loaded_not_what_it_took_to_fill_it():
    rows = 1_000_000
    memory = {
        "compact": {"rss_mb": 6_100, "rows": rows},
        "restart": {"rss_mb": 2_992, "rows": rows},
    }
    results = {"small": {"empty_mb": 100}, "memory": memory}
    found = {each.key: each for each in figures.figures(rows, results)}
    assert found["memory_share"].value == pytest.approx(1)
    assert found["memory_share_before"].value == pytest.approx(6_000 / 2_892)
    assert (found["memory_share"].is_met, found["memory_share_before"].is_met) == (True, None)


def test_one_server_waits_as_theory_has_it():
    """Half of the time busy, with service times all equal: the mean wait is half a service time
    (Pollaczek and Khinchine), and hardly anybody's is ten."""
    found = simulate(lambda: [Station("one", 1, lambda _: 0.01)], per_s=50)
    assert found.busy["one"] == pytest.approx(0.5, rel=0.05)
    assert 30 < found.p99_ms < 60


def test_the_knee_is_below_what_a_station_can_do_and_rises_with_it():
    found = [
        knee(lambda n=n: [Station("some", n, lambda _: 0.01)], objective_ms=50, start_per_s=10)
        for n in (1, 4)
    ]
    one, four = (each.per_s for each in found if each)
    assert 40 < one < 100
    assert 3.9 * one < four < 400


def test_a_plan_has_what_so_many_images_and_searches_take(tmp_path, capsys):
    out = tmp_path / "plan.json"

    def planned(*arguments):
        assert capacity_plan.main([*arguments, "--output", str(out)]) == 0
        return json.loads(out.read_text())

    small = planned("--images", "1e6", "--searches", "100")
    large = planned("--images", "1e8", "--searches", "1000")
    assert small["p99_ms"] <= 100
    assert small["knee_per_s"] >= 100
    assert large["memory_gb"] >= 1e8 * (2_180 + 512) / 0.7 / 1e9
    for part in ("query", "encoder", "milvus"):
        assert large["pods"][part] > small["pods"][part]
    assert "bottleneck" in capsys.readouterr().out


def test_a_run_of_make_capacity_gives_the_times_of_its_parts():
    def step(per_s, device, loop, processors):
        usage = {"encoder_device": device, "query_loop": loop, "processors": processors}
        return {"per_s": per_s, "usage": usage}

    steps = [step(10, 0.1, 0.03, 0.2), step(100, 0.4, 0.2, 0.85)]
    times = of_capacity({"details": {"steps": steps, "rows": 20_000}}, cores=2)
    assert times.encode_text_ms == pytest.approx(4)
    assert times.encode_call_ms == pytest.approx(6)
    assert times.query_ms == pytest.approx(2)
    assert times.milvus_ms == pytest.approx(17 - 4 - 2 - 0.5)


def test_the_sizing_page_gets_a_row_for_each_size_and_keeps_all_else(tmp_path):
    def run(rows, rss_mb):
        turns = [{"vectors scale": {"p50_ms": 5, "p99_ms": 9}}]
        steps = {
            "small": {"empty_mb": 100},
            "memory": {
                "compact": {"rss_mb": 2 * rss_mb, "rows": rows},
                "restart": {"rss_mb": rss_mb, "rows": rows},
            },
            "searches": {"in turn": turns},
            "build": {"s": 10},
            "compact": {"s": 20},
        }
        machine = {"processor": "P", "cores": 2, "date": "2001-01-01"}
        content = {"machine": machine, "details": {"options": {"rows": rows}, "steps": steps}}
        path = tmp_path / f"scale-{rows}.json"
        path.write_text(json.dumps(content))
        return str(path)

    page = tmp_path / "sizing.md"
    page.write_text("before\n<!-- begin: measured -->\nold\n<!-- end -->\nafter\n")
    files = [run(1_000_000, 3_100), run(20_000, 160)]
    assert sizing.main([*files, "--page", str(page)]) == 0
    text = page.read_text()
    assert text.startswith("before\n<!-- begin: measured -->\nP, 2 cores, 2001-01-01")
    assert text.endswith("<!-- end -->\nafter\n")
    assert "old" not in text
    lines = [line for line in text.splitlines() if line.startswith(("| 20,000", "| 1,000,000 "))]
    assert [line.split(" | ")[1] for line in lines] == ["0.06 GB", "3.00 GB"]
    assert "| 1,000,000,000 | 3,000 GB | 3,000 to 3,000 GB |" in text


def test_stations_of_one_loop_take_turns():
    """Two stations of 5 ms that share a loop can do no more than one of 10 ms."""

    def shared():
        loop = (Pool(1),)
        return [Station(name, 1, lambda _: 0.005, pools=loop) for name in ("before", "after")]

    found = knee(shared, objective_ms=50, start_per_s=10)
    assert found is not None
    assert 40 < found.per_s < 100


def test_a_run_of_make_capacity_is_held_against_its_simulation(tmp_path, capsys):
    usage = {"encoder_device": 0.01, "query_loop": 0.02, "processors": 0.06}
    steps = [
        {"per_s": rate, "usage": {name: share * rate / 10 for name, share in usage.items()}}
        for rate in (10, 100)
    ]
    report = {
        "machine": {"cores": 2},
        "knee_per_s": 120,
        "details": {"steps": steps, "rows": 20_000},
    }
    path, out = tmp_path / "capacity-milvus.json", tmp_path / "plan.json"
    path.write_text(json.dumps(report))
    assert capacity_plan.main(["--against", str(path), "--output", str(out)]) == 0
    found = json.loads(out.read_text())
    assert found["simulation_share"] == pytest.approx(found["knee_per_s"] / 120, rel=1e-3)
    assert 80 < found["knee_per_s"] < 170, "12 ms of two cores each: 167 at most"
