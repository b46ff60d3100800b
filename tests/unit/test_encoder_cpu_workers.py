"""Parts of a batch on threads of their own: their order, their ends, their share of the CPUs."""

from __future__ import annotations

import threading

import pytest
import torch

from services.encoder.cpu_workers import CpuWorkers

TIMEOUT_S = 30.0


@pytest.fixture(autouse=True)
def torchs_threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_parts_run_side_by_side_and_their_results_keep_their_order() -> None:
    both_run = threading.Barrier(2, timeout=TIMEOUT_S)

    def part(number: int) -> tuple[int, str]:
        both_run.wait()
        return number, threading.current_thread().name

    results = CpuWorkers(2).map(part, [1, 2])
    assert [number for number, _ in results] == [1, 2]
    assert len({thread for _, thread in results}) == 2


def test_a_single_part_has_the_callers_thread_and_all_cpus() -> None:
    (result,) = CpuWorkers(3).map(
        lambda _: (threading.current_thread(), torch.get_num_threads()), ["part"]
    )
    assert result == (threading.current_thread(), 3)


@pytest.mark.parametrize(
    ("threads", "shares"), [(1, [1]), (2, [1, 1]), (5, [1, 1, 1, 2]), (8, [2, 2, 2, 2])]
)
def test_torchs_threads_are_shared_out(threads, shares) -> None:
    streams = CpuWorkers(threads)
    assert streams.count == len(shares)
    all_run = threading.Barrier(len(shares), timeout=TIMEOUT_S)

    def share(_: int) -> int:
        torch.ones(100_000).add_(1)  # at a thread's first operation, torch sets its number
        all_run.wait()
        return torch.get_num_threads()

    assert sorted(streams.map(share, list(range(len(shares))))) == shares
    assert torch.get_num_threads() == threads


def test_an_error_is_raised_when_the_other_parts_have_ended() -> None:
    failed, ended, returned = threading.Event(), threading.Event(), threading.Event()

    def part(number: int) -> None:
        if number == 0:
            failed.set()
            raise MemoryError("no room")
        assert failed.wait(TIMEOUT_S)
        if not returned.wait(0.1):  # which gives those time to return who do not wait
            ended.set()

    with pytest.raises(MemoryError, match="no room"):
        CpuWorkers(2).map(part, [0, 1])
    returned.set()
    assert ended.is_set()


def test_a_part_may_have_parts() -> None:
    streams = CpuWorkers(2)
    results = streams.map(lambda x: streams.map(lambda y: (x, y), [1, 2, 3]), "ab")
    assert results == [[(x, 1), (x, 2), (x, 3)] for x in "ab"]


def test_parts_make_no_gradients() -> None:
    weight = torch.ones(2, requires_grad=True)
    results = CpuWorkers(2).map(lambda x: (x * weight).requires_grad, [torch.ones(2)] * 2)
    assert results == [False, False]
