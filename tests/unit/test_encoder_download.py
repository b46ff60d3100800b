"""Fetching weights from a real HTTP server on loopback that cuts, lies and refuses."""

from __future__ import annotations

import hashlib
import http.server
import logging
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from services.encoder import download
from services.encoder.download import DownloadError, fetch, locate

CONTENT = bytes(range(256)) * 8_000  # 2 MB
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Source(http.server.ThreadingHTTPServer):
    """Serves CONTENT at every path; tells which ranges were asked for."""

    content = CONTENT
    cut_after_bytes: int | None = None  # of each answer, until `cuts` is used up
    cuts = 0
    status: int | None = None
    takes_ranges = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.ranges: list[str | None] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Source

    def do_GET(self) -> None:
        source = self.server
        asked = self.headers.get("Range")
        source.ranges.append(asked)
        if source.status is not None:
            return self.send_error(source.status)
        begin = 0
        if asked and source.takes_ranges:
            begin = int(asked.removeprefix("bytes=").removesuffix("-"))
            if begin >= len(source.content):
                return self.send_error(416)
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(source.content) - begin))
        self.end_headers()
        body = source.content[begin:]
        if source.cuts > 0:
            source.cuts -= 1
            body = body[: source.cut_after_bytes]
        self.wfile.write(body)
        self.close_connection = True
        return None

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def source() -> Iterator[Source]:
    server = Source()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "weights.pt"


def get(source: Source, path: Path, sha256: str = SHA256) -> None:
    fetch(f"{source.url}/weights.pt", path, sha256, "ViT-Test", pause=lambda _: None)


def left_over(path: Path) -> set[str]:
    return {each.name for each in path.parent.iterdir()} - {path.name + ".lock"}


def test_a_file_is_fetched_once_and_put_in_place_whole(source, path, caplog) -> None:
    caplog.set_level(logging.INFO)
    get(source, path)
    get(source, path)
    assert path.read_bytes() == CONTENT
    assert source.ranges == [None]
    assert left_over(path) == {"weights.pt"}
    assert sum("of 2 MB" in line for line in caplog.messages) > 3, "progress is told"


def test_a_fetch_that_is_cut_goes_on_where_it_was(source, path) -> None:
    source.cuts, source.cut_after_bytes = 2, 600_000
    get(source, path)
    assert path.read_bytes() == CONTENT
    first, second, third = source.ranges
    assert first is None
    assert 0 < int(second.removeprefix("bytes=").removesuffix("-")) <= 600_000
    assert int(second[6:-1]) < int(third[6:-1]) <= 1_200_000


def test_the_next_start_goes_on_where_the_last_one_was_killed(source, path) -> None:
    path.parent.mkdir()
    path.with_name("weights.pt.part").write_bytes(CONTENT[:1_234_567])
    get(source, path)
    assert path.read_bytes() == CONTENT
    assert source.ranges == ["bytes=1234567-"]


def test_a_part_that_is_whole_already_is_taken(source, path) -> None:
    path.parent.mkdir()
    path.with_name("weights.pt.part").write_bytes(CONTENT)
    get(source, path)
    assert path.read_bytes() == CONTENT


def test_a_server_without_ranges_sends_the_file_anew(source, path) -> None:
    source.takes_ranges = False
    source.cuts, source.cut_after_bytes = 1, 600_000
    get(source, path)
    assert path.read_bytes() == CONTENT


def test_a_wrong_file_is_refused_and_not_kept(source, path) -> None:
    source.content = CONTENT[:-1] + b"\0"
    with pytest.raises(DownloadError, match="has SHA-256"):
        get(source, path)
    assert left_over(path) == set()
    source.content = CONTENT
    get(source, path)
    assert path.read_bytes() == CONTENT


def test_a_missing_file_is_told_at_once_with_what_to_put_where(source, path) -> None:
    source.status = 404
    with pytest.raises(DownloadError) as caught:
        get(source, path)
    message = str(caught.value)
    assert "404" in message
    for part in ("ViT-Test", source.url, "weights.pt", SHA256, str(path.parent)):
        assert part in message
    assert source.ranges == [None], "what is not there is not asked for again"


