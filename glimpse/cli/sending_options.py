"""Options of the commands that send pictures, `glimpse index` and `glimpse sync`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from glimpse.cli.addresses import MAX_S

MetadataOption = Annotated[
    Path | None,
    typer.Option(
        "--metadata",
        metavar="FILE",
        help='Metadata by "path": a .jsonl file of objects or a .csv file with a header.',
    ),
]
FailuresOption = Annotated[
    Path | None,
    typer.Option(
        "--failures",
        metavar="FILE",
        help="Write failed paths and reasons here, for @FILE later.",
    ),
]
IncludeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--include",
        metavar="PATTERN",
        help="Also take what would be passed over, by its name or by its path below the folder. "
        "May be repeated.",
    ),
]
ExcludeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude",
        metavar="PATTERN",
        help="Pass over files and folders, by their name or by their path below the folder. "
        "May be repeated.",
    ),
]
FollowLinksOption = Annotated[
    bool, typer.Option("--follow-links", help="Take what links in folders lead to, each once.")
]
VerboseOption = Annotated[
    bool, typer.Option("--verbose", "-v", help="List what is passed over, and why.")
]
PatienceOption = Annotated[
    float,
    typer.Option(
        "--patience",
        min=0,
        max=MAX_S,
        metavar="SECONDS",
        help="How long to continue without progress.",
    ),
]
ReadsOption = Annotated[
    int,
    typer.Option(
        "--reads",
        min=1,
        max=1_024,
        metavar="N",
        help="How many files or objects are read at once: more where each takes long to come.",
    ),
]
