"""The tree of folders and names: each entry has its fate."""

from __future__ import annotations

import os
import shutil
import sys

import pytest

from tests.corpus import folders


@pytest.mark.skipif(sys.platform != "linux", reason="names and rights are those of Linux")
@pytest.mark.skipif(
    os.geteuid() == 0 and shutil.which("setpriv") is None, reason="root reads every folder"
)
def test_each_entry_of_the_tree_has_its_fate(tmp_path):
    folders.make_tree(tmp_path)
    fates = folders.run(tmp_path)
    assert {name: fates[name] for name in fates} == {e.name: e.fate for e in folders.ENTRIES}
    assert len(fates) >= 60
