"""The images of a node's pods: by buildah from the Dockerfiles, on a base that debootstrap makes.

They are kept in the user's cache, as archives that containerd imports; layers are made again only
where their sources have changed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import glimpse
from glimpse.cli.console import say
from tests.cluster import toolchain
from tests.cluster.toolchain import Unavailable

PYTHON = "docker.io/library/glimpse-test-python:1"
PACKAGES = (
    "containerd",
    "runc",
    "containernetworking-plugins",
    "iptables",
    "ipset",
    "buildah",
    "debootstrap",
)
"""Debian's, that a node and its images need."""

_PROGRAMS = ("containerd", "ctr", "runc", "iptables", "ipset", "buildah", "debootstrap")
_DOCKERFILES = Path(__file__).parent / "dockerfiles"
_ROOT = Path(__file__).parents[2]
_AUTHORITIES = Path("etc/ssl/certs/ca-certificates.crt")
_DEBIAN = "bookworm"  # of the Dockerfiles' base image
_PYTHON_VERSION = (3, 11)  # Debian's, and that of the environment whose packages pods get


def check() -> None:
    """Raises Unavailable."""
    if os.geteuid() != 0:
        raise Unavailable("a node with real pods needs root, for namespaces and mounts")
    missing = [name for name in _PROGRAMS if shutil.which(name) is None]
    if missing:
        packages = " ".join(PACKAGES)
        raise Unavailable(f"{', '.join(missing)}: not here; Debian's packages: {packages}")
    if sys.version_info[:2] != _PYTHON_VERSION:
        wanted = ".".join(map(str, _PYTHON_VERSION))
        raise Unavailable(f"pods run this environment's packages with Python {wanted}, not ours")


class Images:
    """Images by name, and their archives; with `cuda`, the encoder's as it is deployed."""

    def __init__(self, cuda: bool = False) -> None:
        self._cuda = cuda
        self._folder = toolchain.cache() / "images"
        self._storage = toolchain.cache() / "buildah"

    def archives(self) -> list[Path]:
        """Those of the last `make`. Raises Unavailable."""
        found = sorted(self._folder.glob("*.tar"))
        if not found:
            raise Unavailable("there are no images here: `make cluster-pods` builds them")
        return found

    def make(self) -> None:
        """All images, from the code as it is now. Raises Unavailable, CalledProcessError."""
        check()
        self._folder.mkdir(parents=True, exist_ok=True)
        self._build(PYTHON, _DOCKERFILES / "python.Dockerfile", self._debian())
        for name, dockerfile in self._dockerfiles():
            say(f"Building the image {name} ...")
            self._build(name, dockerfile, _ROOT)
        with tempfile.TemporaryDirectory() as folder:
            shutil.copyfile(toolchain.COREDNS.path("coredns"), f"{folder}/coredns")
            os.chmod(f"{folder}/coredns", 0o755)
            self._build(
                "docker.io/library/glimpse-test-coredns:1",
                _DOCKERFILES / "coredns.Dockerfile",
                Path(folder),
            )

    def _dockerfiles(self) -> Iterator[tuple[str, Path]]:
        deployed = _ROOT / "deploy" / "docker"
        for service in ("query", "indexer"):
            yield _tagged(service), deployed / f"{service}.Dockerfile"
        encoders = deployed if self._cuda else _DOCKERFILES
        yield _tagged("encoder"), encoders / "encoder.Dockerfile"

    def _debian(self) -> Path:
        """The folder of root.tar: Debian with Python, installed once."""
        folder = self._folder / "debian"
        if not folder.exists():
            say("Installing Debian for the images ...")
            with tempfile.TemporaryDirectory(dir=self._folder) as name:
                root, new = Path(name) / "root", Path(name) / "new"
                packages = "--include=ca-certificates,python-is-python3,python3-pip"
                _run("debootstrap", "--variant=minbase", packages, _DEBIAN, str(root))
                shutil.copyfile("/" / _AUTHORITIES, root / _AUTHORITIES)
                new.mkdir()
                _run("tar", "--numeric-owner", "-cf", f"{new}/root.tar", "-C", str(root), ".")
                new.rename(folder)
        return folder

    def _build(self, image: str, dockerfile: Path, context: Path) -> None:
        wheels = Path.home() / ".cache" / "uv"  # what is here already is not fetched again
        wheels.mkdir(parents=True, exist_ok=True)
        self._buildah(
            *("build", "--isolation=chroot", "--network=host", "--pull-never"),
            *("--layers", "--force-rm"),
            *("--build-arg", f"PYTHON_IMAGE={PYTHON}", "--volume", f"{wheels}:/root/.cache/uv"),
            *("--file", str(dockerfile), "--tag", image, str(context)),
        )
        archive = self._archive(image)
        archive.unlink(missing_ok=True)
        self._buildah("push", image, f"docker-archive:{archive}:{image}")

    def _archive(self, image: str) -> Path:
        return self._folder / f"{image.rpartition('/')[2].partition(':')[0]}.tar"

    def _buildah(self, *words: str) -> str:
        storage = ("--root", str(self._storage / "root"), "--runroot", str(self._storage / "run"))
        # What it mounts goes with it.
        return _run("unshare", "--mount", "buildah", *storage, "--storage-driver=overlay", *words)


def _tagged(service: str) -> str:
    """As the manifests name it."""
    return f"docker.io/library/glimpse-{service}:{glimpse.__version__}"


def _run(*command: str) -> str:
    """What it wrote. Raises CalledProcessError; what it complains of is seen."""
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def main() -> int:
    """Builds all; returns UNAVAILABLE, after one line, where that cannot be."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.images")
    parser.add_argument("--cuda", action="store_true", help="the encoder's image as deployed, 6 GB")
    try:
        Images(parser.parse_args().cuda).make()
    except Unavailable as error:
        print(error, file=sys.stderr)
        return toolchain.UNAVAILABLE
    return 0


if __name__ == "__main__":
    sys.exit(main())
