"""docs/sizing.md's tables are what its formulas give, and its parameters those of the store."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from services.vectors.milvus.schema import _INDEX_PARAMETERS as PARAMETERS
from services.vectors.records import estimated_bytes

PAGE = (Path(__file__).parents[2] / "docs" / "sizing.md").read_text()
DIMENSION = 512
LINKS = 2 * PARAMETERS["HNSW"]["M"] * 4 + 4
INDEX_BYTES = {
    "HNSW": 4 * DIMENSION + LINKS,
    "HNSW_SQ": DIMENSION + LINKS,
    "IVF_SQ8": DIMENSION + 8,
    "DISKANN": round((0.125 + 0.10) * 4 * DIMENSION),
}
ATTRIBUTES = estimated_bytes(1, DIMENSION) - 4 * DIMENSION
SSD_BYTES = 4096


def row(first: str) -> list[str]:
    found = re.search(rf"^\| {re.escape(first)} \|(.*)\|$", PAGE, re.MULTILINE)
    assert found, first
    return [cell.strip() for cell in found[1].split("|")]


@pytest.mark.parametrize("kind", INDEX_BYTES)
def test_bytes_of_an_image_are_those_of_the_stores_parameters(kind):
    name = {"HNSW": "HNSW, `M` = 16", "HNSW_SQ": "HNSW_SQ (SQ8)", "DISKANN": "DISKANN, in memory"}
    assert row(name.get(kind, kind))[0] == f"{INDEX_BYTES[kind]:,}"


@pytest.mark.parametrize(("name", "images"), [("1M", 10**6), ("100M", 10**8), ("1B", 10**9)])
def test_memory_is_what_the_formula_gives(name, images):
    expected = [images * (size + ATTRIBUTES) / 0.7 for size in INDEX_BYTES.values()]
    expected.append(images * SSD_BYTES)
    digits = 1 if images == 10**6 else 0
    assert row(name) == [f"{value / 1e9:,.{digits}f} GB" for value in expected]
