"""What Milvus says, as our errors."""

from __future__ import annotations

import pytest
from pymilvus.exceptions import MilvusException

from glimpse.errors import DeadlineExceeded, Overloaded
from services.vectors.milvus import errors


@pytest.mark.parametrize(
    "message",
    [
        # Of Milvus 2.3.5, at two stages of a search whose deadline passed.
        "failed to search: attempt #0: fail to Search, QueryNode ID=1, reason=worker(1) query "
        "failed: context canceled",
        "failed to search: attempt #0: context deadline exceeded",
        "[search] Retry timeout: 1.0s",
    ],
)
def test_a_request_whose_deadline_passed_within_milvus_is_late_and_not_failed(message):
    error = errors.translate(MilvusException(65535, message), "", "c")
    assert isinstance(error, DeadlineExceeded)


def test_an_error_without_a_better_name_stays_milvus_own():
    error = errors.translate(MilvusException(65535, "disk is full"), "", "c")
    assert isinstance(error, errors.MilvusFailed)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (8, "request is rejected by grpc RateLimiter middleware, please retry later"),
        (9, "quota exceeded[reason=memory quota exceeded, please allocate more resources]"),
        (1, "[Errno 28] No space left on device: '/data/milvus/wal_data_000001.arrow'"),
    ],
)
def test_a_denial_for_want_of_room_is_overload_and_says_when_to_come_back(code, message):
    error = errors.translate(MilvusException(code, message), "", "c")
    assert isinstance(error, Overloaded)
    assert error.retry_after_s


@pytest.mark.parametrize(
    "expression", ["already exist", "context canceled", 'uri == "No space left on device" or']
)
def test_words_of_a_filter_are_not_taken_for_milvus_own(expression):
    told = f"failed to create query plan: cannot parse expression: {expression}, error: line 1:8"
    error = errors.translate(MilvusException(65535, told), "", "c", expression)
    assert isinstance(error, errors.MilvusFailed), "which has it asked again without the filter"
