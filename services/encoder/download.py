"""Where weights come from: the bundled model, a file or folder, or published ones, fetched once.

What is in the file is checkpoint.py's job. A fetch goes on where the last one was cut off, is
checked against the published SHA-256, and is put in place in one step, so that a file in the cache
folder is always whole.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests
from filelock import FileLock

from glimpse.backoff import backoff_s
from glimpse.files import sha256_of
from services.encoder import hub
from services.encoder.shape import Activation

DEMO_MODEL = Path(__file__).parents[2] / "demo" / "model" / "clip-drawn-world.pt"

_OPENAI_URL = "https://openaipublic.azureedge.net/clip/models"

_ATTEMPTS = 5
_CONNECT_TIMEOUT_S, _READ_TIMEOUT_S = 10, 60
_BLOCK_BYTES = 2**18
_FIRST_PAUSE_S = 0.5
_CUT_OFF = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
)

log = logging.getLogger(__name__)


class DownloadError(Exception):
    """The weights are not there and cannot be fetched; the message says which file to put where."""


@dataclass(frozen=True)
class WeightsFile:
    """Weights on this machine: a file, or a folder of files."""

    name: str  # for people, such as "ViT-B/32"
    path: Path
    sha256: str | None = None  # as published; None for weights of one's own
    activation: Activation | None = None  # where the name says it


BUNDLED = WeightsFile("demo", DEMO_MODEL, activation="quick_gelu")

# Names, files and SHA-256 of OpenAI's checkpoints; source: openai/CLIP, clip/clip.py.
_OFFICIAL = {
    "RN50": ("RN50.pt", "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762"),
    "RN101": ("RN101.pt", "8fa8567bab74a42d41c5915025a8e4538c3bdbe8804a470a72f30b0d94fab599"),
    "RN50x4": ("RN50x4.pt", "7e526bd135e493cef0776de27d5f42653e6b4c8bf9e0f653bb11773263205fdd"),
    "RN50x16": ("RN50x16.pt", "52378b407f34354e150460fe41077663dd5b39c54cd0bfd2b27167a4a06ec9aa"),
    "RN50x64": ("RN50x64.pt", "be1cfb55d75a9666199fb2206c106743da0f6468c9d327f3e0d0a543a9919d9c"),
    "ViT-B/32": ("ViT-B-32.pt", "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af"),
    "ViT-B/16": ("ViT-B-16.pt", "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f"),
    "ViT-L/14": ("ViT-L-14.pt", "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836"),
    "ViT-L/14@336px": (
        "ViT-L-14-336px.pt",
        "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02",
    ),
}


OPENAI_SHA256 = frozenset(sha256 for _, sha256 in _OFFICIAL.values())
"""Of the archives of openai/CLIP, wherever they came from."""


def official_names() -> list[str]:
    """The names that `locate` fetches."""
    return [*_OFFICIAL, *hub.REPOSITORIES]


def locate(model: str, cache_dir: Path, base_url: str) -> WeightsFile:
    """Return the weights of `model`: "demo", a published name, or the path of a file or folder.

    Published weights are fetched into `cache_dir` unless they are there; from `base_url`, if that
    is not empty, laid out as the place that they are published in. Raises DownloadError; there is
    never another model in place of the one asked for.
    """
    if model == "demo":
        return BUNDLED
    if model in _OFFICIAL:
        file_name, sha256 = _OFFICIAL[model]
        path = cache_dir.expanduser() / file_name
        base_url = (base_url or _OPENAI_URL).rstrip("/")
        fetch(f"{base_url}/{sha256}/{file_name}", path, sha256, model)
        return WeightsFile(model, path, sha256)
    if model in hub.REPOSITORIES:
        folder = cache_dir.expanduser() / model.replace("/", "--")
        base_url = (base_url or hub.HUB_URL).rstrip("/")
        fetch_folder(hub.REPOSITORIES[model], folder, base_url, model)
        return WeightsFile(model, folder)
    path = Path(model).expanduser()
    if path.is_dir():
        return WeightsFile(path.resolve().name, path)
    if not path.is_file():
        names = ", ".join(official_names())
        raise DownloadError(
            f"{model!r} is neither a file, a folder nor a model: use demo, a path, or {names}"
        )
    return WeightsFile(path.stem, path)


def fetch(
    url: str,
    path: Path,
    sha256: str,
    name: str,
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """Put the file at `url`, whose SHA-256 is known, at `path`; nothing to do if it is there.

    Several processes may call it for one path at once: one fetches, the others wait. Raises
    DownloadError after a few attempts, each of which goes on where the one before ended.
    """
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(path.name + ".lock")):
            if path.exists():
                return
            _download_part(url, part, pause)
            found = sha256_of(part)
            if found != sha256:
                part.unlink()
                raise DownloadError(f"the downloaded file has SHA-256 {found}")
            os.replace(part, path)
    except (requests.RequestException, OSError, DownloadError) as error:
        raise DownloadError(
            f"cannot download the weights of {name} from {url}: {_in_short(error)}. "
            f"Put the file {path.name} (SHA-256 {sha256}) into {path.parent} and start again"
        ) from error


def fetch_folder(repository: hub.Repository, folder: Path, base_url: str, name: str) -> None:
    """Put a repository's files into `folder`; nothing to do if they are there.

    The weights come last: where they are, the others are. Raises DownloadError.
    """
    if any((folder / file).exists() for file in repository.weights):
        return None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file in repository.files:
            _fetch_of(repository, file, folder, base_url, name)
        for file in repository.weights:
            try:
                return _fetch_of(repository, file, folder, base_url, name)
            except hub.NotThere:
                if file == repository.weights[-1]:
                    raise
    except (requests.RequestException, OSError) as error:
        raise DownloadError(
            f"cannot download {name} from {base_url}/{repository.path}: {_in_short(error)}. Put "
            f"its files ({repository.names()}) into {folder} and start again"
        ) from error


def _fetch_of(
    repository: hub.Repository, file: str, folder: Path, base_url: str, name: str
) -> None:
    sha256 = hub.pointed_sha256(repository, file, folder, base_url)
    if sha256 is not None:
        fetch(hub.file_url(repository, file, base_url), folder / file, sha256, name)


def _in_short(error: BaseException) -> str:
    """What the operating system said, where that lies at the bottom of wrapped errors."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, OSError) and inner.strerror:
            return inner.strerror.lower()
        inner = inner.__cause__ or inner.__context__
    return str(error)


