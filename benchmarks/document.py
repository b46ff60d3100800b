"""Writes docs/benchmarks.md's section for a machine from the benchmarks' files; measures nothing.

`python -m benchmarks.document [FILE ...]` reads build/bench and build/load, or the files given, and
prints the table of `make bench`. What there is no file for, the section says.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.report import shown
from benchmarks.side_by_side import rows as side_by_side

PAGE = Path("docs/benchmarks.md")
_FOLDERS = (Path("build/bench"), Path("build/load"))

Content = Mapping[str, Any]


@dataclass(frozen=True)
class Part:
    """A sub-section: the stems of the files that it may be read from, and how it is headed."""

    stems: tuple[str, ...]
    title: str
    command: str


PARTS = (
    Part(("encoder",), "Encoder", "make bench-encoder"),
    Part(("search-milvus", "search"), "Searches, Milvus server", "make bench-search"),
    Part(("search-lite",), "Searches, Milvus Lite", "make bench-search STORE=lite"),
    Part(("ingest-milvus", "ingest"), "Indexing, Milvus server", "make bench-ingest"),
    Part(("ingest-lite",), "Indexing, Milvus Lite", "make bench-ingest STORE=lite"),
    Part(("scale",), "A large collection, Milvus server", "make bench-scale"),
    Part(("load-milvus",), "Load tests with ghz, Milvus server", "make load STORE=milvus"),
    Part(("load-lite",), "Load tests with ghz, Milvus Lite", "make load"),
    Part(("capacity-milvus",), "Capacity, Milvus server", "make capacity STORE=milvus"),
    Part(("capacity-lite",), "Capacity, Milvus Lite", "make capacity"),
    Part(("int8",), "int8 on photographs", "make bench-int8"),
    Part(("peers",), "Alternatives", "make bench-peers"),
    Part(("chaos",), "Fault injection", "make chaos"),
    Part(("soak",), "Ten minutes of load, every response checked", "make soak"),
    Part(("hostile",), "Hostile callers", "make hostile"),
    Part(("gpu",), "On a GPU", "make bench-gpu"),
)


def read(files: Sequence[Path]) -> dict[str, Content]:
    """The files' content by the title of their part; text files as {"text": …}."""
    found = {}
    for part in PARTS:
        path = next((f for stem in part.stems for f in files if f.stem == stem), None)
        if path is not None:
            text = path.read_text(encoding="utf-8")
            found[part.title] = json.loads(text) if path.suffix == ".json" else {"text": text}
    return found


def section(reports: Mapping[str, Content]) -> str:
    """The whole section, in Markdown. Raises ValueError where the machines differ."""
    machine = machine_of(reports)
    lines = [f"## {name_of(machine)}", "", *_described(machine), ""]
    if rows := side_by_side(reports):
        lines += ["### Side by side", "", *markdown(rows), ""]
    for part in PARTS:
        # A machine with a GPU has a section of its own, for what ran on the GPU.
        if part.title in reports or not (part.stems == ("gpu",) or machine.get("gpu")):
            lines += [f"### {part.title}", "", *_part(part, reports.get(part.title)), ""]
    return "\n".join(lines).rstrip() + "\n"


def machine_of(reports: Mapping[str, Content]) -> Content:
    """What all of them ran on; its date is the last one's. Raises ValueError."""
    machines = [report["machine"] for report in reports.values() if report.get("machine")]
    if not machines:
        raise ValueError("no file says what it was measured on")
    names = sorted({name_of(machine) for machine in machines})
    if len(names) > 1:
        raise ValueError(f"files of several machines: {', '.join(names)}")
    return max(machines, key=lambda machine: machine["date"])


def name_of(machine: Content) -> str:
    """As the section is headed: "AMD EPYC, 2 cores", and the GPU where one was measured."""
    gpu = f", {machine['gpu']}" if machine.get("gpu") else ""
    return f"{machine['processor']}, {machine['cores']} cores{gpu}"


def put(page: str, machine: str, text: str) -> str:
    """The page with this machine's section in place of the one it had, or at its end."""
    begin, end = f"<!-- begin {machine} -->\n", f"<!-- end {machine} -->\n"
    block = f"{begin}\n{text}\n{end}"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    if pattern.search(page):
        return pattern.sub(lambda _: block, page)
    return page.rstrip() + "\n\n" + block


