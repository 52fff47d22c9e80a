"""What people read: the chart's README, Chart.yaml, and the notes after an installation."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import yaml

from .chart import REPOSITORY, SOURCE, VALUES, environment, helm

ABOUT = yaml.safe_load((SOURCE / "Chart.yaml").read_text(encoding="utf-8"))


def notes(values: str) -> str:
    flags = (f"--values={VALUES[values]}", "--dry-run=client", "--render-subchart-notes")
    return helm("install", "rel", environment("TOGGLE_CHART"), *flags).partition("NOTES:")[2]


def test_the_readme_is_made_from_these_values() -> None:
    done = subprocess.run((sys.executable, SOURCE / "readme.py", "--check"), timeout=30, check=False)
    assert done.returncode == 0, "chart/README.md is not current: run ./build.sh chart"


def test_every_value_is_described() -> None:
    text = (SOURCE / "values.yaml").read_text(encoding="utf-8").splitlines()
    lines = [
        (number, line) for number, line in enumerate(text) if re.match(r" *[A-Za-z]+: [^{\n]|podSec|containerSec", line)
    ]
    nested = re.compile(
        r"^ {2,}(requests|limits|runAs\w+|fsGroup\w*|seccompProfile|allowPriv\w+|readOnlyRoot\w+|capabilities):"
    )
    bare = [line for number, line in lines if not nested.match(line) and not text[number - 1].strip().startswith("#")]
    assert bare == []


def test_the_chart_has_the_version_of_the_plugin() -> None:
    plugin = yaml.safe_load((REPOSITORY / "maubot.yaml").read_text(encoding="utf-8"))
    assert (ABOUT["version"], ABOUT["appVersion"]) == (plugin["version"], plugin["version"])
    assert ABOUT["annotations"]["artifacthub.io/license"] == plugin["license"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (
            "minimal",
            ["@toggle:example.org", "admin-password", "port-forward", "!toggle check", "recovery-key", "helm test"],
        ),
        ("existing-secret", ["!games check"]),
        ("everything", ["https://bots.example.org/_matrix/maubot"]),
        ("existing-maubot", ["matrix/maubot", "Upload the plugin"]),
        ("existing-maubot-upload", ["bots/maubot", "is being brought there", "helm test"]),
    ],
)
def test_the_notes_say_the_next_step(values: str, words: list[str]) -> None:
    said = notes(values)
    assert [word for word in words if word not in said] == []


def test_the_notes_hold_no_secret() -> None:
    assert "a-password" not in notes("minimal")
