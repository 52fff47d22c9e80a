"""docs/: the values that they show render, and the objects that they name are made."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from . import test_objects, test_security
from .chart import REPOSITORY, VALUES, Object, containers, environment, find, helm, parse

NAME, NAMESPACE = "bot", "bots"
"""The docs' release."""
FULLNAME = f"{NAME}-maubot-k8s-toggle"
DOCS = REPOSITORY / "docs"


def examples() -> list[dict[str, Any]]:
    """The values in docs/install.md."""
    text = (DOCS / "install.md").read_text(encoding="utf-8")
    return [yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)]


def rendered(*files: Path) -> list[Object]:
    """What the docs' release is with these values, the later ones over the others. Unknown ones are refused."""
    flags = (f"--namespace={NAMESPACE}", *(f"--values={file}" for file in files))
    return list(parse(helm("template", NAME, environment("TOGGLE_CHART"), *flags)))


def below(example: dict[str, Any]) -> Path:
    """The values that an example goes over: each shows only what it is about."""
    existing = "upload" in example or not example.get("maubot", {}).get("enabled", True)
    return VALUES["existing-maubot" if existing else "minimal"]


@pytest.mark.parametrize("example", examples())
def test_the_values_that_are_shown_render(example: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(example), encoding="utf-8")
    assert rendered(below(example), file)


def test_examples_are_found() -> None:
    assert len(examples()) >= 7


def test_the_objects_that_are_named_are_made() -> None:
    objects = rendered(VALUES["minimal"])
    stateful = find(objects, "StatefulSet")
    (claim,) = (template["metadata"]["name"] for template in stateful["spec"]["volumeClaimTemplates"])
    made = {each["metadata"]["name"] for each in objects} | {f"{FULLNAME}-0", f"{claim}-{FULLNAME}-0"}
    for page in DOCS.glob("*.md"):
        named = set(re.findall(rf"[a-z-]*{FULLNAME}[a-z0-9-]*", page.read_text(encoding="utf-8")))
        assert named <= made, page.name
    assert {each["name"] for _, each in containers(objects)} == {"maubot", "install", "provisioner", "check"}


def test_the_pod_that_puts_a_backup_back_passes_pod_security_restricted(tmp_path: Path) -> None:
    text = (DOCS / "operations.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^   ```yaml\n(.*?)^   ```", text, re.MULTILINE | re.DOTALL)
    pod = yaml.safe_load(block)
    test_security.test_pods_pass_pod_security_restricted([pod])
    test_security.test_containers_pass_pod_security_restricted([pod])
    assert test_objects.validate([pod], tmp_path).returncode == 0


def test_helm_test_counts_as_the_docs_say() -> None:
    checked = find(rendered(VALUES["minimal"]), "ConfigMap", f"{FULLNAME}-test")["data"]["check.json"]
    text = (DOCS / "install.md").read_text(encoding="utf-8")
    assert f"check: all {len(json.loads(checked)['rights'])} rights are there; the bot is ready" in text