def test_only_what_had_begun_is_said_to_be_interrupted(source, path, caplog, monkeypatch) -> None:
    source.cuts, source.cut_after_bytes = 1, 600_000
    get(source, path)
    (line,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert line.startswith("weights.pt was interrupted, resuming: ")
    caplog.clear()
    path.unlink()

    def unresolved(*_: object, **__: object) -> None:
        raise requests.ConnectionError from socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(requests, "get", unresolved)
    with pytest.raises(DownloadError, match="name or service not known"):
        get(source, path)
    lines = {r.getMessage() for r in caplog.records if r.levelno == logging.WARNING}
    assert lines == {"weights.pt does not come yet, trying again: name or service not known"}


def test_no_network_is_told_with_what_to_put_where(path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/weights.pt"
    pauses: list[float] = []
    with pytest.raises(DownloadError) as caught:
        fetch(url, path, SHA256, "ViT-Test", pause=pauses.append)
    assert SHA256 in str(caught.value)
    assert str(path.parent) in str(caught.value)
    assert pauses == sorted(pauses)
    assert len(pauses) == 4
    assert not path.exists()


def test_a_folder_that_cannot_be_written_is_told(source, tmp_path) -> None:
    (tmp_path / "cache").write_text("a file, where the folder should be")
    with pytest.raises(DownloadError, match=r"weights\.pt"):
        get(source, tmp_path / "cache" / "weights.pt")


def test_several_processes_fetch_one_file_once(source, path) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: get(source, path), range(4)))
    assert path.read_bytes() == CONTENT
    assert source.ranges == [None]


def test_official_names_are_fetched_by_their_published_sha256(
    source, tmp_path, monkeypatch
) -> None:
    monkeypatch.setitem(download._OFFICIAL, "ViT-B/32", ("ViT-B-32.pt", SHA256))
    weights = locate("ViT-B/32", tmp_path, source.url + "/")
    assert (weights.name, weights.sha256) == ("ViT-B/32", SHA256)
    assert weights.path == tmp_path / "ViT-B-32.pt"
    assert weights.path.read_bytes() == CONTENT


class Hub(http.server.ThreadingHTTPServer):
    """As the hub has repositories: `raw` gives small files, and of large ones a pointer."""

    def __init__(self, small: dict[str, bytes], large: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), HubHandler)
        self.small, self.large = small, large
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class HubHandler(http.server.BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        *_, kind, branch, file = self.path.split("/")
        body = self.server.small.get(file)
        if file in self.server.large:
            body = self.server.large[file]
            if kind == "raw":
                sha256 = hashlib.sha256(CONTENT).hexdigest()
                body = f"version https://git-lfs/v1\noid sha256:{sha256}\nsize 7\n".encode()
        if body is None or branch != "main":
            return self.send_error(404)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        return None

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def hub() -> Iterator[Hub]:
    server = Hub({"open_clip_config.json": b"{}"}, {"open_clip_pytorch_model.bin": CONTENT})
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_name_of_the_hub_becomes_a_folder_whose_weights_are_the_published_ones(
    hub, tmp_path
) -> None:
    weights = locate("ViT-B-32/laion2b_s34b_b79k", tmp_path, hub.url)
    assert weights.name == "ViT-B-32/laion2b_s34b_b79k"
    assert (weights.path / "open_clip_config.json").read_bytes() == b"{}"
    assert (weights.path / "open_clip_pytorch_model.bin").read_bytes() == CONTENT
    hub.small.clear()  # what is there is not asked for again
    hub.large.clear()
    assert locate("ViT-B-32/laion2b_s34b_b79k", tmp_path, hub.url) == weights


def test_weights_of_the_hub_that_are_not_the_published_ones_are_refused(hub, tmp_path) -> None:
    hub.large["open_clip_pytorch_model.bin"] = CONTENT[:-1] + b"\0"
    with pytest.raises(DownloadError, match="has SHA-256"):
        locate("ViT-B-32/laion2b_s34b_b79k", tmp_path, hub.url)


def test_a_repository_that_cannot_be_had_is_told_with_what_to_put_where(hub, tmp_path) -> None:
    with pytest.raises(DownloadError) as caught:
        locate("siglip2-base-patch32-256", tmp_path, hub.url)
    for part in ("google/siglip2-base-patch32-256", "tokenizer.json", "model.safetensors"):
        assert part in str(caught.value)
    assert str(tmp_path / "siglip2-base-patch32-256") in str(caught.value)


def test_a_path_is_taken_as_it_is_and_an_unknown_name_is_refused(tmp_path) -> None:
    file = tmp_path / "mine.pt"
    file.write_bytes(b"x")
    assert locate(str(file), tmp_path, "http://127.0.0.1:1").path == file
    with pytest.raises(DownloadError, match="ViT-L/14@336px"):
        locate("ViT-Z/99", tmp_path, "http://127.0.0.1:1")


def test_the_bundled_model_needs_no_network(tmp_path) -> None:
    weights = locate("demo", tmp_path, "http://127.0.0.1:1")
    assert weights.path.parts[-3:] == ("demo", "model", "clip-drawn-world.pt")


def test_the_table_of_official_weights_is_that_of_the_clip_package() -> None:
    from importlib.util import find_spec

    package = find_spec("clip")
    assert package is not None
    assert package.submodule_search_locations
    source = (Path(package.submodule_search_locations[0]) / "clip.py").read_text()
    for name, (file_name, sha256) in download._OFFICIAL.items():
        assert (
            f'"{name}": "https://openaipublic.azureedge.net/clip/models/{sha256}/{file_name}"'
            in source
        )
    assert source.count("azureedge.net/clip/models/") == len(download._OFFICIAL)
