"""Builds the cluster's programs from Go's module proxy, as go.mod pins them, once; knows nothing of how they run.

About twenty minutes on two cores the first time. The result is complete or absent: it is built under another name.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).parent
OWN = ("./coredns", "./policies", "./probe")
"""The programs whose main.go is ours; the others are the tools of go.mod."""
VERSION_PACKAGE = "k8s.io/component-base/version"
KUBERNETES = "k8s.io/kubernetes"
KWOK = "sigs.k8s.io/kwok"
GATEWAY_API = "sigs.k8s.io/gateway-api"
STAGES = tuple(f"kustomize/stage/{name}-*.yaml" for name in ("pod/fast/pod", "node/fast/node", "node/heartbeat/node"))
HTTP_ROUTES = "gateway.networking.k8s.io_httproutes.yaml"
MOVED = {"bin/server": "bin/etcd", "bin/probe": "probe/probe"}
"""What Go would call something else, or put somewhere else."""
LAYOUT = "3"
"""Of the directory that is built; another one is another directory."""


class BuildFailed(Exception):
    """The programs cannot be built here; one sentence."""


@dataclass(frozen=True)
class Programs:
    """The directory of what was built: bin/, kwok's stages/, the Gateway API's crds/, a root file system in probe/."""

    directory: Path

    def __getitem__(self, name: str) -> str:
        return str(self.directory / "bin" / name)

    @property
    def path(self) -> Path:
        return self.directory / "bin"

    @property
    def stages(self) -> list[Path]:
        return sorted((self.directory / "stages").iterdir())

    @property
    def http_routes(self) -> Path:
        """The CRD of the Gateway API's HTTPRoutes."""
        return self.directory / "crds" / HTTP_ROUTES

    @property
    def probe(self) -> Path:
        return self.directory / "probe"


def programs() -> Programs:
    """Where the programs are, or will be once `build` was called."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Programs(cache / "maubot-k8s-toggle" / "cluster" / fingerprint())


def fingerprint() -> str:
    """Of everything that the programs are made from, but for Go itself."""
    digest = hashlib.sha256(LAYOUT.encode())
    for file in ("go.mod", "go.sum", *(f"{package}/main.go" for package in OWN)):
        digest.update(hashlib.sha256((SOURCE / file).read_bytes()).digest())
    return digest.hexdigest()[:16]


def build() -> Programs:
    """Build what is not there yet.

    Raises:
        BuildFailed: there is no Go, it is too old, or it failed.
    """
    wanted = programs()
    if not wanted.directory.exists():
        unfinished = wanted.directory.with_name(f".{wanted.directory.name}.{os.getpid()}")
        try:
            _build(Programs(unfinished))
            _publish(unfinished, wanted.directory)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return wanted


def _publish(finished: Path, wanted: Path) -> None:
    try:
        finished.rename(wanted)
    except OSError:
        if not wanted.exists():  # else another build was faster
            raise


def _build(into: Programs) -> None:
    _check_go()
    module = _read_module()
    packages = [*OWN, *(tool["Path"] for tool in module["Tool"])]
    begun = time.monotonic()
    _say(f"building {len(packages)} programs with Go ...")
    _build_programs(packages, into, _linker_flags(_version(module, KUBERNETES)))
    _say(f"... built in {time.monotonic() - begun:.0f} s")
    _copy(KWOK, STAGES, into.directory / "stages")
    _copy(GATEWAY_API, (f"config/crd/standard/{HTTP_ROUTES}",), into.directory / "crds")


def _read_module() -> dict[str, Any]:
    module: dict[str, Any] = json.loads(_go("mod", "edit", "-json"))
    return module


def _version(module: dict[str, Any], path: str) -> str:
    return next(str(required["Version"]) for required in module["Require"] if required["Path"] == path)


def _check_go() -> None:
    """Before anything is read by an older Go, whose own words are less plain."""
    needed = re.findall(r"^go (\S+)$", (SOURCE / "go.mod").read_text(), re.MULTILINE)[0]
    here = _go("env", "GOVERSION", directory=Path("/")).strip().removeprefix("go")
    if _numbers(here) < _numbers(needed):
        raise BuildFailed(f"the cluster is built with Go {needed} or newer; this is Go {here}")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


def _linker_flags(version: str) -> str:
    """Without a stamped version a chart's `kubeVersion` refuses the cluster."""
    major, minor, _ = version.removeprefix("v").split(".", 2)
    values = {"gitVersion": version, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    return " ".join(["-s -w", *(f"-X {VERSION_PACKAGE}.{name}={value}" for name, value in values.items())])


def _build_programs(packages: Sequence[str], into: Programs, linker_flags: str) -> None:
    """All at once, so that no processor waits while one of them is linked."""
    into.path.mkdir(parents=True)
    with tempfile.TemporaryDirectory(dir=into.directory) as work:  # Go leaves gigabytes when it is killed
        _go("build", "-trimpath", "-ldflags", linker_flags, "-o", f"{into.path}/", *packages, GOTMPDIR=work)
    for here, there in MOVED.items():
        (into.directory / there).parent.mkdir(exist_ok=True)
        (into.directory / here).rename(into.directory / there)


def _copy(module: str, patterns: Sequence[str], directory: Path) -> None:
    """Copy the files of a module that these patterns name; Go compares the module with go.sum."""
    source = Path(json.loads(_go("mod", "download", "-json", module))["Dir"])
    directory.mkdir()
    for file in (file for pattern in patterns for file in source.glob(pattern)):
        shutil.copyfile(file, directory / file.name)


def _go(*arguments: str, directory: Path = SOURCE, **variables: str) -> str:
    """What go prints. It must not fetch another Go: what is installed is what is used."""
    fixed = {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "", "GOWORK": "off"}
    environment = {**os.environ, **fixed, **variables}
    try:
        done = subprocess.run(
            ("go", *arguments), cwd=directory, env=environment, stdout=subprocess.PIPE, text=True, check=False
        )
    except FileNotFoundError as error:
        raise BuildFailed("the cluster is built with Go, which is not installed: see https://go.dev/dl") from error
    if done.returncode:
        raise BuildFailed(f"go {arguments[0]} failed, see above")
    return done.stdout


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
