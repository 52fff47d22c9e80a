"""Renders: nothing is generated and the cluster is not asked, so two are identical and GitOps sees no change."""

from __future__ import annotations

import re

import pytest

from .chart import RELEASE, SOURCE, VALUES, Refused, environment, helm, parse, render, template

NOT_REPEATABLE = re.compile(
    r"\b(lookup|rand\w*|uuidv4|now|date|htpasswd|bcrypt|gen\w*(Cert|Key|CA)|genSignedCert|env|expandenv|getHostByName|"
    r"Release\.(IsInstall|IsUpgrade|Revision)|Capabilities)\b"
)


def fresh(values: str, *flags: str) -> str:
    """One more render, not a remembered one."""
    return helm("template", RELEASE, environment("TOGGLE_CHART"), f"--values={VALUES[values]}", *flags)


@pytest.mark.parametrize("values", VALUES)
def test_a_second_render_is_identical(values: str) -> None:
    assert fresh(values) == fresh(values)


@pytest.mark.parametrize("values", VALUES)
@pytest.mark.parametrize("flags", [("--is-upgrade",), ("--kube-version=1.29.0",), ("--kube-version=1.37.3",)])
def test_neither_upgrade_nor_the_clusters_version_makes_another(values: str, flags: tuple[str, ...]) -> None:
    assert fresh(values, *flags) == fresh(values)


def test_no_template_generates_or_asks() -> None:
    for path in sorted((SOURCE / "templates").rglob("*.*")):
        text = re.sub(r"\{\{-?\s*/\*.*?\*/\s*-?\}\}", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        found = [match[1] for action in re.findall(r"\{\{.*?\}\}", text) if (match := NOT_REPEATABLE.search(action))]
        assert found == [], path.name


def test_an_older_kubernetes_is_refused() -> None:
    with pytest.raises(Refused, match=r"1\.28"):
        fresh("minimal", "--kube-version=1.28.9")


@pytest.mark.parametrize("values", VALUES)
def test_helm_lint_has_nothing_to_say(values: str) -> None:
    said = helm("lint", environment("TOGGLE_CHART"), "--strict", f"--values={VALUES[values]}")
    assert "0 chart(s) failed" in said


def test_gitops_can_leave_the_test_out() -> None:
    left = render("minimal", {}, "--skip-tests")
    assert {"Pod"} == {each["kind"] for each in render("minimal")} - {each["kind"] for each in left}
    assert len(parse(template("minimal"))) == len(left) + 2
