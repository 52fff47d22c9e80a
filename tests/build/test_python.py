"""Which Python is taken, and what Debian has to add; small programs on PATH play the parts."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from .conftest import Checkout

CHOOSE = 'choose_python; echo "$PYTHON $PYTHON_RELEASE"'

# What build.sh's functions call in these tests, besides the shell's own commands.
PROGRAMS = ("dirname", "env", "cat")

# A real Python that says it is another one.
DISGUISED = """\
#!/bin/sh
exec {python} -I -c '
import importlib.util, platform, sys
sys.version_info, sys.executable = ({major}, {minor}, 9, "final", 0), "{path}"
platform.python_version = lambda: "{major}.{minor}.9"
find = importlib.util.find_spec
importlib.util.find_spec = lambda name: None if name in "{lacks}".split() else find(name)
exec(sys.argv[1])' "$3"
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A directory for PATH in which nothing is found but a few programs that every system has."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in PROGRAMS:
        found = shutil.which(name)
        assert found
        (programs / name).symlink_to(found)
    return programs


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def python(path: Path, version: str, lacks: str = "") -> Path:
    major, minor = version.split(".")
    text = DISGUISED.format(python=sys.executable, path=path, major=major, minor=minor, lacks=lacks)
    return program(path, text)


def shim(path: Path) -> Path:
    """As pyenv's is, for a version that is not active."""
    return program(path, f'#!/bin/sh\necho "pyenv: {path.name}: command not found" >&2\nexit 127\n')


def chosen(checkout: Checkout, *directories: Path, named: str = "") -> str:
    searched = ":".join(map(str, directories))
    done = checkout.source(CHOOSE, PATH=searched, TOGGLE_PYTHON=named)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def refused(checkout: Checkout, *directories: Path, named: str = "") -> str:
    searched = ":".join(map(str, directories))
    done = checkout.source(CHOOSE, PATH=searched, TOGGLE_PYTHON=named)
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr


def test_the_newest_is_taken(checkout: Checkout, path: Path) -> None:
    for version in ("3.9", "3.10", "3.11", "3.12", "3.13", "3.14"):
        python(path / f"python{version}", version)
    assert chosen(checkout, path) == f"{path}/python3.12 3.12.9"


def test_a_shim_that_does_not_run_is_passed_over(checkout: Checkout, path: Path) -> None:
    shim(path / "python3.12")
    python(path / "python3.11", "3.11")
    assert chosen(checkout, path) == f"{path}/python3.11 3.11.9"


def test_behind_a_shim_the_same_name_may_run(checkout: Checkout, path: Path, tmp_path: Path) -> None:
    shim(tmp_path / "shims/python3.12")
    python(path / "python3.12", "3.12")
    python(tmp_path / "shims/python3.11", "3.11")
    assert chosen(checkout, tmp_path / "shims", path) == f"{path}/python3.12 3.12.9"


def test_a_plain_python3_counts(checkout: Checkout, path: Path) -> None:
    python(path / "python3", "3.12")
    python(path / "python3.11", "3.11")
    assert chosen(checkout, path) == f"{path}/python3 3.12.9"


def test_a_name_that_lies_is_not_believed(checkout: Checkout, path: Path) -> None:
    python(path / "python3.12", "3.13")
    python(path / "python3.10", "3.10")
    assert chosen(checkout, path) == f"{path}/python3.10 3.10.9"


def test_a_whole_older_one_is_better_than_a_newer_one_without_ensurepip(checkout: Checkout, path: Path) -> None:
    python(path / "python3.12", "3.12", lacks="ensurepip")
    python(path / "python3.10", "3.10")
    assert chosen(checkout, path) == f"{path}/python3.10 3.10.9"


def test_without_one_it_says_what_to_install(checkout: Checkout, path: Path) -> None:
    python(path / "python3", "3.13")
    shim(path / "python3.12")
    said = refused(checkout, path)
    assert "3.12 3.11 3.10" in said
    assert "apt install python3-venv" in said


