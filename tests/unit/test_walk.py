"""Which files a command line means."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from glimpse.cli import walk
from glimpse.cli.console import CommandError
from glimpse.cli.local_tree import LocalTree
from glimpse.cli.passed_over import PassedOver
from glimpse.cli.selection import Selection
from glimpse.cli.walk import find_pictures
from glimpse.uris import path_of


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


def found(*arguments, **selection):
    return [str(path) for path in find_pictures(arguments, Selection(**selection))]


def passed_over(*arguments, **selection):
    passed = PassedOver()
    list(find_pictures(arguments, Selection(**selection), passed))
    return dict(passed.counts)


def test_a_folder_is_walked_for_pictures_by_name_in_order_without_hidden_ones(folder):
    assert found(".") == ["a.png", "b.JPG", "deep/c.webp", "deep/er/d.tiff"]


def test_a_file_that_is_named_is_taken_whatever_its_name(folder):
    assert found("odd", "notes.txt", ".hidden.jpg") == ["odd", "notes.txt", ".hidden.jpg"]


def test_a_pattern_takes_what_it_matches_at_any_depth_of_what_a_folder_stands_for(folder):
    assert found("*.txt") == []
    assert found("**/*.t*") == ["deep/er/d.tiff"]
    assert found("**/**/er/**") == ["deep/er/d.tiff"]
    assert found("de*") == ["deep/c.webp", "deep/er/d.tiff"]
    assert found("**") == found("**/*") == found(".")


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


@pytest.mark.parametrize("argument", ["gone.jpg", "gone/", "*.gone", "@gone.txt", "gone\0"])
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


def test_what_is_passed_over_is_counted_by_reason(folder):
    for name in (
        "@eaDir/t.jpg",
        "lost+found/x.jpg",
        "x.MOV",
        "y.mov",
        "Thumbs.db",
        "no.ending here",
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"x")
    os.mkfifo(folder / "pipe.jpg")
    (folder / "link.jpg").symlink_to("a.png")
    (folder / "broken.jpg").symlink_to("gone.png")
    told = {
        "junk": 3,
        ".mov": 2,
        ".txt": 1,
        "hidden": 2,
        "links": 2,
        "without ending": 2,
        "pipes, sockets or devices": 1,
    }
    assert passed_over(".") == passed_over("**") == told


def test_include_and_exclude_go_by_name_or_by_path_below_the_folder(folder):
    assert found(".", include=(".git", ".hidden.*")) == [
        ".hidden.jpg",
        "a.png",
        "b.JPG",
        ".git/e.jpg",
        "deep/c.webp",
        "deep/er/d.tiff",
    ]
    assert found(".", exclude=("deep/er",)) == ["a.png", "b.JPG", "deep/c.webp"]
    assert found(".", exclude=("*.Jpg", "/deep/")) == ["a.png"]
    assert found(".", include=("*.txt",), exclude=("*.jpg", "d*")) == [
        "a.png",
        "notes.txt",
    ]


def test_links_are_followed_when_asked_and_circles_end(folder):
    (folder / "deep" / "up").symlink_to("..")
    (folder / "again").symlink_to("deep")
    (folder / "link.jpg").symlink_to("a.png")
    (folder / "self.jpg").symlink_to("self.jpg")
    assert found(".") == ["a.png", "b.JPG", "deep/c.webp", "deep/er/d.tiff"]
    followed = ["a.png", "b.JPG", "link.jpg", "again/c.webp", "again/er/d.tiff"]
    assert found(".", follow_links=True) == followed
    assert found("**", follow_links=True) == followed


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder")
def test_a_folder_that_may_not_be_read_does_not_end_the_walk(folder):
    (folder / "deep").chmod(0)
    passed = PassedOver()
    try:
        pictures = [str(path) for path in find_pictures(["."], passed_over=passed)]
    finally:
        (folder / "deep").chmod(0o755)
    assert (pictures, passed.problems) == (["a.png", "b.JPG"], 1)


def test_a_folder_that_cannot_be_listed_is_told_and_passed(folder, monkeypatch, capsys):
    whole = os.scandir

    def scandir(path):
        if str(path).endswith("er"):
            raise PermissionError(13, "Permission denied", path)
        return whole(path)

    monkeypatch.setattr(os, "scandir", scandir)
    passed = PassedOver()
    assert [str(path) for path in find_pictures(["."], passed_over=passed)] == [
        "a.png",
        "b.JPG",
        "deep/c.webp",
    ]
    assert passed.problems == 1
    assert capsys.readouterr().err == "deep/er: the folder cannot be read: permission denied\n"


def test_the_first_picture_comes_before_a_huge_folder_is_read(folder, monkeypatch):
    monkeypatch.setattr(LocalTree, "sorted_at_once", 2)
    read = 0
    whole = os.scandir

    class Counted:
        def __init__(self, path):
            self.entries = whole(path)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.entries.close()

        def __iter__(self):
            nonlocal read
            for entry in self.entries:
                read += 1
                yield entry

    for number in range(20):
        (folder / f"{number}.png").touch()
    monkeypatch.setattr(os, "scandir", Counted)
    next(iter(find_pictures(["."])))
    assert read < 20


def test_a_walk_tells_how_far_it_is(folder):
    passed = PassedOver()
    assert passed.progress() == ""
    pictures = find_pictures(["."], passed_over=passed)
    next(pictures)
    assert passed.progress() == "7 entries looked at, 1 pictures found"
    list(pictures)
    assert passed.progress() == "10 entries looked at, 4 pictures found"


def test_what_names_nothing_ends_nothing_else(folder, capsys):
    (folder / "list.jsonl").write_text('{"path": "a.png"}\n{}\n')
    given = ("*.gone", "gone.png", "@gone.txt", "@list.jsonl", "b.JPG")
    assert found(*given) == ["a.png", "b.JPG"]
    told = capsys.readouterr().err
    for problem in (
        "*.gone: no such file or folder",
        "gone.png: no such file or folder",
        "@gone.txt: the list cannot be read: no such file",
        "@list.jsonl line 2: is not a JSON object",
    ):
        assert problem in told


@pytest.mark.parametrize(
    "name", ["x[1].jpg", "a?b.jpg", "*.jpg", "#1 50%.jpg", "@x.jpg", "{1}.jpg"]
)
def test_a_name_that_looks_like_something_else_is_that_file(folder, name):
    (folder / name).write_bytes(b"x")
    (folder / "list.txt").write_text(f"{name}\n")
    assert found(name) == found("@list.txt") == [name]


@pytest.mark.skipif(sys.platform == "darwin", reason="its file systems take UTF-8 only")
@pytest.mark.parametrize("name", [b"\xff.jpg", b"a\nb.jpg", b"\x1b[31m.jpg", b"cr\r.jpg"])
def test_names_that_are_no_text_are_found_and_come_back(folder, name):
    path = os.fsdecode(name)
    (folder / path).write_bytes(b"x")
    assert path in found(".")
    image = walk.image_file(Path(path))
    assert image.address.startswith("file:///")
    image.address.encode("ascii")
    assert os.fsencode(path_of(image.address)) == os.fsencode(folder / path)
    # As in the list that `find -print0` makes, and in that of failures.
    (folder / "list").write_bytes(name + b"\0a.png\0")
    assert found("@list") == [path, "a.png"]
    (folder / "failed.jsonl").write_text(json.dumps({"path": image.address}) + "\n")
    assert found("@failed.jsonl") == [str(folder / path)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le-bom"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_list_may_come_from_any_editor(folder, encoding, end):
    (folder / "größe\u2028.jpg").touch()
    text = end.join(["größe\u2028.jpg", "", "deep\\c.webp", "deep"])
    content = text.encode(encoding.removesuffix("-bom"))
    if encoding.endswith("-bom"):
        content = b"\xff\xfe" + content
    (folder / "list.txt").write_bytes(content)
    assert found("@list.txt") == ["größe\u2028.jpg", "deep/c.webp", "deep/er/d.tiff"]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_a_list_in_utf_16_without_a_mark_is_no_list_of_letters(folder, encoding):
    (folder / "ü.jpg").touch()
    (folder / "list.txt").write_bytes(f"{folder}/ü.jpg\r\na.png\r\n".encode(encoding))
    assert found("@list.txt") == [f"{folder}/ü.jpg", "a.png"]


def test_lines_of_a_list_may_end_as_on_old_macs(folder):
    (folder / "list.txt").write_bytes(b"a.png\rdeep/c.webp\r")
    assert found("@list.txt") == ["a.png", "deep/c.webp"]


def test_a_list_is_read_as_it_is_needed(folder):
    names = [f"{number:06}.jpg" for number in range(20_000)]
    (folder / "list.txt").write_text("\n".join(names))
    assert found("@list.txt") == names


def test_a_name_in_the_other_normal_form_is_that_file(folder):
    decomposed = "e\N{COMBINING ACUTE ACCENT}t\N{COMBINING ACUTE ACCENT}.jpg"
    (folder / decomposed).touch()
    (folder / "list.txt").write_text("ét\u0301.jpg\n")
    assert found("ét\u0301.jpg") == found("é*.jpg") == found("@list.txt") == [decomposed]
    assert decomposed not in found(".", exclude=("é*",))


def test_file_urls_are_paths(folder):
    (folder / "a b.jpg").touch()
    assert found(f"file://{folder}/a%20b.jpg") == [f"{folder}/a b.jpg"]
    assert found(f"file://{folder}/deep/er") == [f"{folder}/deep/er/d.tiff"]
