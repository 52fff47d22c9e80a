"""Images for a cluster that reaches no registry: a stand-in for the official maubot image, and our Dockerfile on it.

    python -m tests.cluster.base_image BASE.tar [OWN.tar]

The stand-in has what matters of the official one: Python with pip, maubot and its packages, maubot itself in
/opt/maubot and in no site-packages, its web UI in /opt/maubot/frontend, no kubernetes. But it is made of Debian's
packages and PyPI's: its Python and C library are Debian's. Each image is made once and kept below ~/.cache, as
`ctr images import` takes it.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "maubot-k8s-toggle/images"

BASE = "dock.mau.dev/maubot/maubot:v0.6.0"
"""The official image's name, so that the chart's own values find the stand-in."""
OWN = "localhost/maubot-k8s-toggle:test"

PYTHON = "3.11"
"""Debian bookworm's."""
SITE = f"usr/local/lib/python{PYTHON}/dist-packages"
PACKAGES = ("python3", "python3-pip", "ca-certificates", "libolm3", "tini")
SYSTEM_FILES = ("/etc/pip.conf", "/etc/ssl/certs")
"""How this machine reaches the index; pip needs them while our image is built."""

CONTAINERFILE = """\
FROM scratch
COPY . /
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin UID=1337 GID=1337 XDG_CONFIG_HOME=/data
WORKDIR /opt/maubot
VOLUME /data
CMD ["/opt/maubot/docker/run.sh"]
"""

STORAGE = """\
[storage]
driver = "vfs"
graphroot = "{directory}/storage"
runroot = "{directory}/run"
"""


class Missing(Exception):
    """What the images are made with is not here; one sentence."""


def need(*programs: str) -> None:
    """Fail before anything is begun.

    Raises:
        Missing: a program, or the right to use it.
    """
    missing = [program for program in programs if not shutil.which(program)]
    if missing:
        raise Missing(f"{' and '.join(missing)} must be installed (Debian: apt install {' '.join(missing)})")
    if os.geteuid() != 0:
        raise Missing("images are made by root, because debootstrap and buildah change roots")


def run(*command: str | Path, **environment: str) -> None:
    """Run a program whose output is only of interest when it fails; standard output is for results."""
    done = subprocess.run(
        [str(word) for word in command],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode:
        sys.stderr.write(done.stdout)
        raise subprocess.CalledProcessError(done.returncode, str(command[0]))


def uv(*arguments: str | Path) -> None:
    run("bash", "-c", f'source "{REPOSITORY}/build.sh"; uv "$@"', "-", *arguments)


# The root file system


def debian(root: Path) -> None:
    """The smallest Debian that has Python and pip; without what only installing needs."""
    # In a mount namespace, so that /proc does not stay mounted below when it fails or is killed.
    command = ("debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", "bookworm", root)
    run("unshare", "--mount", *command)
    shutil.rmtree(root / "dev")
    (root / "dev").mkdir()
    for left in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale", "usr/share/man"):
        shutil.rmtree(root / left, ignore_errors=True)


def maubot_packages(site: Path) -> None:
    """maubot and what it needs, in the versions of our lock, without what only the plugin needs."""
    with tempfile.TemporaryDirectory() as scratch:
        wanted, lock = Path(scratch, "maubot.in"), Path(scratch, "maubot.txt")
        wanted.write_text("maubot[encryption]==0.6.0\n", encoding="utf-8")
        version, lock_of_all = ("--python-version", PYTHON), REPOSITORY / "requirements/runtime.txt"
        uv("pip", "compile", *version, "--generate-hashes", "--constraint", lock_of_all, wanted, "--output-file", lock)
        choice = ("--require-hashes", "--no-build", "--requirement", lock)
        uv("pip", "install", *version, "--target", site, *choice)


def lay_out(root: Path) -> None:
    """Move maubot to where the official image has it, and its web UI beside it."""
    home, site = root / "opt/maubot", root / SITE
    home.mkdir(parents=True)
    (site / "maubot").rename(home / "maubot")
    for left in site.glob("maubot-*.dist-info"):
        shutil.rmtree(left)
    shutil.copytree(home / "maubot/management/frontend/build", home / "frontend")
    (root / "data").mkdir()


# The images


def buildah(directory: Path) -> dict[str, str]:
    """The environment in which buildah keeps everything in `directory` and needs no rare privilege."""
    configuration = directory / "storage.conf"
    configuration.write_text(STORAGE.format(directory=directory), encoding="utf-8")
    return {"CONTAINERS_STORAGE_CONF": str(configuration), "BUILDAH_ISOLATION": "chroot"}


def make_base(directory: Path, target: Path) -> None:
    root = directory / "root"
    debian(root)
    maubot_packages(root / SITE)
    lay_out(root)
    file = directory / "Containerfile"
    file.write_text(CONTAINERFILE, encoding="utf-8")
    environment = buildah(directory)
    run("buildah", "build", "--file", file, "--tag", BASE, root, **environment)
    run("buildah", "push", BASE, f"docker-archive:{target}:{BASE}", **environment)


def make_own(directory: Path, target: Path) -> None:
    """Our Dockerfile, by ./build.sh image, on the stand-in."""
    environment = {**buildah(directory), "TOGGLE_IMAGE_BUILDER": "buildah"}
    run("buildah", "pull", f"docker-archive:{base_image()}", **environment)
    mounts = [f"--volume={path}:{path}:ro" for path in SYSTEM_FILES if Path(path).exists()]
    run(REPOSITORY / "build.sh", "image", "--base", BASE, "--tag", OWN, *mounts, **environment)
    run("buildah", "push", OWN, f"docker-archive:{target}:{OWN}", **environment)


@contextlib.contextmanager
def alone(name: str) -> Iterator[None]:
    """One process at a time makes it; what one that was killed left is removed."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left in CACHE.glob(f"{name}.*"):
            shutil.rmtree(left)
        yield


def kept(name: str, sources: list[Path], make: Callable[[Path, Path], None]) -> Path:
    """The archive of this name that was made of these sources; made if there is none, whole or not at all."""
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    target = CACHE / f"{name}-{digest}.tar"
    with alone(name):
        if not target.exists():
            need("buildah", "debootstrap", "unshare")
            with tempfile.TemporaryDirectory(dir=CACHE, prefix=f"{name}.") as scratch:
                make(Path(scratch), Path(scratch, "image.tar"))
                for old in CACHE.glob(f"{name}-*.tar"):
                    old.unlink()
                Path(scratch, "image.tar").rename(target)
    return target


def base_sources() -> list[Path]:
    return [Path(__file__), REPOSITORY / "requirements/runtime.txt"]


def base_image() -> Path:
    """The archive of the stand-in for the official image, as `BASE`."""
    return kept("base", base_sources(), make_base)


def own_image() -> Path:
    """The archive of what our Dockerfile makes of it, as `OWN`."""
    own = [REPOSITORY / "Dockerfile", REPOSITORY / "chart/files/requirements.txt"]
    return kept("own", [*base_sources(), *own], make_own)


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the images for the tests in a cluster.")
    parser.add_argument("base", type=Path, help="the archive of the stand-in for the official image")
    parser.add_argument("own", type=Path, nargs="?", help="the archive of our own image on top of it")
    arguments = parser.parse_args()
    try:
        shutil.copyfile(base_image(), arguments.base)
        if arguments.own:
            shutil.copyfile(own_image(), arguments.own)
    except (Missing, subprocess.CalledProcessError) as error:
        parser.exit(1, f"no image: {error}.\n")


if __name__ == "__main__":
    main()
