"""What the really started services export, log and trace; and that dashboard, alerts and manual
speak of that, and of all of it."""

from __future__ import annotations

import pytest

from tests import operations, queries
from tests.observed import SERVICES, observed_stack

SEARCH = "glimpse.query.v1.Query/Search"
ENCODE_TEXTS = "glimpse.encoder.v1.Encoder/EncodeTexts"
ENCODE_IMAGES = "glimpse.encoder.v1.Encoder/EncodeImages"
INDEX = "glimpse.indexer.v1.Indexer/IndexImages"


@pytest.fixture(scope="module")
def observed(tmp_path_factory):
    with observed_stack(tmp_path_factory.mktemp("observed")) as seen:
        yield seen


def paths(spans, service, name):
    """For each span of that name: services and names, from itself up to the first one known."""
    by_id = {span.span_id: (owner, span) for owner, span in spans}
    found = []
    for owner, span in spans:
        if (owner, span.name) == (service, name):
            path = [(owner, span.name)]
            while span.parent_span_id in by_id:
                owner, span = by_id[span.parent_span_id]
                path.append((owner, span.name))
            found.append(path)
    return found


def test_spans_of_a_search_are_one_trace_over_the_processes(observed):
    encoded = paths(observed.spans, "encoder", ENCODE_TEXTS)
    # One: the second text was in the cache.
    assert encoded == [[("encoder", ENCODE_TEXTS), ("query", ENCODE_TEXTS), ("query", SEARCH)]]
    searched = paths(observed.spans, "query", "milvus/search")
    assert searched == [[("query", "milvus/search"), ("query", SEARCH)]] * 3
    assert paths(observed.spans, "query", "milvus/list_collections") == []  # it asks by itself
    served = [span for _, span in observed.spans if span.name == ENCODE_TEXTS]
    assert len({span.trace_id for span in served}) == 1


def test_spans_of_indexing_are_one_trace_over_the_processes(observed):
    encoded = paths(observed.spans, "encoder", ENCODE_IMAGES)
    assert [("encoder", ENCODE_IMAGES), ("indexer", ENCODE_IMAGES), ("indexer", INDEX)] in encoded
    written = paths(observed.spans, "indexer", "milvus/upsert")
    assert set(map(tuple, written)) == {(("indexer", "milvus/upsert"), ("indexer", INDEX))}


def test_a_stop_sends_the_spans_that_are_left(observed):
    assert observed.spans_before_the_stop == 0
    assert {owner for owner, _ in observed.spans} == set(SERVICES)


def test_a_failed_call_is_one_line_with_its_ids_and_a_successful_one_is_none(observed):
    (line,) = [each for each in observed.logs["query"] if "failed" in each["message"]]
    assert (line["code"], line["reason"]) == ("NOT_FOUND", "COLLECTION_NOT_FOUND")
    failed = [
        span
        for _, span in observed.spans
        if span.name == SEARCH and span.trace_id.hex() == line["trace_id"]
    ]
    ids = {
        each.value.string_value
        for span in failed
        for each in span.attributes
        if each.key == "glimpse.request_id"
    }
    assert ids == {line["request_id"]}
    mentioned = [each for each in observed.logs["query"] if "/Search" in each["message"]]
    assert mentioned == [line]


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_counts_its_calls(observed, service):
    families = observed.families[service]
    assert families["glimpse_rpc_calls"] == "counter"
    assert families["glimpse_rpc_latency_seconds"] == "histogram"
    assert families["glimpse_rpc_in_flight"] == "gauge"


@pytest.mark.parametrize(
    ("service", "name", "labels"),
    [
        ("query", "glimpse_rpc_calls_total", {"method", "code"}),
        ("query", "glimpse_rpc_latency_seconds_count", {"method", "code"}),
        ("encoder", "glimpse_encoder_wait_seconds_count", {"lane"}),
        ("encoder", "glimpse_encoder_batch_seconds_count", {"lane"}),
        ("encoder", "glimpse_encoder_batch_items_sum", {"lane"}),
        ("encoder", "glimpse_encoder_busy_seconds_total", {"lane"}),
        ("encoder", "glimpse_encoder_model_info", {"name", "fingerprint", "precision", "device"}),
        ("indexer", "glimpse_indexer_images_total", {"outcome"}),
        ("indexer", "glimpse_milvus_latency_seconds_count", {"operation", "reason"}),
        ("query", "glimpse_milvus_latency_seconds_count", {"operation", "reason"}),
    ],
)
def test_what_happened_was_counted(observed, service, name, labels):
    assert observed.total(service, name) > 0
    assert observed.labels(name).keys() >= labels


def test_certificates_tell_when_they_expire(observed):
    name = "glimpse_tls_not_after_timestamp_seconds"
    assert observed.labels(name) == {"setting": {"SMALL_TLS_CERT_FILE"}}
    assert all(name in observed.families[service] for service in SERVICES)


def test_the_manual_lists_every_metric_with_its_labels_and_no_other(observed):
    exported = {}
    for families in observed.families.values():
        for name, kind in families.items():
            name += "_total" if kind == "counter" else ""
            sample = f"{name}_count" if kind == "histogram" else name
            exported[name] = set(observed.labels(sample))
    assert operations.metrics() == exported


def test_dashboard_asks_only_for_what_is_exported(observed):
    asked = dict(queries.of_dashboard())
    assert len(asked) > 20
    assert [p for query in asked.values() for p in queries.problems(query, observed)] == []


def test_alerts_ask_only_for_what_is_exported(observed):
    alerts = queries.alerts()
    assert [p for alert in alerts for p in queries.problems(alert["expr"], observed)] == []


def test_alerts_say_what_is_wrong_and_where_the_manual_helps():
    for alert in queries.alerts():
        assert alert["labels"]["severity"] in ("critical", "warning")
        assert alert["annotations"]["summary"]
        page, _, anchor = alert["annotations"]["runbook_url"].partition("#")
        assert page == "docs/operations.md"
        assert anchor in operations.anchors()


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("rate(glimpse_rpc_calls_total[5m)", "unexpected character inside brackets"),
        ("glimpse_nothing", "glimpse_nothing is not exported"),
        ('glimpse_rpc_calls_total{status="OK"}', "glimpse_rpc_calls_total has no label status"),
        ("sum by (lanes) (glimpse_encoder_waiting)", "glimpse_encoder_waiting has no label lanes"),
        ('glimpse_encoder_waiting{lane="txt"}', "no lane is 'txt'"),
        ('glimpse_milvus_latency_seconds_count{reason=~"OK|NONE"}', "no reason is 'NONE'"),
    ],
)
def test_queries_that_ask_for_something_else_are_found(observed, query, problem):
    assert problem in "\n".join(queries.problems(query, observed))
