"""`make upgrade`: a model is changed, changed back and changed again under searches, writes and
kills, on Milvus Lite and on a Milvus server. Writes build/bench/upgrade.json."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

from benchmarks import stacks
from tests.backends import fresh_runs, has_milvus_server
from tests.upgrade.run import Upgrade

_BARS = {
    "failed_searches": 0,
    "mixed_answers": 0,
    "wrong_rows": 0,
    "p99_ratio": 2.0,
    "encoded_twice": 0,
}
_LEAST_COPY_SHARE = 0.9


def main() -> int:
    """1 if a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.upgrade", description=__doc__)
    parser.add_argument(
        "--stores", nargs="*", choices=["lite", "milvus"], default=["lite", "milvus"]
    )
    parser.add_argument("--pictures", type=int, default=20_000)
    parser.add_argument("--kill-every", type=float, default=8.0, help="seconds, on average")
    parser.add_argument("--seed", type=int, help="of a run to be repeated")
    options = parser.parse_args()
    stacks.end_on_sigterm()
    is_well, found = has_milvus_server() or "milvus" not in options.stores, {}
    for kind, seed, folder in fresh_runs("upgrade", options.stores, options.seed):
        figures = Upgrade(folder, kind, options.pictures, seed, options.kill_every).run()
        found[kind] = {"seed": seed, **dataclasses.asdict(figures)}
        print(json.dumps(found[kind], indent=2), flush=True)
        is_well = is_well and all(found[kind][name] <= bar for name, bar in _BARS.items())
        is_well = is_well and figures.copy_share >= _LEAST_COPY_SHARE and not figures.problems
    report = Path("build/bench/upgrade.json")
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(json.dumps(found, indent=2) + "\n")
    return 0 if is_well else 1


if __name__ == "__main__":
    raise SystemExit(main())