def markdown(rows: Sequence[Sequence[str]]) -> list[str]:
    """A table; the first row is its head."""
    head, *body = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return [_line(head), _line(["---"] * len(head)), *(_line(row) for row in body)]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _described(machine: Content) -> list[str]:
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    rates = f"{machine['gflops_fp32']:,.0f} GFLOP/s in fp32"
    for precision in ("bf16", "int8"):
        rate = machine.get(f"gflops_{precision}")
        rates += f", {rate:,.0f} in {precision}" if rate else f", no {precision} instructions"
    gpu = []
    if machine.get("gpu"):
        gpu_rates = ", ".join(
            f"{machine[f'gpu_tflops_{precision}']:,.0f} TFLOP/s in {precision}"
            for precision in ("fp16", "bf16", "fp32")
        )
        gpu = [
            f"- {machine['gpu']}, {machine['gpu_memory']}, driver {machine['gpu_driver']}, "
            f"CUDA {machine['cuda']}",
            f"- its matrix products of 8,192 x 8,192: {gpu_rates}",
        ]
    return [
        *gpu,
        f"- {machine['date']}; {machine['system']}, {machine['memory_gib']} GiB of memory",
        f"- instruction sets: {' '.join(machine['instruction_sets'])}",
        f"- matrix products of 1,536 x 1,536: {rates}",
        f"- {versions}",
    ]


def _part(part: Part, report: Content | None) -> list[str]:
    if report is None:
        return [f"Not run on this machine: `{part.command}`."]
    if "figures" not in report:
        if isinstance(text := report.get("text"), str):
            return ["```", text.rstrip(), "```"]
        return markdown([("what", "value"), *_flat(report)])
    machine = report.get("machine") or {}
    lines = [f"`{report.get('command', part.command)}`, {machine.get('date', 'no date')}", ""]
    if table := report.get("details", {}).get("table"):
        return [*lines, *table.splitlines()]
    grouped = all("." in figure["key"] for figure in report["figures"])
    return lines + markdown(_grouped(report) if grouped else _figures(report))


def _figures(report: Content) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = [("figure", "value", "low … high", "bar", "met", "meaning")]
    for figure in report["figures"]:
        spread = figure["spread"]
        rows.append(
            (
                f"`{figure['key']}`",
                _marked(figure["value"]),
                f"{shown(spread['low'])} … {shown(spread['high'])}" if spread else "",
                figure["bar"] or "",
                {True: "yes", False: "**no**", None: ""}[figure["met"]],
                figure["meaning"] + (f" ({figure['reason']})" if figure["reason"] else ""),
            )
        )
    return rows


def _grouped(report: Content) -> list[Sequence[str]]:
    """Of keys like "search-8.p99_ms", a row for each first part and a column for each second."""
    groups: dict[str, dict[str, Content]] = {}
    for figure in report["figures"]:
        group, _, column = figure["key"].partition(".")
        groups.setdefault(group, {})[column] = figure
    columns = list(dict.fromkeys(column for group in groups.values() for column in group))
    has_gates = any(figure["met"] is not None for figure in report["figures"])
    gates = ["gates"] if has_gates else []
    rows: list[Sequence[str]] = [("", *(column.replace("_", " ") for column in columns), *gates)]
    for name, group in groups.items():
        met = [figure["met"] for figure in group.values() if figure["met"] is not None]
        verdict = ("met" if all(met) else "**failed**") if met else ""
        values = [_with_bar(group[c]) if c in group else "" for c in columns]
        rows.append((name, *values, *([verdict] if has_gates else [])))
    return rows


def _marked(value: float | None) -> str:
    return "**fails**" if value is False else shown(value)


def _with_bar(figure: Content) -> str:
    sign, _, limit = (figure["bar"] or "").partition(" ")
    return _marked(figure["value"]) + (f" ({sign} {shown(float(limit))})" if limit else "")


def _flat(content: Content, prefix: str = "") -> list[Sequence[str]]:
    rows: list[Sequence[str]] = []
    for key, value in content.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{key}.")
        elif isinstance(value, (bool, int, float, str)) or value is None:
            rows.append((f"{prefix}{key}", value if isinstance(value, str) else _marked(value)))
    return rows


def main(arguments: list[str] | None = None) -> int:
    """0; 2 where there is nothing to write, or files of several machines."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.document", description=__doc__)
    parser.add_argument("files", nargs="*", type=Path, help="default: those of build/")
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args(arguments)
    files = options.files or [path for folder in _FOLDERS for path in sorted(folder.glob("*.*"))]
    reports = read(files)
    try:
        text, machine = section(reports), name_of(machine_of(reports))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    page = options.page.read_text(encoding="utf-8")
    options.page.write_text(put(page, machine, text), encoding="utf-8")
    print("\n".join([machine, "", *markdown(side_by_side(reports) or [("nothing to show",)])]))
    print(f"\n{options.page} has it, and all else that was measured.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
