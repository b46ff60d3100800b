"""The page of benchmarks: what was measured stands there, and what was not is said."""

import json

import pytest

from benchmarks import document
from benchmarks.peers import run as peers
from benchmarks.report import Bar, Figure, Report, Spread

MACHINE = {
    "processor": "P",
    "cores": 2,
    "instruction_sets": ["avx2"],
    "memory_gib": 8.0,
    "system": "S",
    "versions": {"torch": "1"},
    "date": "2001-01-01",
    "gflops_fp32": 87.0,
    "gflops_bf16": 870.0,
}


@pytest.fixture
def page(tmp_path):
    path = tmp_path / "benchmarks.md"
    path.write_text("# Benchmarks\n\nBy hand.\n")
    return path


def written(path, *figures, machine=MACHINE, **details):
    report = Report(path.stem, f"make {path.stem}", machine, figures=list(figures), details=details)
    report.write(path)
    return str(path)


def encoder(path, **changes):
    figure = Figure("ratio", "a | ratio", 3.0, Bar("at least", 2), Spread(3.0, 2.5, 3.5))
    rates = {"bf16_images_per_s": [40, 50], "tutorial_images_per_s": [10, 10]}
    other = Figure("text.ratio", "a key that begins like a text file's content", 1.0)
    return written(path, figure, other, machine=MACHINE | changes, **rates)


def test_a_section_has_the_machine_the_figures_and_the_tutorial_beside_them(page, tmp_path):
    assert document.main([encoder(tmp_path / "encoder.json"), "--page", str(page)]) == 0
    text = page.read_text()
    assert text.startswith("# Benchmarks\n\nBy hand.\n")
    assert "## P, 2 cores" in text
    assert "torch 1" in text
    assert "| `ratio` | 3 | 2.5 … 3.5 | ≥ 2 | yes | a \\| ratio |" in text
    # Ours and the tutorial's with their spread, their ratio, and 870 GFLOP/s by 8.7 an image.
    assert "| images/s, in process, bf16 | 10 (10 … 10) | 45 (40 … 50) | 4.5 | 100 |" in text


def test_what_was_not_run_is_said(page, tmp_path):
    document.main([encoder(tmp_path / "encoder.json"), "--page", str(page)])
    text = page.read_text()
    assert "On a GPU" not in text
    assert "Not run on this machine: `make bench-search STORE=lite`." in text


def test_a_gpu_has_a_section_of_its_own(page, tmp_path):
    rates = {f"gpu_tflops_{precision}": 700.0 for precision in ("fp16", "bf16", "fp32")}
    gpu = {"gpu": "G", "gpu_memory": "80 GB", "gpu_driver": "1", "cuda": "13", **rates}
    figures = [Figure("images, 4 callers.per_s", "per s", 5e4), Figure("texts.p50_ms", "p50", 2.0)]
    file = written(tmp_path / "gpu.json", *figures, machine=MACHINE | gpu)
    assert document.main([file, "--page", str(page)]) == 0
    text = page.read_text()
    assert "## P, 2 cores, G" in text
    assert "- G, 80 GB, driver 1, CUDA 13\n" in text
    assert "8,192 x 8,192: 700 TFLOP/s in fp16, 700 TFLOP/s in bf16" in text
    assert "| images, 4 callers | 50,000 |" in text
    assert "Not run" not in text


def test_a_second_run_replaces_its_own_section_and_no_other(page, tmp_path):
    document.main([encoder(tmp_path / "encoder.json"), "--page", str(page)])
    other = encoder(tmp_path / "other" / "encoder.json", processor="Q")
    document.main([other, "--page", str(page)])
    later = encoder(tmp_path / "later" / "encoder.json", date="2002-02-02")
    document.main([later, "--page", str(page)])
    text = page.read_text()
    assert text.count("## P, 2 cores") == text.count("## Q, 2 cores") == 1
    assert "By hand." in text
    assert text.index("2002-02-02") < text.index("## Q, 2 cores")


def test_files_of_two_machines_are_not_mixed(page, tmp_path, capsys):
    one = encoder(tmp_path / "encoder.json")
    other = written(tmp_path / "search.json", machine=MACHINE | {"cores": 64})
    assert document.main([one, other, "--page", str(page)]) == 2
    assert "P, 2 cores, P, 64 cores" in capsys.readouterr().err
    assert page.read_text() == "# Benchmarks\n\nBy hand.\n"


def test_load_has_a_row_for_each_configuration_with_its_gates(page, tmp_path):
    figures = [
        Figure("search-1.per_s", "rate", 50.0, Bar("at least", 20)),
        Figure("search-1.p99_ms", "latency", 300.0, Bar("at most", 200)),
        Figure("search-8.per_s", "rate", 80.0, Bar("at least", 20)),
    ]
    document.main([written(tmp_path / "load-lite.json", *figures), "--page", str(page)])
    text = page.read_text()
    assert "| search-1 | 50 (≥ 20) | 300 (≤ 200) | **failed** |" in text
    assert "| search-8 | 80 (≥ 20) |  | met |" in text


def test_text_and_plain_json_are_taken_as_they_are(page, tmp_path):
    (tmp_path / "chaos.txt").write_text("encoder killed: 0 lost\n")
    (tmp_path / "soak.json").write_text(json.dumps({"hours": 2, "rss": {"growth": 1.01}}))
    files = [str(tmp_path / name) for name in ("chaos.txt", "soak.json")]
    document.main([encoder(tmp_path / "encoder.json"), *files, "--page", str(page)])
    assert "```\nencoder killed: 0 lost\n```" in page.read_text()
    assert "| rss.growth | 1.01 |" in page.read_text()


def test_a_peer_that_is_ahead_is_named_and_one_that_did_not_run_has_its_reason():
    ours = peers.Measured("", [30.0], [200.0], [10.0], [20.0], [1500.0], [9.0])
    faster = peers.Measured("", [60.0], [90.0], [9.0], [30.0], [700.0], [4.0])
    missing = peers.Measured("no such package")
    measured = {"glimpse-bf16": ours, "openvino-int8": faster, "onnxruntime-fp32": missing}
    assert peers.ahead("openvino-int8", measured) == [
        "images_per_s",
        "p50_ms",
        "rss_mb",
        "start_s",
    ]
    assert peers.ahead("glimpse-bf16", measured) == []
    faster.kept = [0.9]
    assert peers.ahead("openvino-int8", measured) == [], "what it finds is something else"
    faster.kept = [0.99]
    table = peers.table(measured).splitlines()
    assert table[3].endswith("| images/s, p50, memory, start |")
    assert "not run: no such package" in table[4]
