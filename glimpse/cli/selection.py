"""Which of the files and folders that a walk finds are taken, by their names."""

from __future__ import annotations

import fnmatch
import os
import unicodedata
from dataclasses import dataclass

PICTURES = frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".gif", ".bmp", ".tif"),
        *(".tiff", ".avif", ".heic", ".heif", ".hif"),
    )
)
"""How pictures' names end. Camera raw files are none: what reads them finds their thumbnail."""

JUNK = frozenset(
    (
        *("@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "@tmp"),
        *("$recycle.bin", "recycler", "system volume information", "lost+found", "__macosx"),
        *("thumbs.db", "ehthumbs.db", "desktop.ini"),
    )
)
"""What storage devices and systems put beside people's files: thumbnails, bins, snapshots."""

HIDDEN, EXCLUDED, NO_ENDING = "hidden", "excluded", "without ending"
JUNK_REASON = "junk"
_MAX_ENDING = 9  # characters; what is longer is a name with a dot in it


@dataclass(frozen=True)
class Selection:
    """Patterns with *, ? and [ over names, or, where they hold a slash, over paths below the folder
    that is walked, in capitals or not. What `include` matches is taken though it is hidden, junk or
    no picture by its name; what `exclude` matches is not, and nothing below it."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    follow_links: bool = False

    def why_not(self, name: str, below: str, *, is_file: bool) -> str:
        """Why what is called `name`, and found at the path `below`, is passed over, in a word; ""
        where it is taken."""
        if self.exclude and _any_matches(self.exclude, name, below):
            return EXCLUDED
        if self.include and _any_matches(self.include, name, below):
            return ""
        if name.startswith("."):
            return HIDDEN
        if name.lower() in JUNK:
            return JUNK_REASON
        return _why_no_picture(name) if is_file else ""


def matches(name: str, pattern: str) -> bool:
    """Whether a name is as the pattern says, in whichever normal form of Unicode both are."""
    return fnmatch.fnmatch(normal(name), normal(pattern))


def normal(name: str) -> str:
    """The form in which names are compared: macOS writes é as two characters, others as one."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def _any_matches(patterns: tuple[str, ...], name: str, below: str) -> bool:
    return any(
        matches((below if "/" in each else name).lower(), each.strip("/").lower())
        for each in patterns
    )


def _why_no_picture(name: str) -> str:
    if name[name.rfind(".") :].lower() in PICTURES and name[0] != ".":
        return ""
    ending = os.path.splitext(name)[1].lower()
    if ending in PICTURES:
        return ""
    is_ending = 1 < len(ending) <= _MAX_ENDING and ending[1:].isalnum()
    return ending if is_ending else NO_ENDING
