"""The packed chart and what helm makes of it; knows helm, and nothing of what the objects mean."""

from __future__ import annotations

import functools
import json
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCE = REPOSITORY / "chart"
RELEASE, NAMESPACE = "rel", "bots"
VALUES = {path.name.removesuffix("-values.yaml"): path for path in sorted((SOURCE / "ci").glob("*-values.yaml"))}
"""The values files of the tests, by name."""

Object = Mapping[str, Any]


class Refused(Exception):
    """helm did not render; what it said."""


def environment(name: str) -> str:
    if name not in os.environ:
        pytest.exit(f"{name} is not set: run these tests with ./build.sh test tests/chart")
    return os.environ[name]


def helm(*arguments: str) -> str:
    """What a helm command prints. Raises `Refused` with the rest of its words."""
    done = subprocess.run(
        (environment("TOGGLE_HELM"), *arguments),
        env={**os.environ, "HELM_NAMESPACE": NAMESPACE},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode:
        raise Refused(done.stderr)
    return done.stdout


@functools.cache
def template(values: str, overrides: str = "{}", *flags: str) -> str:
    """The manifest for a values file of the tests, with `overrides` (a JSON mapping) over it."""
    flags = (f"--values={VALUES[values]}", f"--set-json={flat(json.loads(overrides))}", *flags)
    return helm("template", RELEASE, environment("TOGGLE_CHART"), *flags)


def flat(overrides: Mapping[str, Any]) -> str:
    """For --set-json: ``a.b=1,c={"d":2}``."""
    return ",".join(f"{path}={json.dumps(value)}" for path, value in overrides.items())


def render(values: str, overrides: Mapping[str, Any] | None = None, *flags: str) -> list[Object]:
    """The objects for a values file of the tests; an override's key is a path such as ``maubot.listen``."""
    return list(parse(template(values, json.dumps(overrides or {}), *flags)))


@functools.cache
def parse(manifest: str) -> Sequence[Object]:
    """Its objects, shared by all who ask: nobody may change them."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where PyYAML has it
    return [document for document in yaml.load_all(manifest, loader) if document]


def refusal(values: str, overrides: Mapping[str, Any]) -> str:
    """What helm says of values that it must refuse."""
    with pytest.raises(Refused) as refused:
        render(values, overrides)
    return str(refused.value)


def name_of(thing: Object) -> str:
    """For messages: ``Role demo/rel-maubot-k8s-toggle``."""
    return f"{thing['kind']} {thing['metadata'].get('namespace', NAMESPACE)}/{thing['metadata']['name']}"


def find(objects: list[Object], kind: str, name: str = "") -> Object:
    """The one object of a kind, with that name if there are several."""
    found = [each for each in objects if each["kind"] == kind and name in ("", each["metadata"]["name"])]
    assert len(found) == 1, f"{len(found)} objects are a {kind} {name}: {[name_of(each) for each in objects]}"
    return found[0]


def pods(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    """The name of each object that makes pods, and its pods' template; a bare pod is its own."""
    for each in objects:
        if each["kind"] == "Pod":
            yield name_of(each), each
        elif "template" in each.get("spec", {}):
            yield name_of(each), each["spec"]["template"]


def containers(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    """The name of each container with its owner's, and the container; those that run first too."""
    for owner, pod in pods(objects):
        for container in (*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]):
            yield f"{owner}, container {container['name']}", container


def container(objects: list[Object], name: str) -> Object:
    found = [each for _, each in containers(objects) if each["name"] == name]
    assert len(found) == 1, f"{len(found)} containers are called {name}"
    return found[0]


def variables(each: Object) -> dict[str, Any]:
    """A container's environment: its values, or where they come from."""
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in each.get("env", ())}


def settings(values: str) -> Object:
    """The instance's settings in a values file, as the plugin gets them."""
    raw = yaml.safe_load(VALUES[values].read_text(encoding="utf-8"))
    found: dict[str, Any] = raw["instance"]["settings"]
    for target in found["targets"].values():
        target.pop("resource", None)
    return found
