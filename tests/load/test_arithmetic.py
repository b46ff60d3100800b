"""What the load tests' verdicts rest on: ghz's report, gates, and bodies; needs no ghz."""

import io
import itertools
import json
import math

import pytest
from google.protobuf.proto import parse_length_prefixed

from benchmarks.stacks import STORES
from glimpse.query.v1 import query_pb2
from tests import programs
from tests.load import bodies, run
from tests.load.gates import Gate, figures
from tests.load.ghz import CONFIGURATIONS, Configuration, GhzReport
from tests.load.suite import NAMES

GHZ_OPTIONS = {
    *("name", "host", "insecure", "call", "binary-file", "timeout"),
    *("duration", "duration-stop", "concurrency", "async"),
    *("load-schedule", "load-start", "load-step", "load-end", "load-step-duration"),
}
WORLD = bodies.World(rows=50, image_size=16)


def report(latencies_ms, failed=(), seconds=1.0) -> GhzReport:
    """As ghz writes it, with calls that ended evenly over the run."""
    statuses = ["OK"] * len(latencies_ms) + list(failed)
    moments = [
        f"2026-01-01T00:00:{i * seconds / len(statuses):012.9f}Z" for i in range(len(statuses))
    ]
    latencies = [*latencies_ms, *(1.0 for _ in failed)]
    return GhzReport(
        {
            "total": seconds * 1e9,
            "details": [
                {"timestamp": moment, "latency": ms * 1e6, "error": "", "status": status}
                for moment, ms, status in zip(moments, latencies, statuses, strict=True)
            ],
        }
    )


def verdicts(given: GhzReport, gate: Gate, reference_per_s=100.0) -> dict[str, bool | None]:
    found = figures(Configuration.read("search-8"), gate, given, reference_per_s)
    return {figure.key.partition(".")[2]: figure.is_met for figure in found}


def test_every_configuration_of_the_set_has_a_gate_and_bodies_and_calls_a_service():
    assert {p.stem for p in CONFIGURATIONS.glob("*.json") if ".gate" not in p.name} == {
        *NAMES,
        "calibration",
    }
    for name in NAMES:
        configuration = Configuration.read(name)
        assert configuration.settings["name"] == name
        assert configuration.service in run.SERVICES
        assert configuration.bodies.stem in bodies.KINDS
        for store in STORES:
            assert 0 < Gate.beside(configuration, store).min_share_of_reference < 1


def test_a_report_counts_only_calls_that_went_well():
    given = report([10.0] * 99 + [50.0], failed=["Unavailable"] * 25, seconds=2.0)
    assert given.per_s == 50
    assert given.ms(0.5) == 10
    assert given.ms(0.995) == 50
    assert given.error_share() == 0.2
    assert given.error_share(frozenset({"Unavailable"})) == 0


def test_a_report_without_a_call_passes_no_gate():
    given = GhzReport({"total": 1e9, "details": None})
    assert math.isnan(given.ms(0.99))
    assert verdicts(given, Gate(0.01, 1000, 0.5)) == {
        "per_s": False,
        "p50_ms": None,
        "p99_ms": False,
        "error_share": False,
    }


def test_steps_of_a_ramp_are_told_apart_by_when_calls_ended():
    given = report([1.0] * 40, seconds=4.0)
    assert given.ok_per_s_by_step(1.0) == [10, 10, 10, 10]


@pytest.mark.parametrize(
    ("gate", "failing"),
    [
        (Gate(0.2, 100, 0.0), set()),
        (Gate(0.3, 100, 0.0), {"per_s"}),
        (Gate(0.2, 5, 0.0), {"p99_ms"}),
    ],
)
def test_a_gate_fails_by_rate_and_by_latency(gate, failing):
    found = verdicts(report([10.0] * 25), gate)
    assert {name for name, met in found.items() if met is False} == failing


def test_a_gate_fails_by_errors_but_not_by_tolerated_ones():
    given = report([10.0] * 25, failed=["ResourceExhausted"])
    assert verdicts(given, Gate(0.2, 100, 0.0))["error_share"] is False
    tolerant = Gate(0.2, 100, 0.0, tolerated=frozenset({"ResourceExhausted"}))
    assert verdicts(given, tolerant)["error_share"] is True


@pytest.mark.parametrize("kind", bodies.KINDS)
def test_the_same_seed_gives_the_same_bodies_and_another_seed_others(kind):
    def first(seed):
        messages = bodies.KINDS[kind](seed, WORLD)
        return [m.SerializeToString() for m in itertools.islice(messages, 20)]

    assert first(1) == first(1)
    assert first(1) != first(2)


def test_a_file_of_bodies_holds_each_message_with_its_length(tmp_path):
    bodies.write(tmp_path / "search-mix.bin", 1, WORLD)
    content = io.BytesIO((tmp_path / "search-mix.bin").read_bytes())
    requests = list(iter(lambda: parse_length_prefixed(query_pb2.SearchRequest, content), None))
    assert len(requests) == bodies.SEARCHES
    kinds = {
        "image": sum(bool(r.image_id) for r in requests),
        "filtered": sum(bool(r.options.filter) for r in requests),
        "repeated": len(requests) - len({r.text for r in requests}),
    }
    assert kinds["image"] == pytest.approx(0.1 * len(requests), rel=0.1)
    assert kinds["filtered"] == pytest.approx(0.2 * len(requests), rel=0.1)
    assert kinds["repeated"] > 0.3 * len(requests)
    assert all(int(r.image_id) < WORLD.rows for r in requests if r.image_id)


@pytest.mark.parametrize("store", STORES)
def test_without_ghz_it_says_how_to_get_it_and_exits_with_3(store, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(programs, "BUILT", tmp_path)
    assert run.main(["--store", store]) == 3
    assert "make build/go/ghz" in capsys.readouterr().err


def test_configurations_have_no_option_that_ghz_would_pass_over():
    for path in CONFIGURATIONS.glob("*.json"):
        if ".gate" not in path.name:
            assert json.loads(path.read_text()).keys() <= GHZ_OPTIONS
