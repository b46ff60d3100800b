"""Pictures behind URLs: in fsspec's memory, in files, in an S3 store on loopback."""

from __future__ import annotations

import http.server
import sys
import threading
import uuid

import pytest

from glimpse import fsspec_files
from glimpse.cli.console import CommandError
from glimpse.cli.metadata import read_metadata
from glimpse.cli.walk import find_pictures
from glimpse.errors import UnreadableFile
from glimpse.results import ImageFile

NAMES = ("a.png", "b.JPG", "deep/c.webp", "deep/notes.txt", "deep/.hidden/d.png", "odd")


@pytest.fixture(params=["memory", "file", "s3"])
def folder(request, tmp_path):
    """The URL of a folder with NAMES in it, each holding its own name."""
    import fsspec

    if request.param == "s3":
        url = request.getfixturevalue("bucket")
    elif request.param == "memory":
        url = f"memory:///{uuid.uuid4().hex}"
    else:
        url = tmp_path.as_uri()
    for name in NAMES:
        with fsspec.open(f"{url}/{name}", "wb", auto_mkdir=True) as file:
            file.write(name.encode())  # pyright: ignore[reportAttributeAccessIssue]
    return url


@pytest.fixture
def bucket(monkeypatch):
    import s3fs
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().mkdir("pictures")
    yield "s3://pictures/all"
    server.stop()
    s3fs.S3FileSystem.clear_instance_cache()


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
    image = ImageFile(url=f"{folder}/deep/c.webp")
    assert image.read() == b"deep/c.webp"
    assert image.address == f"{folder}/deep/c.webp"
    with pytest.raises(UnreadableFile, match=r"gone\.png cannot be read: no such object"):
        ImageFile(url=f"{folder}/gone.png").read()


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
    with pytest.raises(UnreadableFile, match=r"127.0.0.1:1/a.jpg cannot be read: Cannot connect"):
        fsspec_files.find("http://127.0.0.1:1/a.jpg", lambda _: True)
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
            assert fsspec_files.find(f"{url}/a.jpg", lambda _: True) == []
            with pytest.raises(UnreadableFile, match="cannot be read: no such object"):
                fsspec_files.read(f"{url}/a.jpg")
            with pytest.raises(UnreadableFile, match="403"):
                fsspec_files.find(f"{url}/secret.jpg", lambda _: True)
        finally:
            server.shutdown()
