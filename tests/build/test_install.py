"""The chart's installation of the packages, with the real pip and index: whole or not at all, once, never forged."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.index import Index
from tests.stack.cluster.certificates import Certificates, write_certificates
from tests.stack.container import Container
from tests.stack.processes import LOOPBACK

from .conftest import REPOSITORY, VENVS

pytestmark = pytest.mark.timeout(600)

FILES = REPOSITORY / "chart/files"
PYTHON = VENVS / "tools/bin/python"
"""One with pip; the same as maubot's."""
NOWHERE = {"PIP_INDEX_URL": "https://somebody:hunter2@127.0.0.1:9/simple", "PIP_NO_INDEX": "0", "PIP_RETRIES": "0"}
"""An index that nobody listens for."""
INSTALL_SECONDS = 480
"""What a busy machine may take to fetch and unpack everything that the chart installs."""
OWN_PLACES = ("PIP_FIND_LINKS", "PYTHONPATH")
"""What this machine may add to the index."""


def command(requirements: Path, directory: Path) -> tuple[str, ...]:
    return (str(PYTHON), str(FILES / "install.py"), str(requirements), str(directory))


def variables(**more: str) -> dict[str, str]:
    return {**{name: value for name, value in os.environ.items() if name not in OWN_PLACES}, **more}


def install(requirements: Path, directory: Path, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(requirements, directory),
        env=variables(**more),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=INSTALL_SECONDS,
        check=False,
    )


def entry(name: str) -> str:
    """One package of the list, as a list of its own."""
    text = (FILES / "requirements.txt").read_text(encoding="utf-8")
    found = re.search(rf"^{name}==.*\n(?:    --hash.*\n)+", text, re.MULTILINE)
    assert found
    return found[0]


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return write(tmp_path / "small.txt", entry("idna"))


@pytest.fixture
def other(tmp_path: Path) -> Path:
    return write(tmp_path / "other.txt", entry("certifi"))


def names(directory: Path) -> set[str]:
    """What lies in the folder, without what is in it."""
    return {path.name for path in directory.iterdir()}


def packages(directory: Path) -> set[str]:
    return {path.name.split("-")[0] for path in (directory / "current").glob("*.dist-info")}


def folder(directory: Path) -> Path:
    return (directory / "current").resolve()


def test_it_installs_once_and_then_needs_no_network(small: Path, tmp_path: Path) -> None:
    done = install(small, tmp_path / "packages")
    assert done.returncode == 0, done.stdout
    assert packages(tmp_path / "packages") == {"idna"}
    again = install(small, tmp_path / "packages", **NOWHERE)
    assert (again.returncode, again.stdout) == (0, "install: the packages are there\n")


def test_another_list_replaces_what_was_there(small: Path, other: Path, tmp_path: Path) -> None:
    assert install(small, tmp_path / "packages").returncode == 0
    old = folder(tmp_path / "packages")
    assert install(other, tmp_path / "packages").returncode == 0
    assert packages(tmp_path / "packages") == {"certifi"}
    assert names(tmp_path / "packages") == {"current", folder(tmp_path / "packages").name}
    assert not old.exists()


def test_what_cannot_be_installed_leaves_the_old_in_place(small: Path, other: Path, tmp_path: Path) -> None:
    assert install(small, tmp_path / "packages").returncode == 0
    before = names(tmp_path / "packages")
    done = install(other, tmp_path / "packages", **NOWHERE)
    assert done.returncode == 1
    assert packages(tmp_path / "packages") == {"idna"}
    assert names(tmp_path / "packages") == before


def test_an_index_that_cannot_be_reached_is_said_without_its_password(small: Path, tmp_path: Path) -> None:
    done = install(small, tmp_path / "packages", **NOWHERE)
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1].startswith("install: the index cannot be reached")
    assert "hunter2" not in done.stdout


def test_a_file_with_another_hash_is_refused(small: Path, tmp_path: Path) -> None:
    forged = re.sub(r"sha256:[0-9a-f]{4}", "sha256:0000", small.read_text(encoding="utf-8"))
    done = install(write(small, forged), tmp_path / "packages")
    assert done.returncode == 1
    assert "another hash than the list" in done.stdout.splitlines()[-1]
    assert names(tmp_path / "packages") == set()


def test_a_package_without_a_hash_is_refused(small: Path, tmp_path: Path) -> None:
    done = install(write(small, small.read_text(encoding="utf-8").split(" ")[0] + "\n"), tmp_path / "packages")
    assert done.returncode == 1
    assert names(tmp_path / "packages") == set()


# An index of one's own


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    """A folder with the one file that the small list asks for."""
    command = (str(PYTHON), "-m", "pip", "--quiet", "download", "--no-deps", "--dest", str(tmp_path / "wheels"))
    subprocess.run((*command, entry("idna").split(" ")[0]), check=True, timeout=60, stdin=subprocess.DEVNULL)
    return tmp_path / "wheels"


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return write_certificates(tmp_path, [LOOPBACK])


