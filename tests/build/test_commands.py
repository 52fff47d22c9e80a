"""build.sh as a person, and as CI, meets it: help, mistakes, exit codes, what pytest and the demo are given."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from .conftest import REPOSITORY, Checkout

SUB_COMMANDS = (
    *("plugin", "chart", "test", "cluster", "demo", "lint"),
    *("format", "image", "lock", "clean", "help"),
)

PRINT_ARGUMENTS = "import json, os, sys\nprint(json.dumps([os.getcwd(), os.environ['TOGGLE_MBP'], sys.argv[1:]]))\n"


@pytest.mark.parametrize("asked", ["help", "--help", "-h"])
def test_help_has_one_line_for_each_sub_command(checkout: Checkout, asked: str) -> None:
    done = checkout.build(asked)
    described = {
        line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ") and len(line.split()) > 2
    }
    assert (done.returncode, done.stderr) == (0, "")
    assert described == set(SUB_COMMANDS)


@pytest.mark.parametrize("arguments", [("deploy",), ("plugin", "now"), ("lint", "-v"), ("lock", "--chekc")])
def test_a_mistake_is_one_line_that_helps(checkout: Checkout, arguments: tuple[str, ...]) -> None:
    done = checkout.build(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert arguments[0] in done.stderr
    assert "./build.sh help" in done.stderr


def test_no_sub_command_is_a_mistake_too(checkout: Checkout) -> None:
    done = checkout.build()
    assert (done.returncode, done.stdout) == (2, "")
    assert "plugin" in done.stderr


def test_it_works_from_any_directory(checkout: Checkout, tmp_path: Path) -> None:
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    done = checkout.build("plugin", cwd=elsewhere)
    assert done.returncode == 0, done.stderr
    assert len(list((checkout.root / "dist").iterdir())) == 1
    assert not list(elsewhere.iterdir())


CI_STUB = """\
#!/bin/bash
here=$(dirname "$0")
echo "$* [$(cat)]" >>"$here/calls"
case $* in
    test) until [[ -e $here/building ]]; do sleep 0.02; done; %s ;;
    "cluster build") echo $$ >"$here/building"; %s ;;
esac
"""
"""A build.sh whose tests begin when the build of the cluster has begun, and what both do then."""


def run_ci(root: Path, test: str, build: str) -> subprocess.CompletedProcess[str]:
    """.ci/run beside a build.sh that only plays."""
    (root / ".ci").mkdir()
    shutil.copy2(REPOSITORY / ".ci/run", root / ".ci/run")
    stub = root / "build.sh"
    stub.write_text(CI_STUB % (test, build))
    stub.chmod(0o755)
    return subprocess.run([root / ".ci/run"], input="x", capture_output=True, text=True, timeout=30, check=False)


def calls(root: Path) -> list[str]:
    """What .ci/run called; the first two are side by side."""
    first, second, *others = (root / "calls").read_text().splitlines()
    return [*sorted((first, second)), *others]


def test_ci_runs_the_tests_without_arguments_and_input_and_builds_the_cluster_beside_them(tmp_path: Path) -> None:
    done = run_ci(tmp_path, "echo tested", "echo built")
    assert (done.returncode, done.stdout, done.stderr) == (0, "tested\n", "")
    assert calls(tmp_path) == ["cluster build []", "test []", "cluster test []"]


def test_ci_ends_the_build_when_the_tests_fail(tmp_path: Path) -> None:
    done = run_ci(tmp_path, "exit 7", "exec sleep 60")
    assert (done.returncode, done.stdout, done.stderr) == (7, "", "")
    assert calls(tmp_path) == ["cluster build []", "test []"]
    assert not Path("/proc", (tmp_path / "building").read_text().strip()).exists()


def test_ci_shows_what_a_build_said_that_failed(tmp_path: Path) -> None:
    done = run_ci(tmp_path, "echo tested", "echo compiling; echo broken >&2; exit 3")
    assert (done.returncode, done.stdout, done.stderr) == (1, "tested\n", "compiling\nbroken\n")
    assert calls(tmp_path) == ["cluster build []", "test []"]


@pytest.mark.parametrize(
    ("test", "code"), [("def test_it(): pass", 0), ("def test_it(): assert 0", 1), ("", 5), ("import nothing_there", 2)]
)
def test_the_test_runner_has_the_last_word(checkout: Checkout, test: str, code: int) -> None:
    checkout.write("tests/test_it.py", test)
    done = checkout.build("test", "tests")
    assert done.returncode == code
    assert re.search(r" in \d+\.\d+s", done.stdout.splitlines()[-1])


def test_clusters_benchmarks_and_soaks_are_tested_only_by_name(checkout: Checkout) -> None:
    shutil.copy2(REPOSITORY / "pyproject.toml", checkout.root)
    for directory in ("unit", "build", "stack/cluster", "cluster", "bench", "soak"):
        checkout.write(f"tests/{directory}/test_{directory.replace('/', '_')}.py", "def test_it(): pass")
    everything = checkout.build("test", "--quiet")
    named = checkout.build("test", "--quiet", "tests/bench")
    assert "3 passed" in everything.stdout.splitlines()[-1]
    assert "1 passed" in named.stdout.splitlines()[-1]


RECORDED = """\
import os
from pathlib import Path

