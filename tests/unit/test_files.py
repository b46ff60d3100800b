"""Files as the client reads them, and their paths as uris."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from glimpse.errors import InvalidInput, UnreadableFile
from glimpse.files import read
from glimpse.results import StoredImage
from glimpse.uris import path_of, uri_of


def test_a_file_is_read_whole(tmp_path):
    content = os.urandom(200_000)
    (tmp_path / "a").write_bytes(content)
    assert read(tmp_path / "a") == read(tmp_path / "a", 200_000) == content
    (tmp_path / "empty").touch()
    assert read(tmp_path / "empty", 10) == b""


def test_what_would_block_or_has_no_end_is_refused(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as end:
        end.bind("socket")
        for name, why in [
            ("pipe", "it is a pipe"),
            ("socket", "cannot be read"),
            ("/dev/zero", "it is a device"),
            (".", "is a directory"),
            ("a\0b", "no file can have that name"),
        ]:
            with pytest.raises(UnreadableFile, match=why):
                read(name, 100)


def test_a_file_that_is_too_large_is_refused_by_its_size(tmp_path):
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(InvalidInput, match="1,099,511,627,776 bytes do not fit"):
        read(tmp_path / "sparse", 2**20)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="there is no /proc")
def test_a_file_that_says_it_is_empty_is_read_to_its_end_or_its_bound():
    assert read("/proc/self/status", 2**20).startswith(b"Name:")
    with pytest.raises(InvalidInput, match="do not fit"):
        read("/proc/self/status", 10)


def test_plain_paths_are_their_own_uris():
    for path in ("/x/a b.jpg", "/x/größe 50% #1?.jpg", "/x/e\N{COMBINING ACUTE ACCENT}.jpg"):
        assert uri_of(path) == path
        assert path_of(path) == Path(path)


@pytest.mark.parametrize("name", [b"\xff", b"a\nb", b"\x7f", b"50%\x01#?[1]", b"\xc2\x85"])
def test_other_paths_come_back_byte_for_byte(name):
    path = os.fsdecode(b"/x/" + name)
    uri = uri_of(path)
    assert uri.startswith("file:///x/")
    assert uri.isascii()
    assert uri.isprintable()
    assert os.fsencode(path_of(uri) or "") == b"/x/" + name
    assert StoredImage("i", uri=uri).path == Path(path)


def test_only_what_lies_on_this_machine_is_a_path():
    assert path_of("file:///x/a%20b.jpg") == Path("/x/a b.jpg")
    assert path_of("https://example.org/a.jpg") is None
    assert path_of("s3://bucket/a.jpg") is None
    assert path_of("") is None
