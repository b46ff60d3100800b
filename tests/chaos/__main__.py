"""`make chaos`: the long form, on Milvus Lite and on a Milvus server; prints seeds and kills.

Then ten thousand good files with a thousand broken ones among them.
"""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path

from benchmarks import stacks
from tests.backends import fresh_runs, has_milvus_server
from tests.chaos.broken import index_broken_among_good
from tests.chaos.run import FREEZE, Chaos

_FAULTS = {
    "lite": {"encoder": 8, "indexer": 8, "store": 8, "client": 6, FREEZE: 3},
    "milvus": {"encoder": 7, "indexer": 7, "store": 5, "client": 6, FREEZE: 5},
}


def main() -> int:
    """1 if anything was lost, or is there twice."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--stores", nargs="*", choices=list(_FAULTS), default=list(_FAULTS))
    parser.add_argument("--broken", type=int, default=1_000, help="files; 0: leave that part out")
    parser.add_argument("--images", type=int, default=6_000, help="at least, on each store")
    parser.add_argument("--seed", type=int, help="of a run to be repeated")
    options = parser.parse_args()
    stacks.end_on_sigterm()
    is_well = has_milvus_server() or "milvus" not in options.stores
    for kind, seed, folder in fresh_runs("chaos", options.stores, options.seed):
        outcome = Chaos(folder, kind, seed).run(_FAULTS[kind], options.images)
        print(f"{kind}: {outcome}", flush=True)
        is_well = is_well and not outcome.problems
    if options.broken:
        is_well = _index_broken(10 * options.broken, options.broken) and is_well
    return 0 if is_well else 1


def _index_broken(good: int, broken: int) -> bool:
    folder = Path("build/chaos/broken").absolute()
    shutil.rmtree(folder, ignore_errors=True)
    started_s = time.monotonic()
    problems = index_broken_among_good(folder, good, broken)
    ends = "\n  ".join(problems) or "each refused for its own reason, all others stored"
    seconds = time.monotonic() - started_s
    print(f"{broken:,} broken files among {good:,} good ones, {seconds:.0f} s: {ends}")
    return not problems


if __name__ == "__main__":
    raise SystemExit(main())