def test_without_ensurepip_it_says_so(checkout: Checkout, path: Path) -> None:
    python(path / "python3.11", "3.11", lacks="ensurepip")
    said = refused(checkout, path)
    assert f"{path}/python3.11" in said
    assert "ensurepip" in said


def test_toggle_python_is_obeyed(checkout: Checkout, path: Path, tmp_path: Path) -> None:
    python(path / "python3.12", "3.12")
    mine = python(tmp_path / "mine", "3.10")
    assert chosen(checkout, path, named=str(mine)) == f"{mine} 3.10.9"


@pytest.mark.parametrize("version", ["3.9", "3.13"])
def test_toggle_python_of_another_version_is_refused(checkout: Checkout, path: Path, version: str) -> None:
    python(path / "python3.12", "3.12")
    mine = python(path / "mine", version)
    assert f"TOGGLE_PYTHON={mine} " in refused(checkout, path, named=str(mine))


def test_debians_missing_half_is_installed(checkout: Checkout, path: Path) -> None:
    program(path / "id", "#!/bin/sh\necho 0\n")
    program(path / "apt-get", '#!/bin/sh\necho "$DEBIAN_FRONTEND: $*" >>"$LOG"\n')
    log = path / "log"
    script = "describe_python() { [[ -e $LOG ]] && w=yes || w=no; echo 3.11 3.11.2 $w /usr/bin/python3.11; }; " + CHOOSE
    program(path / "python3.11", "")
    done = checkout.source(script, without=("TOGGLE_PYTHON",), PATH=str(path), LOG=str(log))
    assert done.stdout == "/usr/bin/python3.11 3.11.2\n", done.stderr
    assert log.read_text().splitlines()[-1].endswith("python3.11-venv")


@pytest.mark.parametrize(
    ("present", "installed"),
    [((), "chromium kubernetes-client"), (("chromium",), "kubernetes-client"), (("kubectl",), "chromium")],
)
def test_only_missing_commands_are_installed(
    checkout: Checkout, path: Path, present: tuple[str, ...], installed: str
) -> None:
    program(path / "id", "#!/bin/sh\necho 0\n")
    program(path / "apt-get", '#!/bin/sh\necho "$DEBIAN_FRONTEND: $*"\n')
    for name in present:
        program(path / name, "")
    done = checkout.source("system_packages", PATH=str(path))
    assert (done.returncode, done.stdout) == (0, ""), "progress belongs on standard error"
    assert done.stderr.splitlines()[1:] == [
        "noninteractive: update -q",
        f"noninteractive: install -qy --no-install-recommends {installed}",
    ]


def test_nothing_is_installed_when_nothing_is_missing(checkout: Checkout, path: Path) -> None:
    for name in ("chromium", "kubectl"):
        program(path / name, "")
    done = checkout.source("system_packages", PATH=str(path))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_an_ordinary_user_installs_with_sudo(checkout: Checkout, path: Path) -> None:
    program(path / "id", "#!/bin/sh\necho 1000\n")
    program(path / "apt-get", '#!/bin/sh\necho "$AS: $*"\n')
    program(path / "sudo", '#!/bin/sh\n[ "$1" = -n ] && shift\n[ "$1" = true ] || AS=sudo "$@"\n')
    done = checkout.source("system_packages", PATH=str(path))
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[1].startswith("sudo: update")


@pytest.mark.parametrize(
    ("programs", "said"),
    [
        ({"id": "echo 1000", "apt-get": ":"}, "as root: apt-get install chromium kubernetes-client"),
        ({"id": "echo 1000", "apt-get": ":", "sudo": "exit 1"}, "as root: apt-get install chromium kubernetes-client"),
        ({"id": "echo 0"}, "chromium kubernetes-client"),
        ({"id": "echo 0", "apt-get": "exit 100"}, "apt-get could not"),
    ],
)
def test_where_nothing_can_be_installed_it_says_what_is_missing(
    checkout: Checkout, path: Path, programs: dict[str, str], said: str
) -> None:
    for name, line in programs.items():
        program(path / name, f"#!/bin/sh\n{line}\n")
    done = checkout.source("system_packages", PATH=str(path))
    assert done.returncode == 1
    assert said in done.stderr.splitlines()[-1]
