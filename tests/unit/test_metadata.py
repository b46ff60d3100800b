"""Metadata files: by path, typed, and refused with the line that is wrong."""

from __future__ import annotations

import pytest

from glimpse.cli.console import CommandError
from glimpse.cli.metadata import MetadataEntries, read_metadata


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_json_lines_keep_their_types_and_paths_are_seen_from_the_files_folder(tmp_path):
    text = '{"path": "a.jpg", "year": 1999, "tags": ["x"]}\n\n{"path": "/b.jpg", "ok": true}\n'
    found = read_metadata(write(tmp_path / "m.jsonl", text))
    assert found == {
        str(tmp_path / "a.jpg"): {"year": 1999, "tags": ["x"]},
        "/b.jpg": {"ok": True},
    }


def test_csv_values_become_numbers_only_when_that_is_how_the_number_is_written(tmp_path):
    text = "path,year,zip,share,empty,word\na.jpg,1999,007,0.5,,nan\n"
    (values,) = read_metadata(write(tmp_path / "m.csv", text)).values()
    assert values == {"year": 1999, "zip": "007", "share": 0.5, "word": "nan"}


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path):
    path = tmp_path / "m.csv"
    path.write_bytes(b"\xef\xbb\xbfpath,a\nx.jpg,1\n")
    assert read_metadata(path) == {str(tmp_path / "x.jpg"): {"a": 1}}


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("m.jsonl", '{"path": "a"}\n{oops', "line 2: is not JSON"),
        ("m.jsonl", "[1]", "line 1: is not a JSON object"),
        ("m.jsonl", '{"year": 1}', 'line 1: has no "path"'),
        ("m.jsonl", '{"path": "a"}\n{"path": "./a"}', "line 2: ./a is listed twice"),
        ("m.csv", "name\na\n", 'line 2: has no "path"'),
        ("m.csv", "path,a\nx,1,2\n", "line 2: has more or fewer values"),
        ("m.csv", "path,a\nx\n", "line 2: has more or fewer values"),
        ("m.txt", "", "must be a .jsonl or a .csv file"),
    ],
)
def test_a_wrong_file_is_refused_with_its_line(tmp_path, name, text, expected):
    with pytest.raises(CommandError, match=expected):
        read_metadata(write(tmp_path / name, text))


def test_a_whole_number_that_a_double_would_change_stays_text(tmp_path):
    text = f"path,a,b\nx.jpg,{2**53},{2**53 + 1}\n"
    (values,) = read_metadata(write(tmp_path / "m.csv", text)).values()
    assert values == {"a": 2**53, "b": str(2**53 + 1)}


def test_a_file_from_windows_may_be_utf_16_and_have_backslashes(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "x.jpg").touch()
    (tmp_path / "m.csv").write_bytes("path,a\r\ndeep\\x.jpg,1\r\n".encode("utf-16"))
    assert read_metadata(tmp_path / "m.csv") == {str(tmp_path / "deep" / "x.jpg"): {"a": 1}}


def test_metadata_are_found_in_either_normal_form_of_unicode(tmp_path):
    write(tmp_path / "m.csv", "path,a\né.jpg,1\nb.jpg,2\n")
    entries = MetadataEntries(tmp_path / "m.csv")
    assert entries.of(f"{tmp_path}/e\N{COMBINING ACUTE ACCENT}.jpg") == {"a": 1}
    assert entries.of(f"{tmp_path}/c.jpg") == {}


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CommandError, match=r"gone\.csv: the metadata cannot be read"):
        read_metadata(tmp_path / "gone.csv")