def _download_part(url: str, part: Path, pause: Callable[[float], None]) -> None:
    for attempt in range(1, _ATTEMPTS + 1):
        before_bytes = _size_bytes(part)
        try:
            _append_rest(url, part)
        except _CUT_OFF as error:
            if attempt == _ATTEMPTS:
                raise
            has_begun = _size_bytes(part) != before_bytes
            what = "was interrupted, resuming" if has_begun else "does not come yet, trying again"
            log.warning("%s %s: %s", part.stem, what, _in_short(error))
            pause(backoff_s(attempt, _FIRST_PAUSE_S))
        else:
            return


def _append_rest(url: str, part: Path) -> None:
    """Ask for the bytes that are missing from `part` and append them."""
    have_bytes = _size_bytes(part)
    headers = {"Range": f"bytes={have_bytes}-"} if have_bytes else {}
    headers["Accept-Encoding"] = "identity"  # a compressed body has other offsets
    timeout = (_CONNECT_TIMEOUT_S, _READ_TIMEOUT_S)
    with requests.get(url, headers=headers, stream=True, timeout=timeout) as response:
        if have_bytes and response.status_code == 416:  # nothing is missing
            return
        response.raise_for_status()
        if response.status_code != 206:  # the server sends the whole file again
            have_bytes = 0
        total_bytes = have_bytes + int(response.headers.get("Content-Length", 0))
        with (
            part.open("ab" if have_bytes else "wb") as file,
            _progress(part.stem, have_bytes, total_bytes) as advance,
        ):
            for block in response.iter_content(_BLOCK_BYTES):
                file.write(block)
                advance(len(block))


def _size_bytes(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


@contextmanager
def _progress(title: str, have_bytes: int, total_bytes: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on a terminal, a log line per tenth elsewhere; yields advance(bytes)."""
    if sys.stderr.isatty():
        from tqdm import tqdm

        with tqdm(
            desc=title, initial=have_bytes, total=total_bytes, unit="B", unit_scale=True
        ) as bar:

            def show(count: int) -> None:
                bar.update(count)

            yield show
        return
    done_bytes, step_bytes = have_bytes, max(total_bytes // 10, 1)

    def advance(count: int) -> None:
        nonlocal done_bytes
        before, done_bytes = done_bytes, done_bytes + count
        if before // step_bytes != done_bytes // step_bytes:
            log.info("%s: %d of %d MB", title, done_bytes // 10**6, total_bytes // 10**6)

    yield advance