@pytest.fixture
def index(wheels: Path, certificates: Certificates) -> Iterator[str]:
    """Its URL; it shows a certificate of a CA that nobody knows."""
    with Index((LOOPBACK, 0), wheels, certificates.certificate, certificates.key) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"https://{LOOPBACK}:{server.server_port}/simple"
        server.shutdown()
        thread.join()


def test_an_own_index_with_its_ca_does(small: Path, index: str, certificates: Certificates, tmp_path: Path) -> None:
    done = install(small, tmp_path / "packages", PIP_INDEX_URL=index, PIP_CERT=str(certificates.authority))
    assert done.returncode == 0, done.stdout
    assert packages(tmp_path / "packages") == {"idna"}


def test_an_index_of_an_unknown_ca_is_refused(small: Path, index: str, tmp_path: Path) -> None:
    done = install(small, tmp_path / "packages", PIP_INDEX_URL=index, PIP_RETRIES="0")
    assert done.returncode == 1
    assert "certificate is not trusted here" in done.stdout.splitlines()[-1]


def test_a_file_that_was_replaced_in_the_index_is_refused(
    small: Path, index: str, wheels: Path, certificates: Certificates, tmp_path: Path
) -> None:
    (wheel,) = wheels.glob("*.whl")
    wheel.write_bytes(wheel.read_bytes() + b"\0")
    done = install(small, tmp_path / "packages", PIP_INDEX_URL=index, PIP_CERT=str(certificates.authority))
    assert done.returncode == 1
    assert "another hash than the list" in done.stdout.splitlines()[-1]
    assert names(tmp_path / "packages") == set()


def test_an_index_without_the_package_is_said(
    other: Path, index: str, certificates: Certificates, tmp_path: Path
) -> None:
    done = install(other, tmp_path / "packages", PIP_INDEX_URL=index, PIP_CERT=str(certificates.authority))
    assert done.returncode == 1
    assert "has none of it" in done.stdout.splitlines()[-1]


def test_a_folder_that_cannot_be_used_is_one_sentence(small: Path, tmp_path: Path) -> None:
    done = install(small, write(tmp_path / "packages", "a file"))
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1].startswith(f"install: {tmp_path / 'packages'} cannot be used: ")
    assert "Traceback" not in done.stdout


@pytest.fixture
def unfinished(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A real installation of everything, caught while pip is at work; in a process group, as in a container."""
    directory = tmp_path / "packages"
    with subprocess.Popen(
        command(FILES / "requirements.txt", directory), env=variables(), start_new_session=True
    ) as process:
        deadline = time.monotonic() + 60
        while not list(directory.glob("unfinished/scratch/*")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield process
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def test_killed_in_the_middle_it_is_done_again(
    unfinished: subprocess.Popen[bytes], small: Path, tmp_path: Path
) -> None:
    os.killpg(unfinished.pid, signal.SIGKILL)
    assert unfinished.wait(10) == -signal.SIGKILL
    assert names(tmp_path / "packages") == {"unfinished"}
    done = install(small, tmp_path / "packages")
    assert done.returncode == 0, done.stdout
    assert names(tmp_path / "packages") == {"current", folder(tmp_path / "packages").name}


def test_sigterm_ends_it_at_once_and_leaves_nothing(unfinished: subprocess.Popen[bytes], tmp_path: Path) -> None:
    unfinished.terminate()
    assert unfinished.wait(5) == 143
    assert names(tmp_path / "packages") == set()


# maubot on what was installed


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that the chart installs."""
    directory = tmp_path_factory.mktemp("whole") / "packages"
    done = install(FILES / "requirements.txt", directory)
    assert done.returncode == 0, done.stdout
    return directory / "current"


def test_nothing_is_missing_in_it(whole: Path) -> None:
    """A Python that has pip, and no package of maubot's that could stand in."""
    environment = {**os.environ, "PYTHONPATH": str(whole)}
    for arguments in (("-m", "pip", "check"), ("-c", "import kubernetes.aio, kubernetes.aio.config")):
        subprocess.run((PYTHON, *arguments), env=environment, check=True, timeout=60, stdin=subprocess.DEVNULL)


PLUGIN = """
import kubernetes.aio, aiohttp, maubot
class Where(maubot.Plugin):
    pass
print("FOUND", kubernetes.aio.__file__, aiohttp.__file__, flush=True)
"""


def plugin() -> bytes:
    """An .mbp that says where the packages come from, as soon as maubot loads it."""
    meta = "maubot: 0.6.0\nid: org.example.where\nversion: 1.0.0\nlicense: MIT\nmodules: [where]\nmain_class: Where\n"
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("maubot.yaml", meta)
        archive.writestr("where.py", PLUGIN)
    return packed.getvalue()


async def test_maubot_runs_on_it(whole: Path, tmp_path: Path) -> None:
    container = Container(tmp_path, {"PYTHONPATH": str(whole)})
    async with container.running(), container.api() as api:
        await api.upload_plugin(plugin())
        await api.reload_plugin("org.example.where")
        found = next(line for line in container.lines() if line.startswith("FOUND"))
    assert found.split()[1:] == [str(whole / "kubernetes/aio/__init__.py"), str(whole / "aiohttp/__init__.py")]
