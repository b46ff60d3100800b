"""How rows are cut into requests."""

from __future__ import annotations

import numpy as np

from services.vectors import rowwise
from services.vectors.store import Row

MILVUS_MAX_BYTES = 64 * 1024 * 1024


def test_a_batch_stays_below_what_milvus_takes_and_keeps_the_order():
    vector = np.zeros(32_768, np.float32)
    rows = [Row(f"{i}", vector, uri="犬" * 2_048, metadata={"k": "v" * 16_000}) for i in range(700)]

    batches = list(rowwise.batches(rows))

    assert [row for batch in batches for row in batch] == rows
    sizes = [sum(vector.nbytes + 3 * 2_048 + 16_000 for _ in batch) for batch in batches]
    assert max(sizes) < MILVUS_MAX_BYTES / 1.5
    assert len(batches) < 6


def test_many_small_rows_are_cut_by_their_number():
    rows = [Row(f"{i}", np.zeros(4, np.float32)) for i in range(2_001)]
    assert [len(batch) for batch in rowwise.batches(rows)] == [1_000, 1_000, 1]
