"""Pictures behind URLs: in fsspec's memory, in files, in an S3 store on loopback."""

from __future__ import annotations

import http.server
import sys
import threading
import uuid
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

import pytest

from glimpse import fsspec_files
from glimpse.cli.console import CommandError
from glimpse.cli.metadata import read_metadata
from glimpse.cli.walk import find_pictures
from glimpse.errors import InvalidInput, UnreadableFile
from glimpse.results import ImageFile

NAMES = ("a.png", "b.JPG", "deep/c.webp", "deep/notes.txt", "deep/.hidden/d.png", "odd")


@pytest.fixture(params=["memory", "s3"])
def folder(request):
    """The URL of a folder with NAMES in it, each holding its own name."""
    import fsspec

    if request.param == "s3":
        url = request.getfixturevalue("bucket")
    else:
        url = f"memory:///{uuid.uuid4().hex}"
    for name in NAMES:
        with fsspec.open(f"{url}/{name}", "wb", auto_mkdir=True) as file:
            file.write(name.encode())  # pyright: ignore[reportAttributeAccessIssue]
    return url


@pytest.fixture
def s3_at(monkeypatch):
    """Has s3:// mean the store at an address."""
    import s3fs

    def use(address):
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "test")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        s3fs.S3FileSystem.clear_instance_cache()

    yield use
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def bucket(s3_at):
    import s3fs
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    s3_at("http://{}:{}".format(*server.get_host_and_port()))
    name = f"pictures-{uuid.uuid4().hex}"
    s3fs.S3FileSystem().mkdir(name)
    yield f"s3://{name}/all"
    server.stop()


def found(folder, *arguments):
    pictures = [str(picture) for picture in find_pictures(arguments)]
    assert all(picture.startswith(f"{folder}/") for picture in pictures)
    return [picture.removeprefix(f"{folder}/") for picture in pictures]


def test_folders_patterns_and_objects_are_found_and_read_by_url(folder):
    assert found(folder, folder) == ["a.png", "b.JPG", "deep/c.webp"]
    assert found(folder, f"{folder}/*.png") == ["a.png"]
    assert found(folder, f"{folder}/**/*.webp") == ["deep/c.webp"]
    assert found(folder, f"{folder}/odd", f"{folder}/odd") == ["odd"]
    with pytest.raises(CommandError, match="no such object"):
        found(folder, f"{folder}/gone")
    assert found(folder, f"{folder}/**") == ["a.png", "b.JPG", "deep/c.webp"]
    image = ImageFile(url=f"{folder}/deep/c.webp")
    assert image.read() == b"deep/c.webp"
    assert image.address == f"{folder}/deep/c.webp"
    with pytest.raises(UnreadableFile, match=r"gone\.png cannot be read: no such object"):
        ImageFile(url=f"{folder}/gone.png").read()
    assert image.read(len("deep/c.webp")) == b"deep/c.webp"
    with pytest.raises(InvalidInput, match="do not fit"):
        image.read(3)


class Pages(http.server.BaseHTTPRequestHandler):
    """A store with one flat folder of many pages, a thousand objects each."""

    protocol_version = "HTTP/1.1"
    COUNT = 5
    given: ClassVar[list[int]] = []

    def do_HEAD(self):
        self._answer(404, b"")

    def do_GET(self):
        asked = parse_qs(urlsplit(self.path).query)
        number = int(asked.get("continuation-token", ["0"])[0])
        count = int(asked.get("max-keys", ["1000"])[0])
        objects = "".join(
            f"<Contents><Key>flat/{number}{each:04}.jpg</Key><Size>1</Size>"
            "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
            for each in range(count)
        )
        more = f"<NextContinuationToken>{number + 1}</NextContinuationToken>"
        is_last = number + 1 == self.COUNT
        body = (
            f"<ListBucketResult><IsTruncated>{'false' if is_last else 'true'}</IsTruncated>"
            f"{'' if is_last else more}{objects}</ListBucketResult>"
        )
        if count == 1_000:
            self.given.append(number)
        self._answer(200, body.encode())

    def _answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def test_the_first_object_of_a_flat_folder_comes_before_the_second_page(s3_at):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pages) as server:
        threading.Thread(target=server.serve_forever).start()
        s3_at(f"http://127.0.0.1:{server.server_port}")
        try:
            pictures = find_pictures(["s3://bucket/flat"])
            assert next(pictures) == "s3://bucket/flat/00000.jpg"
            assert Pages.given == [0]
            assert sum(1 for _ in pictures) == 1_000 * Pages.COUNT - 1
            assert Pages.given == [*range(Pages.COUNT)]
        finally:
            server.shutdown()


