"""Which files a command line means."""

from __future__ import annotations

import json

import pytest

from glimpse.cli.console import CommandError
from glimpse.cli.walk import find_pictures


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in (
        "b.JPG",
        "a.png",
        "notes.txt",
        ".hidden.jpg",
        "deep/c.webp",
        "deep/er/d.tiff",
        ".git/e.jpg",
        "odd",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found(*arguments):
    return [str(path) for path in find_pictures(arguments)]


def test_a_folder_is_walked_for_pictures_by_name_in_order_without_hidden_ones(folder):
    assert found(".") == ["a.png", "b.JPG", "deep/c.webp", "deep/er/d.tiff"]


def test_a_file_that_is_named_is_taken_whatever_its_name(folder):
    assert found("odd", "notes.txt", ".hidden.jpg") == ["odd", "notes.txt", ".hidden.jpg"]


def test_a_pattern_takes_what_it_matches_at_any_depth(folder):
    assert found("*.txt") == ["notes.txt"]
    assert found("**/*.t*") == ["deep/er/d.tiff", "notes.txt"]
    assert found("de*") == ["deep/c.webp", "deep/er/d.tiff"]


def test_a_file_named_twice_is_taken_once(folder):
    assert found("a.png", str(folder / "a.png"), ".") == [
        "a.png",
        "b.JPG",
        "deep/c.webp",
        "deep/er/d.tiff",
    ]


def test_a_list_of_failures_names_its_paths_again(folder):
    lines = [json.dumps({"path": "b.JPG", "reason": "X"}), "", "a.png"]
    (folder / "failed.jsonl").write_text("\n".join(lines) + "\n")
    assert found("@failed.jsonl") == ["b.JPG", "a.png"]


@pytest.mark.parametrize("argument", ["gone.jpg", "gone/", "*.gone", "@gone.txt"])
def test_what_names_nothing_is_an_error_that_names_it(folder, argument):
    with pytest.raises(CommandError, match="gone"):
        found(argument)


def test_a_broken_line_of_a_list_is_named(folder):
    (folder / "failed.jsonl").write_text('a.png\n{"reason": 1}\n')
    with pytest.raises(CommandError, match="line 2"):
        found("@failed.jsonl")


def test_a_pattern_in_a_files_own_name_is_that_file(folder):
    (folder / "x[1].jpg").write_bytes(b"x")
    assert found("x[1].jpg") == ["x[1].jpg"]
