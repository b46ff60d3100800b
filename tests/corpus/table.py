"""All cases of the corpus, whatever module they stand in."""

from __future__ import annotations

from tests.corpus import jpegs, others, pngs, tiffs
from tests.corpus.case import Case

CASES: list[Case] = [*jpegs.CASES, *pngs.CASES, *tiffs.CASES, *others.CASES]
