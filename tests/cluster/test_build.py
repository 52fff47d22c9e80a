"""What is said where the node cannot be built or run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from .node.build import SOURCE

OLD_GO = "#!/bin/sh\necho go1.21.3\n"
AS_NOBODY = ("unshare", "--user", "--")
"""In a namespace that does not know root, a process is nobody, and can still read root's Python."""


def run(*command: str, before: Sequence[str] = (), **variables: str) -> tuple[int, str]:
    """The exit status and what is said on standard error."""
    environment: Mapping[str, str] = {**os.environ, **variables}
    words = (*before, sys.executable, "-m", "tests.cluster.node", *command)
    done = subprocess.run(words, env=environment, stderr=subprocess.PIPE, text=True, check=False)
    return done.returncode, done.stderr


@pytest.mark.parametrize(("program", "said"), [("", "not installed"), (OLD_GO, "this is Go 1.21.3")])
def test_without_a_new_go_one_sentence_says_so(tmp_path: Path, program: str, said: str) -> None:
    if program:
        (tmp_path / "go").write_text(program)
        (tmp_path / "go").chmod(0o755)
    status, text = run("build", PATH=str(tmp_path), XDG_CACHE_HOME=str(tmp_path))
    assert (status, len(text.splitlines())) == (1, 1)
    assert said in text
    assert not list(tmp_path.rglob("bin")), "a build that failed leaves nothing"


@pytest.mark.parametrize("command", ["down", "up"])
def test_others_than_root_are_told_so(tmp_path: Path, command: str) -> None:
    status, text = run(command, before=AS_NOBODY, TOGGLE_CLUSTER=str(tmp_path / "node"), XDG_CACHE_HOME=str(tmp_path))
    assert (status, len(text.splitlines())) == (1, 1)
    assert "root" in text
    assert "KUBECONFIG_FOR_TESTS" in text


@pytest.mark.parametrize("command", ["kubectl", "exec"])
def test_without_a_node_its_commands_say_how_to_start_it(command: str) -> None:
    status, text = run(command, "version", TOGGLE_CLUSTER="/nowhere")
    assert (status, text) == (1, "cluster: the cluster is not up: ./build.sh cluster up\n")


def test_all_that_kubernetes_consists_of_has_one_version() -> None:
    """Its modules are published apart, and are only right together."""
    lines = (SOURCE / "go.mod").read_text().splitlines()
    kubernetes = next(line.split()[1] for line in lines if line.strip().startswith("k8s.io/kubernetes "))
    replaced = {line.split()[-1] for line in lines if "=> k8s.io/" in line}
    assert replaced == {kubernetes.replace("v1.", "v0.")}
