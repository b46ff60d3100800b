"""Each alert fires when it should and at no other time, by promtool: where Prometheus adds
namespace and pod to each sample, and where it adds nothing but job and instance."""

from __future__ import annotations

import json
import re
import subprocess
import textwrap
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import operations, programs
from tests.operations import ROOT

pytestmark = pytest.mark.skipif(not programs.find("promtool"), reason=programs.missing("promtool"))

Labels = dict[str, str]
RULES = yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yaml").read_text())["spec"]
ALERTS = {rule["alert"]: rule for group in RULES["groups"] for rule in group["rules"]}
DAY_S = 24 * 3600


def plain(process: str) -> Labels:
    """What a Prometheus with a list of targets adds."""
    return {"job": "glimpse", "instance": f"{process}.example:9090"}


def kubernetes(process: str) -> Labels:
    """What Prometheus operator's PodMonitor adds."""
    return {
        "job": "glimpse/glimpse",
        "instance": f"10.0.0.{len(process)}:9090",
        "namespace": "glimpse",
        "pod": f"{process}-6d5c9-x2x2x",
        "container": process,
        "endpoint": "metrics",
    }


WORLDS = {"plain": plain, "kubernetes": kubernetes}
Series = Mapping[tuple[str, str], str]
"""Values, a sample a minute, by process and by name with labels."""

WELL: Series = {
    **{(process, "up"): "1x180" for process in ("encoder", "indexer", "query")},
    **{
        (process, name): values
        for process in ("encoder", "indexer", "query")
        for name, values in (
            ("glimpse_event_loop_lag_seconds_count", "0+600x180"),
            ("process_start_time_seconds", "100x180"),
            (
                'glimpse_tls_not_after_timestamp_seconds{setting="TLS_CERT_FILE"}',
                f"{30 * DAY_S}x180",
            ),
        )
    },
    ("encoder", 'glimpse_encoder_model_info{fingerprint="a"}'): "1x180",
    ("indexer", "glimpse_indexer_streams"): "0x180",
    ("query", 'glimpse_query_texts_total{source="cache"}'): "0+5x180",
    # Neither is glimpse's: they concern nobody here.
    ("database", "up"): "0x180",
    ("database", "process_start_time_seconds"): "0+60x180",
}


@dataclass(frozen=True)
class Case:
    """What happens, and how the alert tells of it: the labels that it keeps of the process, and
    others; `{who}` in its summary is the pod, or else the instance."""

    alert: str
    happens: Series
    summary: str
    process: str = "query"
    kept: tuple[str, ...] = ("namespace",)
    others: tuple[tuple[str, str], ...] = ()
    missing: tuple[tuple[str, str], ...] = ()
    minutes: int = 60


