"""Each picture file of the corpus is seen as a viewer shows it, or refused for the right reason."""

from __future__ import annotations

import pytest

from glimpse.errors import InvalidImage
from glimpse.pictures.preprocess import decode
from glimpse.pictures.preprocessing import Preprocessing
from tests.corpus.case import INDEXED, PASSED_OVER, Case
from tests.corpus.fates import Seen, fate_of
from tests.corpus.table import CASES

MAX_PIXELS = 250_000_000
SIZE = 32


def sent() -> list[Case]:
    return [case for case in CASES if case.fate != PASSED_OVER]


def test_every_case_has_a_name_of_its_own():
    names = [case.name.lower() for case in CASES]
    assert len(set(names)) == len(names) >= 80


@pytest.mark.parametrize("case", sent(), ids=lambda case: case.name)
def test_each_file_meets_its_fate(case: Case):
    content = case.make()
    if case.fate != INDEXED:
        with pytest.raises(InvalidImage) as caught:
            decode(content, Preprocessing(SIZE), MAX_PIXELS)
        assert caught.value.reason == case.fate
        return
    decoded = decode(content, Preprocessing(SIZE), MAX_PIXELS)
    seen = Seen(decoded.pixels, decoded.width, decoded.height)
    assert fate_of(case, INDEXED, seen).problem == ""