def test_names_with_signs_of_patterns_and_addresses_are_taken_as_they_are(folder):
    import fsspec

    names = ("x[1].png", "a#b.png", "50%20.png", "what?.png", "empty.png")
    for name in names:
        with fsspec.open(f"{folder}/names/{name}", "wb", auto_mkdir=True) as file:
            file.write(b"" if name == "empty.png" else name.encode())  # pyright: ignore[reportAttributeAccessIssue]
    assert found(folder, f"{folder}/names") == [f"names/{name}" for name in sorted(names)]
    for name in names:
        assert found(folder, f"{folder}/names/{name}") == [f"names/{name}"]
        content = ImageFile(url=f"{folder}/names/{name}").read(100)
        assert content == (b"" if name == "empty.png" else name.encode())


def test_an_object_store_that_stumbles_is_asked_again(monkeypatch):
    from fsspec.implementations.memory import MemoryFileSystem

    MemoryFileSystem().pipe("/stumbling/x.png", b"x")
    monkeypatch.setattr(fsspec_files, "_FIRST_PAUSE_S", 0.001)
    whole, errors = MemoryFileSystem.cat_file, [OSError("reset"), TimeoutError()]

    def cat_file(*arguments, **options):
        if errors:
            raise errors.pop()
        return whole(*arguments, **options)

    monkeypatch.setattr(MemoryFileSystem, "cat_file", cat_file)
    assert ImageFile(url="memory:///stumbling/x.png").read(10) == b"x"


def test_lists_of_failures_and_metadata_name_objects_by_url(tmp_path):
    (tmp_path / "failed.jsonl").write_text('{"path": "s3://b/x.png"}\nmemory://y.png\nz.png\n')
    listed = [str(each) for each in find_pictures([f"@{tmp_path / 'failed.jsonl'}"])]
    assert listed == ["s3://b/x.png", "memory://y.png", "z.png"]
    (tmp_path / "about.csv").write_text("path,year\ns3://b/x.png,1999\n")
    assert read_metadata(tmp_path / "about.csv") == {"s3://b/x.png": {"year": 1999}}


def test_without_fsspec_one_sentence_says_what_to_install(monkeypatch):
    for name in ("fsspec", "fsspec.core"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UnreadableFile, match="pip install fsspec s3fs") as raised:
        fsspec_files.read("s3://bucket/x.png")
    assert raised.value.reason == "EXTRA_MISSING"
    with pytest.raises(CommandError, match="pip install fsspec s3fs"):
        list(find_pictures(["s3://bucket/folder"]))


def test_a_store_whose_package_is_missing_is_named_with_the_package():
    with pytest.raises(CommandError, match="gcsfs"):
        list(find_pictures(["gs://bucket/folder"]))


def test_an_unknown_protocol_is_named():
    with pytest.raises(CommandError, match="nonsense"):
        list(find_pictures(["nonsense://x"]))


def test_a_web_server_that_is_away_is_no_missing_object():
    with pytest.raises(CommandError, match=r"127.0.0.1:1/a.jpg cannot be read: Cannot connect"):
        list(find_pictures(["http://127.0.0.1:1/a.jpg"]))
    with pytest.raises(UnreadableFile, match="cannot be read: Cannot connect"):
        fsspec_files.read("http://127.0.0.1:1/a.jpg")


def test_a_picture_that_a_web_server_does_not_have_or_give_is_told_apart(tmp_path):
    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            self.send_error(403 if "secret" in self.path else 404)

        do_HEAD = do_GET

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        url = f"http://127.0.0.1:{server.server_port}"
        try:
            with pytest.raises(CommandError, match="no such object"):
                list(find_pictures([f"{url}/a.jpg?size=[1]"]))
            with pytest.raises(UnreadableFile, match="cannot be read: no such object"):
                fsspec_files.read(f"{url}/a.jpg")
            with pytest.raises(CommandError, match="403"):
                list(find_pictures([f"{url}/secret.jpg"]))
        finally:
            server.shutdown()
