"""Restarts: a pod is made anew when, and only when, what it read at its start has changed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from .chart import RELEASE, SOURCE, VALUES, Object, find, helm, parse, render

BOTH, MAUBOT, PROVISIONER, NEITHER = {"StatefulSet", "Deployment"}, {"StatefulSet"}, {"Deployment"}, set[str]()


def restarted(before: list[Object], after: list[Object]) -> set[str]:
    return {kind for kind in BOTH if find(before, kind)["spec"]["template"] != find(after, kind)["spec"]["template"]}


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({}, NEITHER),
        ({"instance.settings.targets.api": {"namespace": "demo", "name": "api"}}, PROVISIONER),
        ({"instance.settings.allowed_users": ["@bob:example.org"]}, PROVISIONER),
        ({"instance.manage": "reconcile"}, PROVISIONER),
        ({"bot.password": "another"}, PROVISIONER),
        ({"bot.recoveryKey": "EsTx"}, PROVISIONER),
        ({"rbac.diagnosis": False}, NEITHER),
        ({"networkPolicy.enabled": False}, NEITHER),
        ({"maubot.service.annotations": {"a": "b"}}, NEITHER),
        ({"maubot.persistence.size": "2Gi"}, NEITHER),
        ({"upload.url": "http://unused"}, NEITHER),
        ({"maubot.logLevel": "DEBUG"}, MAUBOT),
        ({"maubot.publicUrl": "https://bots.example.org"}, MAUBOT),
        ({"maubot.database.url": "postgresql://a:b@c/d"}, MAUBOT),
        ({"homeserver.url": "https://other.example.org"}, BOTH),
        ({"maubot.image.tag": "v0.6.1"}, BOTH),
    ],
)
def test_what_a_changed_value_restarts(overrides: dict[str, Any], expected: set[str]) -> None:
    assert restarted(render("minimal"), render("minimal", overrides)) == expected


def test_another_password_of_the_database_restarts_maubot() -> None:
    one = render("postgres", {"maubot.database.url": "postgresql://a:one@c/d"})
    other = render("postgres", {"maubot.database.url": "postgresql://a:two@c/d"})
    assert restarted(one, other) == MAUBOT


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The chart's source, to be changed."""
    return Path(shutil.copytree(SOURCE, tmp_path / "maubot-k8s-toggle"))


def of(chart: Path) -> list[Object]:
    return list(parse(helm("template", RELEASE, str(chart), f"--values={VALUES['minimal']}")))


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("plugin.mbp", PROVISIONER),
        ("provision.py", PROVISIONER),
        ("apis.py", PROVISIONER),
        ("bot.py", PROVISIONER),
        ("start.py", MAUBOT),
        ("install.py", MAUBOT),
        ("requirements.txt", MAUBOT),
        ("check.py", NEITHER),
    ],
)
def test_what_a_changed_file_restarts(copy: Path, file: str, expected: set[str]) -> None:
    before = of(copy)
    with (copy / "files" / file).open("ab") as opened:
        opened.write(b"\n# changed\n")
    assert restarted(before, of(copy)) == expected


def test_another_version_of_the_chart_restarts_nothing(copy: Path) -> None:
    before, about = of(copy), copy / "Chart.yaml"
    text = about.read_text(encoding="utf-8")
    about.write_text(text.replace("ersion: 0.1.0", "ersion: 9.9.9"), encoding="utf-8")
    after = of(copy)
    assert find(after, "StatefulSet")["metadata"]["labels"]["app.kubernetes.io/version"] == "9.9.9"
    assert restarted(before, after) == NEITHER


def test_what_cannot_change_stays_with_another_version(copy: Path) -> None:
    before, about = of(copy), copy / "Chart.yaml"
    about.write_text(about.read_text(encoding="utf-8").replace("ersion: 0.1.0", "ersion: 9.9.9"), encoding="utf-8")
    one, other = (find(objects, "StatefulSet")["spec"] for objects in (before, of(copy)))
    for key in ("selector", "serviceName", "podManagementPolicy", "volumeClaimTemplates"):
        assert one[key] == other[key], key


def test_a_changed_upload_is_another_job() -> None:
    one, other = render("existing-maubot-upload"), render("existing-maubot-upload", {"upload.url": "http://other:1"})
    names = {find(objects, "Job")["metadata"]["name"] for objects in (one, other)}
    assert len(names) == 2
    assert find(render("existing-maubot-upload", {"rbac.diagnosis": False}), "Job")["metadata"]["name"] in names


def test_the_tests_have_the_chart_that_is_packed() -> None:
    assert render("minimal") == of(SOURCE)
