"""The short form of `make soak`: mixed load on an encoder process, every answer checked."""

import argparse
import asyncio

from benchmarks.soak import soak


def test_under_mixed_load_every_answer_is_its_inputs_and_memory_stays():
    # Memory settles within the first minute; in seconds it can only be seen not to run away.
    options = argparse.Namespace(seconds=4.0, warm_seconds=4.0, growth=1.15, seed=2)
    report = asyncio.run(soak(options))
    figures = {figure.key: figure.value for figure in report.figures}
    assert [figure.key for figure in report.figures if figure.is_met is False] == []
    assert min(figures[key] for key in ("vectors", "cancelled", "refused")) > 0
