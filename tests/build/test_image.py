"""Which program builds the image, and what it is told; whether it can really be built, tests/cluster shows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .conftest import REPOSITORY, Checkout

CLIENT_WITHOUT_ENGINE = '#!/bin/sh\n[ "$1" = --version ]\n'
RECORDER = '#!/bin/sh\n[ "$1" = info ] || printf "%s\\n" "$@" >"$0.arguments"\n'


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """The folder that all of docker, podman and buildah are looked for in."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for name in ("bash", "sed", "dirname", "env"):
        (folder / name).symlink_to(f"/usr/bin/{name}")
    return folder


def program(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)


def told(folder: Path, name: str) -> list[str]:
    return (folder / f"{name}.arguments").read_text().splitlines()


def image(checkout: Checkout, folder: Path, *arguments: str) -> tuple[int, str, list[str]]:
    script = "run_image " + " ".join(json.dumps(argument) for argument in arguments)
    done = checkout.source(script, PATH=str(folder))
    return done.returncode, done.stdout, done.stderr.splitlines()


def test_none_that_works_is_one_sentence(checkout: Checkout, programs: Path) -> None:
    program(programs, "docker", CLIENT_WITHOUT_ENGINE)
    code, result, said = image(checkout, programs)
    assert (code, result, len(said)) == (1, "", 1)
    assert "none of docker, podman and buildah works here" in said[0]


def test_a_client_without_an_engine_is_passed_over(checkout: Checkout, programs: Path) -> None:
    program(programs, "docker", CLIENT_WITHOUT_ENGINE)
    program(programs, "buildah", RECORDER)
    code, result, _ = image(
        checkout, programs, "--base", "example.org/maubot@sha256:00", "--tag", "own:1", "--pull-always"
    )
    assert (code, result) == (0, "own:1\n")
    assert told(programs, "buildah") == [
        *("build", "--file", str(checkout.root / "Dockerfile"), "--tag", "own:1"),
        *("--build-arg", "BASE=example.org/maubot@sha256:00", "--pull-always", str(checkout.root)),
    ]


def test_its_tag_is_the_plugins_version(checkout: Checkout, programs: Path) -> None:
    program(programs, "podman", RECORDER)
    assert image(checkout, programs)[:2] == (0, "maubot-k8s-toggle:1.2.3\n")


def test_a_name_that_was_forgotten_is_a_mistake(checkout: Checkout, programs: Path) -> None:
    program(programs, "podman", RECORDER)
    code, result, said = image(checkout, programs, "--tag")
    assert (code, result, len(said)) == (2, "", 1)


def test_a_build_that_fails_is_said_last(checkout: Checkout, programs: Path) -> None:
    program(programs, "podman", '#!/bin/sh\n[ "$1" = info ] || { echo oh no; exit 7; }\n')
    code, result, said = image(checkout, programs)
    assert (code, result) == (1, "")
    assert said[-1] == "build.sh: no image: podman failed; see above."


def test_only_the_list_of_packages_is_sent_to_the_builder() -> None:
    """A secret in the checkout cannot get into a layer."""
    rules = (REPOSITORY / ".dockerignore").read_text().split()
    copied = [
        line.split()[1] for line in (REPOSITORY / "Dockerfile").read_text().splitlines() if line.startswith("COPY")
    ]
    assert rules == ["*", *(f"!{path}" for path in copied)]