def test_it():
    with Path(__file__).with_suffix(".processes").open("a") as file:
        print(os.getpid(), file=file)

test_that = test_these = test_those = test_it
"""
"""Tests that write down which process ran them."""


def test_all_tests_run_side_by_side_those_of_a_file_in_one_process(checkout: Checkout) -> None:
    files = [checkout.write(f"tests/test_{name}.py", RECORDED) for name in ("one", "two", "three")]
    done = checkout.source("run_lint() { true; }; main test")
    assert "12 passed" in done.stdout.splitlines()[-1]
    ran = [set(file.with_suffix(".processes").read_text().split()) for file in files]
    assert [len(processes) for processes in ran] == [1, 1, 1]
    assert len(set.union(*ran)) > 1


def test_chosen_tests_run_one_after_the_other(checkout: Checkout) -> None:
    file = checkout.write("tests/test_it.py", RECORDED)
    done = checkout.build("test", "tests")
    assert "4 passed" in done.stdout.splitlines()[-1]
    assert "workers" not in done.stdout
    assert len(set(file.with_suffix(".processes").read_text().split())) == 1


def test_soak_runs_the_long_tests_alone_and_shows_their_figures(checkout: Checkout) -> None:
    checkout.write("tests/unit/test_unit.py", "def test_it(): pass")
    checkout.write("tests/soak/test_soak.py", "def test_idle(): print('figure: 1')\n\n\ndef test_flood(): pass\n")
    soak = checkout.build("test", "--soak")
    assert "2 passed" in soak.stdout.splitlines()[-1]
    assert "figure: 1" in soak.stdout
    selected = checkout.build("test", "--soak", "-k", "idle")
    assert "1 passed, 1 deselected" in selected.stdout.splitlines()[-1]
    assert "--soak" in checkout.build("help").stdout


def test_tests_without_arguments_begin_with_lint(checkout: Checkout) -> None:
    checkout.write("tests/test_it.py", "import os\n")
    done = checkout.build("test")
    assert done.returncode == 1
    assert "lint:" in done.stderr.splitlines()[-1]
    assert "test session starts" not in done.stdout


def test_the_demo_gets_its_arguments_and_the_callers_files(checkout: Checkout, tmp_path: Path) -> None:
    checkout.write("tests/stack/demo.py", PRINT_ARGUMENTS)
    done = checkout.build("demo", "--script", "status; start", "--kubeconfig", "my cluster", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    cwd, plugin, arguments = json.loads(done.stdout)
    assert Path(cwd) == checkout.root.resolve()
    assert plugin == str(checkout.root.resolve() / "dist/org.example.tiny-v1.2.3.mbp")
    assert arguments == ["--script", "status; start", "--kubeconfig", str(tmp_path / "my cluster")]


@pytest.mark.parametrize(
    ("given", "handed_on"),
    [
        (["--kubeconfig=file"], ["--kubeconfig={cwd}/file"]),
        (["--kubeconfig", "/etc/file", "--context", "x"], ["--kubeconfig", "/etc/file", "--context", "x"]),
        ([], []),
    ],
)
def test_relative_files_are_the_callers(
    checkout: Checkout, tmp_path: Path, given: list[str], handed_on: list[str]
) -> None:
    checkout.write("tests/stack/demo.py", PRINT_ARGUMENTS)
    done = checkout.build("demo", *given, cwd=tmp_path)
    assert json.loads(done.stdout)[2] == [argument.format(cwd=tmp_path) for argument in handed_on]


def test_clean_removes_what_was_made_and_nothing_else(checkout: Checkout) -> None:
    own = Checkout(checkout.root, {name: value for name, value in os.environ.items() if name != "TOGGLE_VENVS"})
    before = sorted(checkout.root.rglob("*"))
    made = (
        ".venv/dev/bin/x",
        "dist/x.mbp",
        ".mypy_cache/x",
        ".ruff_cache/x",
        ".pytest_cache/x",
        "tiny/__pycache__/x.pyc",
    )
    for path in made:
        own.write(path, "")
    assert own.build("clean").returncode == 0
    assert sorted(checkout.root.rglob("*")) == before


def test_clean_spares_what_others_keep_beside_the_environments(checkout: Checkout, tmp_path: Path) -> None:
    shared = Checkout(checkout.root, {**os.environ, "TOGGLE_VENVS": str(tmp_path / "shared")})
    for path in ("shared/dev/bin/x", "shared/mine/x"):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).touch()
    assert shared.build("clean").returncode == 0
    assert [path.name for path in (tmp_path / "shared").iterdir()] == ["mine"]