ALL = ("job", "instance", "namespace", "pod", "container", "endpoint")
ONE = ("namespace", "pod", "instance")
METHOD = (("method", "/m"),)
CASES = (
    Case(
        "GlimpseServiceDown",
        {
            ("query", "up"): "1x30 0x150",
            ("query", "glimpse_event_loop_lag_seconds_count"): "0+600x30",
        },
        "{who} does not answer Prometheus",
        kept=ALL,
    ),
    Case(
        "GlimpseServiceAbsent",
        {},
        "No query is there",
        kept=(),
        others=(("service", "query"),),
        missing=(("query", 'glimpse_query_texts_total{source="cache"}'),),
    ),
    Case(
        "GlimpseServiceAbsent",
        {},
        "No encoder is there with its model loaded",
        kept=(),
        others=(("service", "encoder"),),
        missing=(("encoder", 'glimpse_encoder_model_info{fingerprint="a"}'),),
    ),
    Case(
        "GlimpseServiceRestarts",
        {("query", "process_start_time_seconds"): "0+60x180"},
        "{who} was started 29 times in half an hour",
        kept=ALL,
    ),
    Case(
        "GlimpseCallsFail",
        {
            ("query", 'glimpse_rpc_calls_total{method="/m", code="OK"}'): "0+90x180",
            ("query", 'glimpse_rpc_calls_total{method="/m", code="UNAVAILABLE"}'): "0+10x180",
        },
        "10% of the calls of /m fail",
        others=METHOD,
    ),
    Case(
        "GlimpseCallsRefused",
        {
            ("query", 'glimpse_rpc_calls_total{method="/m", code="OK"}'): "0+90x180",
            (
                "query",
                'glimpse_rpc_calls_total{method="/m", code="RESOURCE_EXHAUSTED"}',
            ): "0+10x180",
        },
        "10% of the calls of /m are refused",
        others=METHOD,
    ),
    Case(
        "GlimpseSearchesSlow",
        {
            (
                "query",
                "glimpse_rpc_latency_seconds_bucket"
                f'{{method="/glimpse.query.v1.Query/Search", code="OK", le="{le}"}}',
            ): values
            for le, values in (("1", "0x180"), ("2.5", "0+60x180"), ("+Inf", "0+60x180"))
        },
        "One search in a hundred takes more than 2.485s",
    ),
    Case(
        "GlimpseEventLoopHeldUp",
        {
            ("query", f'glimpse_event_loop_lag_seconds_bucket{{le="{le}"}}'): values
            for le, values in (("0.1", "0x180"), ("0.25", "0+600x180"), ("+Inf", "0+600x180"))
        }
        | {
            ("indexer", f'glimpse_event_loop_lag_seconds_bucket{{le="{le}"}}'): "0+600x180"
            for le in ("0.1", "0.25", "+Inf")
        },
        "{who} is 248.5ms late for everything, one time in a hundred",
        kept=ONE,
    ),
    Case(
        "GlimpseEncoderSaturated",
        {
            (process, f'glimpse_encoder_wait_seconds_bucket{{lane="text", le="{le}"}}'): values
            for process in ("encoder", "encoder-2", "encoder-3")
            for le, values in (("0.25", "0x180"), ("0.5", "0+60x180"), ("+Inf", "0+60x180"))
        }
        | {
            ("encoder", 'glimpse_encoder_busy_seconds_total{lane="text"}'): "0+57x180",
            # Both together are busy all the time, and neither is.
            ("encoder-2", 'glimpse_encoder_busy_seconds_total{lane="text"}'): "0+30x180",
            ("encoder-3", 'glimpse_encoder_busy_seconds_total{lane="text"}'): "0+30x180",
        },
        "The device of {who} is busy all the time, and searches wait for it",
        process="encoder",
        kept=ONE,
    ),
    Case(
        "GlimpseEncoderLosesItems",
        {("encoder", "glimpse_encoder_failed_total"): "0+60x180"},
        "Texts or images fail on the device, or are too late when it is free",
    ),
    Case(
        "GlimpseModelsDiffer",
        {("encoder-2", 'glimpse_encoder_model_info{fingerprint="b"}'): "1x180"},
        "2 different models answer as encoders, and no images are encoded",
        minutes=120,
    ),
    Case(
        "GlimpseImagesFail",
        {
            ("indexer", 'glimpse_indexer_images_total{outcome="indexed"}'): "0+80x180",
            ("indexer", 'glimpse_indexer_images_total{outcome="failed"}'): "0+20x180",
        },
        "20% of the images are not indexed",
    ),
    Case(
        "GlimpseMilvusFails",
        {
            (
                "query",
                f'glimpse_milvus_latency_seconds_count{{operation="search", reason="{reason}"}}',
            ): values
            for reason, values in (("OK", "0+90x180"), ("UNAVAILABLE", "0+10x180"))
        },
        "10% of the requests to Milvus fail",
    ),
    Case(
        "GlimpseMilvusReadOnly",
        {
            (
                "indexer",
                'glimpse_milvus_latency_seconds_count{operation="upsert", reason="OVERLOADED"}',
            ): "0+10x180"
        },
        "Milvus refuses every write",
    ),
    Case(
        "GlimpseCertificateExpires",
        {
            (
                "query",
                'glimpse_tls_not_after_timestamp_seconds{setting="TLS_CERT_FILE"}',
            ): f"{10 * DAY_S + 7200}x180"
        },
        "TLS_CERT_FILE of {who} expires in 10d 0h 0m 0s",
        kept=ONE,
        others=(("setting", "TLS_CERT_FILE"),),
        minutes=120,
    ),
    Case(
        "GlimpseCertificateExpiresToday",
        {
            (
                "query",
                'glimpse_tls_not_after_timestamp_seconds{setting="TLS_CERT_FILE"}',
            ): f"{DAY_S}x180"
        },
        "TLS_CERT_FILE of {who} expires within a day, or has expired",
        kept=ONE,
        others=(("setting", "TLS_CERT_FILE"),),
    ),
)


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
def test_each_alert_fires_once_and_says_where(world, tmp_path):
    assert {case.alert for case in CASES} == ALERTS.keys()
    run(tmp_path, (_test(case.alert, _happening(case), world, case) for case in CASES))


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
def test_no_alert_fires_while_all_is_well(world, tmp_path):
    run(tmp_path, (_test(alert, WELL, world) for alert in ALERTS))


