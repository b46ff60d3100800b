"""docs/api.md tells callers every reason that a service may give; its words come from protos/."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = " ".join((ROOT / "docs" / "api.md").read_text().split())
GIVEN = re.compile(
    r'reason(?:: str)? ?= ?"([A-Z_]+)"|^(IMAGE_[A-Z_]+) = "|^_REASON[A-Z_]* = "([A-Z_]+)"',
    re.MULTILINE,
)


def reasons_in_code() -> set[str]:
    paths = [ROOT / "glimpse" / "errors.py"]
    for folder in ("services", "glimpse/pictures"):
        paths += (ROOT / folder).rglob("*.py")
    sources = [path.read_text() for path in paths]
    return {name for source in sources for pair in GIVEN.findall(source) for name in pair if name}


def test_every_reason_that_a_service_gives_is_documented():
    undocumented = {r for r in reasons_in_code() if not re.search(rf"\b{r}\b", PAGE)}
    # For the log alone, where nobody waits for the answer; and what never leaves the client.
    assert undocumented <= {"CANCELLED", "FILE_UNREADABLE", "CREDENTIALS_UNUSABLE"}
    assert len(reasons_in_code()) > 30


def test_every_reason_that_is_documented_is_given():
    told = re.findall(r"\breasons? ((?:[A-Z]+_[A-Z_]+(?:, | or )?)+)", PAGE)
    names = {name for names in told for name in re.split(", | or ", names) if name}
    assert names <= reasons_in_code()
    assert {"MODEL_MISMATCH", "TEXT_CONTROL_CHARACTER", "IMAGE_UNSUPPORTED"} <= names
