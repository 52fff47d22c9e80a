"""Labels and names: every object is found by them; what changes with the chart's version is on no pod and no claim."""

from __future__ import annotations

import re

from .chart import NAMESPACE, RELEASE, Object, find, name_of, pods, render

COMMON = {
    "app.kubernetes.io/instance": RELEASE,
    "app.kubernetes.io/managed-by": "Helm",
    "app.kubernetes.io/part-of": "maubot-k8s-toggle",
}
STABLE = {"app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/component"}


def ours(objects: list[Object]) -> list[Object]:
    return [each for each in objects if each["metadata"]["name"] not in ("extra", "rel-second")]


def test_every_object_has_the_common_labels(objects: list[Object]) -> None:
    for each in ours(objects):
        labels = each["metadata"]["labels"]
        assert COMMON.items() <= labels.items(), name_of(each)
        assert STABLE | {"helm.sh/chart", "app.kubernetes.io/version"} <= set(labels), name_of(each)


def test_every_object_names_its_namespace(objects: list[Object]) -> None:
    for each in ours(objects):
        targets = {"demo", "games"} if each["kind"] in ("Role", "RoleBinding") else set()
        assert each["metadata"].get("namespace") in {NAMESPACE, *targets}, name_of(each)


def test_no_two_objects_are_the_same(objects: list[Object]) -> None:
    names = [name_of(each) for each in objects]
    assert sorted(set(names)) == sorted(names)


def test_pods_and_claims_have_only_labels_that_stay() -> None:
    objects = render("minimal")
    for owner, pod in pods(objects):
        if not owner.startswith("Pod "):
            assert set(pod["metadata"]["labels"]) == STABLE, owner
    (claim,) = find(objects, "StatefulSet")["spec"]["volumeClaimTemplates"]
    assert set(claim["metadata"]["labels"]) == STABLE


def test_selectors_select_their_own_pods_and_stay(objects: list[Object]) -> None:
    for each in objects:
        if each["kind"] in ("StatefulSet", "Deployment"):
            selector = each["spec"]["selector"]["matchLabels"]
            assert set(selector) == STABLE, name_of(each)
            assert selector.items() <= each["spec"]["template"]["metadata"]["labels"].items(), name_of(each)
    components = [pod["metadata"]["labels"]["app.kubernetes.io/component"] for _, pod in pods(objects)]
    assert sorted(set(components)) == sorted(components)


def test_labels_of_the_values_are_on_every_object_and_pod() -> None:
    objects = render("everything")
    for each in ours(objects):
        assert each["metadata"]["labels"]["example.org/team"] == "games", name_of(each)
    for owner, pod in pods(objects):
        assert pod["metadata"]["labels"]["example.org/team"] == "games", owner
    (claim,) = find(objects, "StatefulSet")["spec"]["volumeClaimTemplates"]
    assert "example.org/team" not in claim["metadata"]["labels"], "a claim template cannot change"


def test_labels_and_annotations_of_the_values_reach_their_pod() -> None:
    for owner, pod in pods(render("everything")):
        wanted = {"StatefulSet": "maubot", "Deployment": "provisioner"}.get(owner.split()[0])
        assert pod["metadata"]["labels"].get("example.org/pod") == wanted, owner
        assert pod["metadata"]["annotations"].get("example.org/pod") == wanted, owner


def test_the_longest_names_fit() -> None:
    long = "a" * 53
    for each in render("minimal", {"fullnameOverride": long}) + render(
        "existing-maubot-upload", {"nameOverride": long}
    ):
        assert len(each["metadata"]["name"]) <= 63, name_of(each)
        for value in each["metadata"]["labels"].values():
            assert re.fullmatch(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", value), name_of(each)


def test_extra_objects_are_part_of_the_release() -> None:
    objects = render("everything")
    assert find(objects, "ConfigMap", "extra")["data"] == {"release": RELEASE}
    assert find(objects, "ConfigMap", "rel-second")