def test_a_pod_that_never_came_up_is_down(tmp_path):
    """Elsewhere nobody can say that a target which never answered is one of ours."""
    case = Case(
        "GlimpseServiceDown",
        {("query-2", "up"): "0x180"},
        "{who} does not answer Prometheus",
        process="query-2",
        kept=ALL,
    )
    run(tmp_path, [_test(case.alert, _happening(case), kubernetes, case)])


def test_the_manuals_configuration_for_a_plain_prometheus_is_one(tmp_path):
    block = re.search(r"^    scrape_configs:\n(    .*\n)+", operations.text(), re.MULTILINE)
    assert block is not None
    (tmp_path / "prometheus.yml").write_text(textwrap.dedent(block[0]))
    promtool(tmp_path, "check", "config", "prometheus.yml")


def run(folder: Path, tests: Iterable[dict[str, Any]]) -> None:
    """Has promtool run them."""
    (folder / "rules.yaml").write_text(json.dumps(RULES))  # JSON is YAML
    asked = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": list(tests)}
    (folder / "tests.yaml").write_text(json.dumps(asked))
    promtool(folder, "test", "rules", "tests.yaml")


def promtool(folder: Path, *words: str) -> None:
    """Runs it in a folder; what it prints is the failure."""
    command = [str(programs.find("promtool")), *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def _happening(case: Case) -> Series:
    series = {**WELL, **case.happens}
    return {key: values for key, values in series.items() if key not in case.missing}


def _test(
    alert: str, series: Series, world: Callable[[str], Labels], case: Case | None = None
) -> dict[str, Any]:
    """One of promtool's unit tests; without a case, the alert must not fire."""
    minutes = case.minutes if case else 120
    return {
        "name": alert,
        "interval": "1m",
        "input_series": [
            {"series": _selector(name, world(process)), "values": values}
            for (process, name), values in series.items()
        ],
        "alert_rule_test": [
            {
                "alertname": alert,
                "eval_time": f"{minutes}m",
                "exp_alerts": [_expected(case, world(case.process))] if case else [],
            }
        ],
    }


def _expected(case: Case, process: Labels) -> dict[str, Any]:
    rule = ALERTS[case.alert]
    kept = {name: value for name, value in process.items() if name in case.kept}
    who = process.get("pod", process["instance"])
    return {
        "exp_labels": {**kept, **dict(case.others), **rule["labels"]},
        "exp_annotations": {
            "summary": case.summary.format(who=who),
            "runbook_url": rule["annotations"]["runbook_url"],
        },
    }


def _selector(name: str, world: Labels) -> str:
    bare, _, labels = name.partition("{")
    added = [f'{label}="{value}"' for label, value in world.items()]
    return f"{bare}{{{', '.join([*filter(None, [labels.removesuffix('}')]), *added])}}}"
