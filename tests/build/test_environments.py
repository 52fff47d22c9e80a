"""The virtual environments: exactly what a lock says, made again when it changed, never half; and the locks."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import REPOSITORY, Checkout, copy_of_build

MAKE = "environments maubot"

REQUIREMENT = re.compile(r"^([a-z0-9-]+)==(\S+)(.*?) \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.MULTILINE)

LOCKS = ("tools", "runtime", "stack", "dev", "synapse", "chart", "helm")


def lock(name: str) -> str:
    return (REPOSITORY / "requirements" / f"{name}.txt").read_text(encoding="utf-8")


def pinned(name: str) -> set[tuple[str, str, str]]:
    """Name, version and marker of all that a lock holds."""
    return {(match[1], match[2], match[3]) for match in REQUIREMENT.finditer(lock(name))}


def entry(name: str) -> str:
    """One package of the tests' lock, as a lock of its own."""
    return next(match.group(0) for match in REQUIREMENT.finditer(lock("dev")) if match.group(1) == name)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout whose environment `maubot` holds one small package; its tools are made once for all tests here."""
    environment = {**os.environ, "TOGGLE_PYTHON": sys.executable}
    environment.pop("TOGGLE_VENVS", None)
    checkout = Checkout(copy_of_build(tmp_path_factory.mktemp("small") / "checkout"), environment)
    done = checkout.source("environments tools")
    assert done.returncode == 0, done.stderr
    return checkout


@pytest.fixture
def fresh(small: Checkout) -> Checkout:
    """The same with the environment just made."""
    small.write("requirements/runtime.txt", entry("iniconfig"))
    done = small.source(f'rm -rf "$VENVS/maubot"; {MAKE}')
    assert done.returncode == 0, done.stderr
    assert "ready in" in done.stderr
    return small


def mark(checkout: Checkout) -> Path:
    """A file that disappears when the environment is made again."""
    return checkout.write(".venv/maubot/mark", "")


def packages(checkout: Checkout) -> set[str]:
    found = (checkout.root / ".venv/maubot").glob("lib/python3*/site-packages/*.dist-info")
    return {path.name.split("-")[0] for path in found}


def test_it_holds_exactly_what_the_lock_says(fresh: Checkout) -> None:
    python = fresh.root / ".venv/maubot/bin/python"
    subprocess.run([python, "-c", "import iniconfig"], check=True, timeout=30)
    assert packages(fresh) == {"iniconfig"}


def test_it_is_kept_while_nothing_changed(fresh: Checkout) -> None:
    kept = mark(fresh)
    done = fresh.source(MAKE)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert kept.exists()


def test_another_lock_makes_it_again(fresh: Checkout) -> None:
    kept = mark(fresh)
    fresh.write("requirements/runtime.txt", entry("pluggy"))
    assert fresh.source(MAKE).returncode == 0
    assert not kept.exists()
    assert packages(fresh) == {"pluggy"}


def test_one_of_another_python_does_not_count(fresh: Checkout) -> None:
    assert fresh.source("choose_python; is_ready maubot").returncode == 0
    assert fresh.source("choose_python; PYTHON_RELEASE=3.11.99; is_ready maubot").returncode == 1


def test_a_moved_one_does_not_count(fresh: Checkout) -> None:
    here, elsewhere = fresh.root / ".venv", fresh.root / "elsewhere"
    here.rename(elsewhere)
    moved = fresh.source("choose_python; is_ready maubot", TOGGLE_VENVS=str(elsewhere))
    elsewhere.rename(here)
    assert moved.returncode == 1
    assert fresh.source("choose_python; is_ready maubot").returncode == 0


def test_a_package_with_another_hash_is_refused_and_leaves_no_whole_environment(fresh: Checkout) -> None:
    forged = re.sub(r"sha256:[0-9a-f]{4}", "sha256:0000", entry("pluggy"))
    fresh.write("requirements/runtime.txt", forged)
    done = fresh.source(MAKE)
    assert done.returncode == 1
    assert "could not set up" in done.stderr.splitlines()[-1]
    assert fresh.source("choose_python; is_ready maubot").returncode == 1
    assert packages(fresh) == set()


def test_a_package_without_a_hash_is_refused(fresh: Checkout) -> None:
    fresh.write("requirements/runtime.txt", "pluggy==1.6.0\n")
    assert fresh.source(MAKE).returncode == 1


def test_one_that_was_interrupted_is_made_again(fresh: Checkout) -> None:
    kept = mark(fresh)
    fresh.write("requirements/runtime.txt", entry("pluggy"))
    interrupted = 'make_packages() { kill -KILL "$BASHPID"; }; '
    assert fresh.source(interrupted + MAKE).returncode == -9
    fresh.write("requirements/runtime.txt", entry("iniconfig"))
    assert "ready in" in fresh.source(MAKE).stderr
    assert not kept.exists()


def test_two_at_once_make_it_once(fresh: Checkout) -> None:
    fresh.write("requirements/runtime.txt", entry("pluggy"))
    command = ["/bin/bash", "-c", f'source "{fresh.root}/build.sh"; {MAKE}']
    runs = [
        subprocess.Popen(
            command, env=dict(fresh.environment), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
        )
        for _ in range(3)
    ]
    said = [run.communicate(timeout=120)[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0, 0], said
    assert sum(text.count("ready in") for text in said) == 1


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_names_packages_and_hashes_only(name: str) -> None:
    lines = [line for line in lock(name).splitlines() if line.strip() and not line.lstrip().startswith("#")]
    strange = [line for line in lines if not re.match(r"    --hash=sha256:|[a-z0-9-]+==\S+ (; .* )?\\$", line)]
    assert strange == []
    assert len(pinned(name)) == sum("==" in line.split(";")[0] for line in lines)


@pytest.mark.parametrize(("smaller", "larger"), [("runtime", "stack"), ("stack", "dev")])
def test_tests_run_on_what_production_gets(smaller: str, larger: str) -> None:
    assert pinned(smaller) <= pinned(larger)


def test_the_dependency_that_users_are_told_is_the_locked_one() -> None:
    told = re.search(
        r"^- kubernetes>=(\d+),<(\d+)$", (REPOSITORY / "maubot.yaml").read_text(encoding="utf-8"), re.MULTILINE
    )
    locked = next(version for name, version, _ in pinned("runtime") if name == "kubernetes")
    assert told
    assert int(told[1]) <= int(locked.split(".")[0]) < int(told[2])
