"""`make corpus`: writes the corpus, has `glimpse index` index its folder as an ordinary user, and
holds what became of each file, and what the encoder was given, against what must become of it; and
measures walks, syncs and a distant object store."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from benchmarks import machine, stacks
from benchmarks.report import Bar, Figure, Report
from tests.corpus import folder_figures, folders
from tests.corpus.case import INDEXED, PASSED_OVER
from tests.corpus.fates import Fate, Seen, fate_of
from tests.corpus.large import jpeg_of_200_megapixels
from tests.corpus.service import decode_peak_bytes, indexing
from tests.corpus.table import CASES

_ROOT = Path(__file__).parents[2]
# Where this runs as root: a user whose files these are, and who may do nothing else.
_AS_ORDINARY_USER = ("unshare", "--user", "--map-user=1000", "--")
_MAX_S = 300


def corpus(folder: Path) -> list[Fate]:
    """What became of each case."""
    pictures = (folder / "pictures").resolve()
    for case in CASES:
        path = pictures / case.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(case.make())
    failures = folder / "failures.jsonl"
    seen = asyncio.run(_indexed(pictures, failures))
    lines = map(json.loads, failures.read_text().splitlines())
    reasons = {line["path"]: line["reason"] for line in lines}
    fates = []
    for case in CASES:
        path = str(pictures / case.name)
        outcome = reasons.get(path, INDEXED if path in seen else PASSED_OVER)
        fates.append(fate_of(case, outcome, seen.get(path)))
    return fates


async def _indexed(pictures: Path, failures: Path) -> dict[str, Seen]:
    """What was seen of the pictures that were indexed, by their paths."""
    async with indexing() as indexer:
        print(await asyncio.to_thread(_index, pictures, indexer.address, failures))
        return indexer.seen()


def _index(pictures: Path, address: str, failures: Path) -> str:
    """`glimpse index` on the folder; its summary."""
    command = [sys.executable, "-m", "glimpse.cli.main", "index", str(pictures)]
    # Files of the same content are cases of their own.
    command += ["--indexer", address, "--failures", str(failures), "--id-from", "path"]
    done = subprocess.run(
        [*(_AS_ORDINARY_USER if os.geteuid() == 0 else ()), *command],
        cwd=_ROOT,
        env={"PATH": os.environ["PATH"], "HOME": str(pictures), "LANG": "C.UTF-8"},
        capture_output=True,
        text=True,
        timeout=_MAX_S,
        check=False,
    )
    if done.returncode not in (0, 1):  # 1: some pictures were refused, as they have to be
        raise SystemExit(f"glimpse index ended with {done.returncode}: {done.stderr}")
    return "\n".join(line for line in done.stderr.splitlines() if " indexed, " in line)


def _table(fates: list[Fate]) -> None:
    for fate in fates:
        mark = "ok" if fate.is_as_expected else "NOT AS EXPECTED"
        print(f"{fate.case.name:48} {fate.outcome:20} {mark} {fate.problem}".rstrip())
    for outcome, count in sorted(Counter(fate.outcome for fate in fates).items()):
        print(f"{count:5} {outcome}")


def main() -> int:
    """Returns 1 where a file met another fate than its own, or a figure misses its bar."""
    parser = argparse.ArgumentParser(prog="make corpus", description=__doc__)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="leave the files there")
    parser.add_argument("--quick", action="store_true", help="leave out what takes long")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        fates = corpus(folder)
        if options.keep:
            shutil.copytree(folder / "pictures", options.keep, dirs_exist_ok=True)
    _table(fates)
    entries = folders.fates()
    folders.show(entries)
    cases = len(fates) + len(entries)
    as_expected = sum(fate.is_as_expected for fate in fates)
    as_expected += sum(fate == entry.fate for entry, fate in entries)
    share = as_expected / cases
    peak_mb = asyncio.run(decode_peak_bytes(jpeg_of_200_megapixels())) / 1e6
    report = Report("corpus", "make corpus", machine.describe())
    report.figures += [
        Figure("cases", "files of the corpus", cases, Bar("at least", 120)),
        Figure("as_expected", "share with its expected fate", share, Bar("at least", 1)),
        Figure(
            "decode_200_mp_mb",
            "peak memory of the process that decodes a JPEG of 200 megapixels, in MB",
            round(peak_mb, 1),
            Bar("at most", 250),
        ),
    ]
    if not options.quick:
        report.figures += folder_figures.all_figures()
    report.write(stacks.OUTPUT / "corpus.json")
    print(report.table())
    return 0 if all(figure.is_met is not False for figure in report.figures) else 1


if __name__ == "__main__":
    sys.exit(main())
