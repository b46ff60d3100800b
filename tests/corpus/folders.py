"""Folders and names as people's disks have them: one tree, and the fate of each file in it.

`make corpus`, and `python -m tests.corpus.folders` alone, has `glimpse index` walk it as an
ordinary user, and prints the table of fates.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from glimpse.results import StoredImage
from tests.scripted import Indexer, serve

SENT = "SENT"
UNREADABLE = "FILE_UNREADABLE"
_TOO_LONG = "x" * 200
_LEVELS = 9

Make = Callable[[Path], None]


@dataclass(frozen=True)
class Entry:
    """One file of the tree. `fate` is SENT, the reason of its failure, or, in small letters, why it
    is passed over; "" for what is below something that is passed over, or no entry of its own."""

    name: bytes  # its path in the tree
    make: Make
    fate: str = SENT


def picture(path: Path) -> None:
    """Every file has content of its own, so that each can be told from the others."""
    path.write_text(f"picture {os.fsencode(path).hex()}")


def folder_without_rights(path: Path) -> None:
    path.mkdir()
    picture(path / "inside.jpg")
    path.chmod(0)


def file_without_rights(path: Path) -> None:
    picture(path)
    path.chmod(0)


def pipe(path: Path) -> None:
    os.mkfifo(path)


def bound_socket(path: Path) -> None:
    before = os.open(".", os.O_RDONLY)
    os.chdir(path.parent)  # the address of a socket is short
    try:
        with socket.socket(socket.AF_UNIX) as end:
            end.bind(path.name)
    finally:
        os.fchdir(before)
        os.close(before)


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**40)


def copy_of(name: str) -> Make:
    return lambda path: shutil.copy(_root_of(path) / name, path) and None


def hard_link_to(name: str) -> Make:
    return lambda path: os.link(_root_of(path) / name, path)


def link_to(target: str) -> Make:
    return lambda path: path.symlink_to(target)


def empty_folder(path: Path) -> None:
    path.mkdir()


def _root_of(path: Path) -> Path:
    return next(parent for parent in path.parents if (parent / "plain.jpg").exists())


def _text(name: str, make: Make = picture, fate: str = SENT) -> Entry:
    return Entry(name.encode(), make, fate)


ENTRIES = [
    _text("plain.jpg"),
    *(_text(f"endings/a{ending}") for ending in (".JPG", ".jpeg", ".png", ".webp", ".gif")),
    *(_text(f"endings/a{ending}") for ending in (".bmp", ".tif", ".avif", ".heic", ".HEIF")),
    # What is no picture by its name.
    *(_text(f"others/a{ending}", fate=ending) for ending in (".mov", ".nef", ".cr2", ".psd")),
    _text("others/no-ending", fate="without ending"),
    _text("others/a.ending that is none", fate="without ending"),
    # Names.
    _text("names/größe.jpg"),
    _text("names/e\N{COMBINING ACUTE ACCENT}.jpg"),
    _text("names/both/é.jpg"),
    _text("names/both/e\N{COMBINING ACUTE ACCENT}.jpg"),
    Entry(b"names/gr\xf6\xdfe.jpg", picture),
    Entry(b"names/\xff\xfe.jpg", picture),
    *(_text(f"names/a{sign}b.jpg") for sign in ("\n", "\r", "\t", "\x1b[31m", "\x7f", "\x85")),
    *(_text(f"names/a{sign}b.jpg") for sign in ("\u2028", "\u202e", "\U0001f415", "犬", "\ufeff")),
    *(_text(f"names/a{sign}b.jpg") for sign in ("[1]", "?", "*", "#", "%", "%20", "\\", '"', "'")),
    *(_text(f"names/{name}.jpg") for name in ("@list", "{1}", "-rf", " spaces ", "C:\\x", "a::b")),
    _text("names/" + "ö" * 125 + ".jpg"),
    _text("s3:/bucket.jpg"),
    _text("folder.jpg/inside.jpg"),
    _text("/".join([_TOO_LONG] * _LEVELS) + "/near-the-end.jpg"),
    # Hidden files and junk.
    _text(".hidden.jpg", fate="hidden"),
    _text("._resource-fork.jpg", fate="hidden"),
    _text(".thumbnails", empty_folder, "hidden"),
    _text(".thumbnails/inside.jpg", fate=""),
    *(_text(name, empty_folder, "junk") for name in ("@eaDir", "#recycle", "$RECYCLE.BIN")),
    *(_text(f"{name}/inside.jpg", fate="") for name in ("@eaDir", "#recycle", "$RECYCLE.BIN")),
    _text("lost+found", folder_without_rights, "junk"),
    _text("__MACOSX", empty_folder, "junk"),
    _text("Thumbs.db", fate="junk"),
    # Links.
    _text("links/to-a-file.jpg", link_to("../plain.jpg"), "links"),
    _text("links/to-a-folder", link_to("../names"), "links"),
    _text("links/up", link_to(".."), "links"),
    _text("links/broken.jpg", link_to("nowhere.jpg"), "links"),
    _text("links/itself.jpg", link_to("itself.jpg"), "links"),
    _text("links/hard.jpg", hard_link_to("plain.jpg")),
    _text("copies/one.jpg", copy_of("plain.jpg")),
    _text("copies/two.jpg", copy_of("plain.jpg")),
    # What is no file, cannot be read, or is too large.
    _text("special/pipe.jpg", pipe, "pipes, sockets or devices"),
    _text("special/socket.jpg", bound_socket, "pipes, sockets or devices"),
    _text("special/sparse.jpg", sparse, "IMAGE_TOO_LARGE"),
    _text("special/without-rights.jpg", file_without_rights, UNREADABLE),
    _text("special/folder-without-rights", folder_without_rights, ""),
    _text("empty-folder", empty_folder, ""),
]


def make_tree(root: Path) -> None:
    """All entries below a folder."""
    for entry in ENTRIES:
        path = root / os.fsdecode(entry.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        entry.make(path)


def run(root: Path) -> dict[bytes, str]:
    """What became of each entry: its fate, where it was as expected, else what it was instead."""
    indexer = Indexer()
    with serve(indexer=indexer) as target, tempfile.TemporaryDirectory() as kept:
        failures = Path(kept, "failures.jsonl")
        command = [sys.executable, "-m", "glimpse.cli.main", "index", str(root), "--json"]
        command += ["--failures", str(failures), "--indexer", target]
        ended = subprocess.run(
            [*_as_ordinary_user(), *command], capture_output=True, timeout=300, check=False
        )
        told = json.loads(ended.stdout)
        failed = [json.loads(line) for line in failures.read_text().splitlines()]
    is_folder_told = b"folder-without-rights: the folder cannot be read" in ended.stderr
    if ended.returncode != 1 or not is_folder_told:
        raise RuntimeError(ended.stderr.decode(errors="replace"))
    reasons = {_name(root, each["path"]): each["reason"] for each in failed}
    sent = {_name(root, image.uri) for image in indexer.images}
    expected = Counter(e.fate for e in ENTRIES if e.fate and e.fate.upper() != e.fate)
    as_expected = {why for why, count in expected.items() if told["passed_over"].get(why) == count}
    return {e.name: _fate(e, sent, reasons, as_expected) for e in ENTRIES}


def _fate(entry: Entry, sent: set[bytes], reasons: dict[bytes, str], as_expected: set[str]) -> str:
    if entry.name in sent:
        return SENT
    if entry.name in reasons:
        return reasons[entry.name]
    return entry.fate if entry.fate in as_expected or not entry.fate else "not told"


def _name(root: Path, uri: str) -> bytes:
    path = StoredImage("", uri=uri).path
    return os.fsencode(path.relative_to(root)) if path is not None else b"?"


def _as_ordinary_user() -> list[str]:
    """What takes from root the right to read everything."""
    if os.geteuid() != 0:
        return []
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"]


def fates() -> list[tuple[Entry, str]]:
    """Each entry, and what became of it in a tree of its own."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_tree(root)
        found = run(root)
    return [(entry, found[entry.name]) for entry in ENTRIES]


def show(entries: list[tuple[Entry, str]]) -> None:
    """The table of fates."""
    for entry, fate in entries:
        mark = "ok" if fate == entry.fate else f"NOT AS EXPECTED: {entry.fate}"
        print(f"{ascii(entry.name)[2:-1][:60]:60} {fate:26} {mark}")


if __name__ == "__main__":
    show(fates())
