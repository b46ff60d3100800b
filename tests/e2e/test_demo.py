"""The demo as `make demo` runs it: pictures drawn, indexed, found by words, above the bars."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from demo.run import BARS

ROOT = Path(__file__).parents[2]
MODEL = os.environ.get("ENCODER_MODEL", "demo")


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def first(output):
    return run(output)


def run(output: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "demo.run", "--output", str(output), "--model", MODEL]
    return subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True)


def report(output: Path):
    return json.loads((output / "report.json").read_text())


def test_the_bundled_model_finds_what_it_should(first, output):
    assert first.returncode == 0, first.stderr
    figures = report(output)
    assert figures["images"] == figures["indexed"] == 1_000
    assert figures["images_per_s"] > 0
    assert figures["precision_at_10"]["all"] >= BARS["all"] >= 0.95
    assert figures["precision_at_10"]["unseen"] >= BARS["unseen"] >= 0.90
    queries = {query["text"]: query for query in figures["queries"]}
    assert len(queries) == 100
    assert queries["a white dog"]["precision_at_10"] >= BARS["a white dog"] >= 0.90
    assert all(query["ms"] > 0 for query in queries.values())


def test_each_question_that_is_shown_has_a_table_and_a_sheet(first, output):
    sheets = sorted(output.glob("*.png"))
    assert output / "a-white-dog.png" in sheets
    assert len(sheets) >= 10
    for sheet in sheets:
        with Image.open(sheet) as picture:
            assert picture.width > 5 * 150
            assert picture.height > 2 * 150
        assert f"\n{sheet.stem.replace('-', ' ')}\n" in first.stdout


def test_a_folder_that_is_not_there_is_one_sentence(tmp_path):
    answer = run(tmp_path, "--images", str(tmp_path / "gone"))
    assert answer.returncode == 1
    assert answer.stderr == f"demo: {tmp_path}/gone: no such file or folder\n"
